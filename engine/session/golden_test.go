package session

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goldens = "../../testdata/wire/book"

// TestGoldens holds the stored forms. Each file has one line of hex for every form that a version of the program wrote,
// the oldest first. Every line decodes for ever; the last one is what is written today. With -update a form that has
// changed is added: none is ever replaced.
func TestGoldens(t *testing.T) {
	all := stored()
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(goldens, name+".hex")
			today := hex.EncodeToString(encode(want))
			lines := readLines(t, file)
			if *update && (len(lines) == 0 || lines[len(lines)-1] != today) {
				lines = append(lines, today)
				if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if len(lines) == 0 {
				t.Fatalf("%s does not exist: run make golden", file)
			}
			if lines[len(lines)-1] != today {
				t.Errorf("what is written today differs from the last line of %s\n got %s\nwant %s", file, today, lines[len(lines)-1])
			}
			for i, line := range lines {
				data, err := hex.DecodeString(line)
				if err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
				got, err := decode(want, data)
				if err != nil {
					t.Errorf("line %d does not decode any more: %v", i+1, err)
					continue
				}
				if i == len(lines)-1 {
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("the last line decodes to something else:\n%s", diff)
					}
				} else if field := beyond(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem(), ""); field != "" {
					t.Errorf("line %d decodes to something else: %s", i+1, field)
				}
			}
		})
	}
	files, err := filepath.Glob(goldens + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name, isHex := strings.CutSuffix(filepath.Base(file), ".hex")
		if isHex && all[name] == nil {
			t.Errorf("%s is a golden of nothing: a kind that was stored once must decode for ever", file)
		}
	}
}

// TestKindsAreStable: the numbers and names that are stored are these.
func TestKindsAreStable(t *testing.T) {
	want := []EventType{"UserRegistered", "UserDisabled", "UserEnabled", "UserUnlocked", "UserLocked", "CredentialChanged",
		"LoginRejected", "SessionStarted", "SessionRefreshed", "SessionTouched", "SessionEnded", "SessionsRevoked", "OneTimeIssued",
		"OneTimeRedeemed", "ResourceDefined", "ResourceRemoved"}
	var got []EventType
	for i, e := range kindsOfEvents() {
		got = append(got, e.Type())
		if e.kind() != uint64(i+1) {
			t.Errorf("%s is made for number %d, and stored as %d", e.Type(), i+1, e.kind())
		}
		if reflect.TypeOf(e).Elem().Name() != string(e.Type()) {
			t.Errorf("%T calls itself %s", e, e.Type())
		}
	}
	if diff := cmp.Diff(want, got[:min(len(want), len(got))]); diff != "" {
		t.Errorf("the stored numbers have changed their meaning:\n%s", diff)
	}
	for _, c := range kindsOfCommands() {
		if newCommand(c.Verb()) == nil || reflect.TypeOf(newCommand(c.Verb())) != reflect.TypeOf(c) {
			t.Errorf("the verb %s makes another command", c.Verb())
		}
	}
	if newCommand(VerbExpire) != nil {
		t.Error("expire travels, and is the writer's own")
	}
}

func readLines(t *testing.T, file string) []string {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// beyond finds a field of an old form that is neither missing nor what the sample has.
func beyond(old, now reflect.Value, path string) string {
	switch {
	case old.IsZero():
		return ""
	case old.Kind() == reflect.Struct:
		for i := range old.NumField() {
			if found := beyond(old.Field(i), now.Field(i), path+"."+old.Type().Field(i).Name); found != "" {
				return found
			}
		}
		return ""
	case old.Kind() == reflect.Slice && old.Len() == now.Len():
		for i := range old.Len() {
			if found := beyond(old.Index(i), now.Index(i), path+"[]"); found != "" {
				return found
			}
		}
		return ""
	case reflect.DeepEqual(old.Interface(), now.Interface()):
		return ""
	}
	return path
}

// TestSamplesAreFull: a golden that leaves a field zero would not hold its place.
func TestSamplesAreFull(t *testing.T) {
	for name, x := range stored() {
		var empty func(v reflect.Value, path string)
		empty = func(v reflect.Value, path string) {
			if v.IsZero() {
				t.Errorf("%s: %s is zero", name, path)
			}
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					empty(v.Field(i), path+"."+v.Type().Field(i).Name)
				}
			case reflect.Slice:
				for i := range v.Len() {
					empty(v.Index(i), path+"[]")
				}
			}
		}
		empty(reflect.ValueOf(x).Elem(), "")
	}
}
