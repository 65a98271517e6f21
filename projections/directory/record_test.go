package directory

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"rollbook/engine/session"
)

func sample() Record {
	at := time.Date(2026, 11, 1, 12, 0, 0, 1, time.UTC)
	return Record{
		User: "u-1", Names: []string{"jane", "jane@example.com"}, Verifier: phcGoldens[0].verifier, Credential: 7,
		Venues: []session.Venue{session.Genesis, session.Zenith}, First: "Jane", Last: "Dee", Scopes: []string{"trade"},
		Created: at, Changed: at.Add(time.Hour),
	}
}

// sampleStored is the stored form, which later programs must read for ever.
const sampleStored = `{"changed":"2026-11-01T13:00:00.000000001Z","created":"2026-11-01T12:00:00.000000001Z","credential":7,` +
	`"first":"Jane","last":"Dee","names":["jane","jane@example.com"],"scopes":["trade"],"user":"u-1","venues":["genesis","zenith"],` +
	`"verifier":"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4","version":1}`

func TestRecordStoredForm(t *testing.T) {
	t.Parallel()
	record := sample()
	data, err := record.encode()
	must(t, err)
	if string(data) != sampleStored {
		t.Errorf("stored as\n%s\nwant\n%s", data, sampleStored)
	}
	back, keys, hashed, err := decodeRecord("u-1", data)
	must(t, err)
	if !reflect.DeepEqual(back, record) || len(keys) != 2 || hashed == nil {
		t.Errorf("%+v comes back as %+v with %d keys", record, back, len(keys))
	}
	// No field is forgotten, in reading or in writing.
	if n, fields := reflect.TypeFor[Record]().NumField()-1, len(record.fields(new(int), new([]string))); fields != n+1 { // but unknown; and version
		t.Errorf("%d stored fields for %d of the type", fields, n)
	}
}

// TestRecordUnknownFields: what a newer program wrote beside the known fields survives a change by this one.
func TestRecordUnknownFields(t *testing.T) {
	t.Parallel()
	newer := strings.Replace(sampleStored, `{"changed"`, `{"Names":"of another case","badge":{"no":[1,2]},"changed"`, 1)
	record, _, _, err := decodeRecord("u-1", []byte(newer))
	must(t, err)
	record = record.clone()
	record.First = "Joan"
	data, err := record.encode()
	must(t, err)
	if want := strings.Replace(newer, "Jane", "Joan", 1); string(data) != want {
		t.Errorf("stored as\n%s\nwant\n%s", data, want)
	}
}

func TestRecordUnreadable(t *testing.T) {
	t.Parallel()
	swap := func(old, now string) string {
		if !strings.Contains(sampleStored, old) {
			t.Fatalf("%s is not in the sample", old)
		}
		return strings.Replace(sampleStored, old, now, 1)
	}
	for name, data := range map[string]string{
		"nothing": "", "null": "null", "a list": "[]", "half": sampleStored[:100], "more": sampleStored + "x",
		"a newer version": swap(`"version":1`, `"version":2`), "no version": swap(`,"version":1`, ``),
		"another user's": swap(`"u-1"`, `"u-2"`), "an impossible user": swap(`"u-1"`, `"u 1"`),
		"no names": swap(`["jane","jane@example.com"]`, `[]`), "a bad name": swap(`"jane",`, `"jane dee",`),
		"twice the same name": swap(`"jane",`, `"JANE@example.com",`), "names of another type": swap(`["jane","jane@example.com"]`, `"jane"`),
		"a bad verifier": swap("m=256", "m=999999"), "an unknown venue": swap(`"zenith"`, `"moon"`),
		"no generation": swap(`"credential":7,`, ``), "a negative generation": swap(`:7`, `:-7`),
		"too long": swap("Dee", strings.Repeat("e", maxRecord)),
	} {
		_, _, _, err := decodeRecord("u-1", []byte(data))
		if !errors.Is(err, ErrUnreadable) {
			t.Errorf("%s: error %v, want ErrUnreadable", name, err)
		} else if strings.Contains(strings.ToLower(err.Error()), "jane") || strings.Contains(err.Error(), "c29tZ") {
			t.Errorf("%s: the error shows what is stored: %v", name, err)
		}
	}
}

func TestRecordNotStored(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Record){
		"a hidden verifier": func(r *Record) { r.Verifier = Hidden },
		"no names":          func(r *Record) { r.Names = nil },
		"no generation":     func(r *Record) { r.Credential = 0 },
		"no venue":          func(r *Record) { r.Venues = []session.Venue{session.NoVenue} },
		"an unknown venue":  func(r *Record) { r.Venues = []session.Venue{99} },
		"no user":           func(r *Record) { r.User = "" },
		"too long":          func(r *Record) { r.Last = strings.Repeat("e", maxRecord) },
	} {
		record := sample()
		spoil(&record)
		if data, err := record.encode(); err == nil {
			t.Errorf("%s: stored as %s", name, data)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(sampleStored))
	f.Add([]byte(`{"erased":"2026-11-01T12:00:00Z","user":"u-1","version":1}`))
	f.Add([]byte(`{"version":1,"user":"u-1","venues":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, _, _, err := decodeRecord("u-1", data)
		if err != nil {
			if !errors.Is(err, ErrUnreadable) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := record.encode()
		if err != nil {
			if !strings.Contains(err.Error(), "the record takes more than") { // all else has been checked
				t.Fatalf("what was read cannot be written: %v\n%s", err, data)
			}
			return
		}
		back, _, _, err := decodeRecord("u-1", again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
		if third, _ := back.encode(); string(third) != string(again) || !json.Valid(again) {
			t.Fatalf("two forms of one record:\n%s\n%s", again, third)
		}
	})
}
