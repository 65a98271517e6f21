package directory

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"rollbook/engine/session"
)

func TestNamesCompare(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"jane", "JANE", "Jane", "\uff4aane"},                          // full width
		{"jane.dee+trade@example.com", "Jane.Dee+Trade@EXAMPLE.com"},   // e-mail addresses
		{"\u00c5sa", "A\u030asa", "\u212bsa", "\u00e5sa", "a\u030aSA"}, // composed, decomposed, the unit sign
		{"\u03c3\u03b1\u03c3", "\u03a3\u03b1\u03c3"},                   // a sigma that is not final
		{"desk-7_a", "DESK-7_A"},
	} {
		first, err := keyOf(same[0])
		must(t, err)
		for _, name := range same[1:] {
			if key, err := keyOf(name); err != nil || key != first {
				t.Errorf("%q is not the same name as %q (%v)", name, same[0], err)
			}
		}
	}
	seen := map[nameKey]string{}
	for _, name := range []string{"jane", "jane1", "j\u00e1ne", "jane@example.com", "jan", "j4ne", "\u0458ane"} {
		key, err := keyOf(name)
		must(t, err)
		if twin, taken := seen[key]; taken {
			t.Errorf("%q and %q are one name", name, twin)
		}
		seen[key] = name
	}
}

func TestNamesRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"", " ", "jane dee", "jane\n", "jane\x00", "\u200bjane", "jane\u202e", "\xff", "\u265ajane", strings.Repeat("a", 129),
		strings.Repeat("\u00e5", 129), strings.Repeat("a", 1<<20),
	} {
		if _, err := keyOf(name); !errors.Is(err, ErrBadName) {
			t.Errorf("%.20q: error %v, want ErrBadName", name, err)
		}
	}
	for _, name := range []string{"a", strings.Repeat("a", 128), strings.Repeat("\u00e5", 128)} {
		if _, err := keyOf(name); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	for _, names := range [][]string{nil, {"jane", "JANE"}, make([]string, 17)} {
		if _, err := keysOf(names); !errors.Is(err, ErrBadName) {
			t.Errorf("%d names: error %v, want ErrBadName", len(names), err)
		}
	}
}

func TestNameKeyParses(t *testing.T) {
	t.Parallel()
	key, err := keyOf("jane")
	must(t, err)
	if back, ok := parseNameKey(key.String()); !ok || back != key {
		t.Errorf("%v comes back as %v, %v", key, back, ok)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(key.String()), key.String() + "00", strings.Repeat("g", 64)} {
		if _, ok := parseNameKey(bad); ok {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

// TestDecoy: a decoy has the form of a real id, is the same for equal names, and differs with name and deployment.
func TestDecoy(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^u-[a-z2-7]{26}$`)
	key, another := &[32]byte{1}, &[32]byte{2}
	seen := map[session.UserID]string{}
	for _, name := range []string{"jane", "joe", "jane@example.com", "", "not a name", "not a  name", "\xff", strings.Repeat("a", 4096)} {
		id := decoy(key, name)
		if !form.MatchString(string(id)) || !id.Valid() {
			t.Errorf("decoy %q has not the form of an id", id)
		}
		if twin, taken := seen[id]; taken {
			t.Errorf("%.20q and %.20q have one decoy", name, twin)
		}
		seen[id] = name
		if decoy(key, name) != id {
			t.Errorf("the decoy of %.20q changes", name)
		}
		if decoy(another, name) == id {
			t.Errorf("the decoy of %.20q does not depend on the deployment key", name)
		}
	}
	if decoy(key, "JANE") != decoy(key, "jane") {
		t.Error("spellings of one name have different decoys: their failures would be counted apart")
	}
	for range 1000 {
		id := NewUserID()
		if _, taken := seen[id]; taken || !form.MatchString(string(id)) {
			t.Fatalf("a new user id %q", id)
		}
		seen[id] = ""
	}
}
