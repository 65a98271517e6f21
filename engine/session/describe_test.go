package session

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestDescribeIsWhatIsStored: what an event is described by is what the codec stores, field for field, in its order.
func TestDescribeIsWhatIsStored(t *testing.T) {
	for _, e := range kindsOfEvents() {
		sample(reflect.ValueOf(e).Elem(), "")
		details := Describe(e)
		stored := parse(t, AppendEvent(nil, e))[2:]
		// A field that is a struct may be stored as an array of its own: it is described flat.
		if len(stored) != len(details) {
			t.Errorf("%s: %d fields are stored and %d described", e.Type(), len(stored), len(details))
			continue
		}
		names := map[string]bool{}
		for i, d := range details {
			if names[d.Name] {
				t.Errorf("%s has two fields %s", e.Type(), d.Name)
			}
			names[d.Name] = true
			sameAsStored(t, string(e.Type())+"."+d.Name, reflect.ValueOf(d.Value), stored[i])
		}
		if details[0].Name != "at" || details[1].Name != "user" {
			t.Errorf("%s begins with %s, %s", e.Type(), details[0].Name, details[1].Name)
		}
	}
}

// sameAsStored compares a described value with the element that the codec wrote for it.
func sameAsStored(t *testing.T, where string, value reflect.Value, element any) {
	t.Helper()
	number := func() (n uint64, ok bool) {
		if r := reflect.ValueOf(element); r.CanInt() {
			return uint64(r.Int()), true
		} else if r.CanUint() {
			return r.Uint(), true
		}
		return 0, false
	}
	same := false
	switch value.Kind() {
	case reflect.String:
		same = element == value.String()
	case reflect.Bool:
		same = element == value.Bool()
	case reflect.Int64:
		n, ok := number()
		same = ok && int64(n) == value.Int()
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		n, ok := number()
		same = ok && n == value.Uint()
	case reflect.Array:
		bytes, ok := element.([]byte)
		same = ok && len(bytes) == value.Len() && reflect.DeepEqual(bytes, arrayBytes(value))
	case reflect.Slice:
		if bytes, ok := element.([]byte); ok {
			same = reflect.DeepEqual(bytes, value.Interface())
			break
		}
		items, ok := element.([]any)
		same = ok && len(items) == value.Len()
		for i := 0; same && i < len(items); i++ {
			if value.Index(i).Kind() == reflect.Struct {
				same = len(items[i].([]any)) == value.Index(i).NumField()
				continue
			}
			sameAsStored(t, where, value.Index(i), items[i].([]any)[0])
		}
	}
	if !same {
		t.Errorf("%s is described as %v and stored as %v", where, value, element)
	}
}

func arrayBytes(v reflect.Value) []byte {
	bytes := make([]byte, v.Len())
	reflect.Copy(reflect.ValueOf(bytes), v)
	return bytes
}

// TestDetailsAsJSON: an object by name, in order, with nothing left out, and no whole hash.
func TestDetailsAsJSON(t *testing.T) {
	e := &SessionStarted{Header: Header{begin, "alice"}, Session: SessionID{1}, Venue: Zenith, Client: "a\"<b>\xff", Idle: 90 * time.Second,
		Access: HashToken("a token"), Until: Forever, Scopes: []string{"read", "trade"}}
	text, err := json.Marshal(Describe(e))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), `{"at":"`) {
		t.Errorf("the object begins with %.20s", text)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"user": "alice", "session": "01000000-0000-0000-0000-000000000000", "venue": "zenith", "idle": 90.0,
		"until": "forever", "access_until": nil, "refresh": nil, "bound": false, "client": "a\"<b>\ufffd", "scopes": []any{"read", "trade"}}
	for name, value := range want {
		if !reflect.DeepEqual(got[name], value) {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if hash, _ := got["access"].(string); len(hash) != 2*shownOfHash {
		t.Errorf("of the hash %q is shown", got["access"])
	}
	if n := len(Describe(e)); n != len(got) {
		t.Errorf("%d fields are described and %d in the object", n, len(got))
	}
	defined := &ResourceDefined{Resource: Resource{Name: "R", Kind: DataServer, Fields: []Field{{Name: "PRICE", Type: "DOUBLE", Nullable: true}}}}
	if text, err = json.Marshal(Describe(defined)); err != nil || !strings.Contains(string(text), `"resource_kind":"DATASERVER"`) ||
		!strings.Contains(string(text), `"resource_fields":[{"name":"PRICE","type":"DOUBLE"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestDetailsAsText: every field of every event has a text, and one that is not set has none.
func TestDetailsAsText(t *testing.T) {
	for _, e := range kindsOfEvents() {
		for _, d := range Describe(e) {
			if text := d.Text(); text != "" && text != "false" {
				t.Errorf("%s.%s, not set, is %q", e.Type(), d.Name, text)
			}
		}
		sample(reflect.ValueOf(e).Elem(), "")
		for _, d := range Describe(e) {
			if d.Text() == "" {
				t.Errorf("%s.%s has no text for %v", e.Type(), d.Name, d.Value)
			}
		}
	}
	ended := Describe(&SessionEnded{Header: Header{begin, "alice"}, Session: SessionID{2}, Reason: Reused})
	if got, _ := ended.Get("reason").(EndReason); got != Reused || ended.Get("reasons") != nil {
		t.Errorf("the reason is %v", got)
	}
	if text := ended[len(ended)-1].Text(); text != "reuse" {
		t.Errorf("the reason reads %q", text)
	}
}

// TestWhose: the start of an event is read alike, whatever the event.
func TestWhose(t *testing.T) {
	for _, e := range kindsOfEvents() {
		sample(reflect.ValueOf(e).Elem(), "")
		want, _ := Describe(e).Get("user").(UserID)
		data := AppendEvent(nil, e)
		if got, err := Whose(data); err != nil || got != want {
			t.Errorf("%s is %q's, and reads %q, %v", e.Type(), want, got, err)
		}
		tree := parse(t, data)
		tree[0] = 99
		if got, err := Whose(build(t, tree)); err != nil || got != want {
			t.Errorf("a kind of event that is not known reads %q, %v", got, err)
		}
		for cut := range 8 {
			if _, err := Whose(data[:cut]); !errors.Is(err, ErrUndecodable) {
				t.Errorf("%s cut to %d bytes: %v", e.Type(), cut, err)
			}
		}
	}
}
