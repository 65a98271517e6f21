package directory

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

// FuzzNames: a name has one compared form, which is its own; whoever has no name of the form has one decoy by it. What is
// normalised as a password stays as it is.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"jane", "JANE@example.com", "Ｊａｎｅ", "straße", "ΑΣ", "jane dee", "", "\xff", "a\u0300", "ﬃ", "\u0660\u06f0", "אב1", strings.Repeat("ü", 129)} {
		f.Add(seed)
	}
	key := &[32]byte{1}
	f.Fuzz(func(t *testing.T, name string) {
		whom := decoy(key, name)
		if !whom.Valid() || len(whom) != len(NewUserID()) {
			t.Fatalf("the decoy of %q is %q", name, whom)
		}
		if normal, ok := normalise(name); ok {
			if again, still := normalise(normal); !still || again != normal || len(normal) > maxPassword {
				t.Fatalf("%q is normalised to %q, and that to %q", name, normal, again)
			}
		}
		form, err := comparedForm(name)
		if err != nil {
			if !errors.Is(err, ErrBadName) || CheckName(name) == nil {
				t.Fatalf("%q: %v", name, err)
			}
			return
		}
		again, err := comparedForm(form)
		if utf8.RuneCountInString(form) <= maxName && (err != nil || again != form) || form == "" || !utf8.ValidString(form) || strings.ContainsAny(form, " \x00\n") {
			t.Fatalf("%q is compared as %q, and that as %q: %v", name, form, again, err)
		}
		if decoy(key, form) != whom && err == nil {
			t.Fatalf("%q and its form %q have two decoys", name, form)
		}
		k, err := keyOf(name)
		back, ok := parseNameKey(k.String())
		if err != nil || !ok || back != k {
			t.Fatalf("the key of %q is %s, and back %s: %v", name, k, back, err)
		}
		if _, twice := keysOf([]string{name, form}); !errors.Is(twice, ErrBadName) {
			t.Fatalf("%q and %q are two names: %v", name, form, twice)
		}
	})
}

// put is an entry of the bucket.
type put struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
	as    jetstream.KeyValueOp
}

func (e put) Key() string                     { return e.key }
func (e put) Value() []byte                   { return e.value }
func (e put) Operation() jetstream.KeyValueOp { return e.as }

// FuzzEntry applies any entry of the bucket to a view that has Jane: what the view says of others does not change, an
// entry that cannot be read is never taken for "nobody", and what a deletion leaves is nothing.
func FuzzEntry(f *testing.F) {
	claim, err := keyOf("jane")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("user.u-1", []byte(sampleStored))
	f.Add("user.u-1", []byte(`{"erased":"2026-11-01T12:00:00Z","user":"u-1","version":1}`))
	f.Add("name."+claim.String(), []byte("u-1"))
	f.Add("name."+claim.String(), []byte("u 1"))
	f.Add("name."+strings.ToUpper(claim.String()), []byte("u-2"))
	f.Add("meta.x", []byte("{"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		d := &Directory{log: slog.New(slog.DiscardHandler)}
		v := newView()
		d.view = v
		d.apply(v, put{key: "user.u-1", value: []byte(sampleStored)})
		d.apply(v, put{key: "name." + claim.String(), value: []byte("u-1")})
		jane := v.users["u-1"]
		if jane == nil || jane.broken != nil || v.find(claim) != jane || jane.record.Verifier != Hidden {
			t.Fatal("Jane is not there")
		}
		users, claims := maps.Clone(v.users), maps.Clone(v.claims)
		d.apply(v, put{key: key, value: value})
		user, isUser := strings.CutPrefix(key, userPrefix)
		whose, isName := parseNameKey(strings.TrimPrefix(key, namePrefix))
		isName = isName && strings.HasPrefix(key, namePrefix)
		for id, u := range v.users {
			if changed := u != users[id]; changed && (!isUser || string(id) != user) {
				t.Fatalf("%q changes the user %s", key, id)
			} else if changed && (u.record.User != id || u.broken == nil && u.record.Verifier != "" && u.record.Verifier != Hidden) {
				t.Fatalf("%q is taken as %+v", value, u)
			}
		}
		for name, id := range v.claims {
			if id != claims[name] && (!isName || name != whose || id != "" && string(id) != string(value)) {
				t.Fatalf("%q with %q gives %s to %q", key, value, name, id)
			}
		}
		if isName && v.claims[whose] == "" && v.find(whose) != astray {
			t.Fatalf("%q with %q is nobody's", key, value)
		}
		d.apply(v, put{key: key, as: jetstream.KeyValueDelete})
		if isUser && v.users[session.UserID(user)] != nil || isName && v.find(whose) != nil {
			t.Fatalf("%q is deleted, and still there", key)
		}
	})
}

// FuzzSealedKeys: what is sealed opens for its user and venue alone, and nothing else opens.
func FuzzSealedKeys(f *testing.F) {
	s := newSealer([32]byte{1})
	f.Add([]byte("0123456789abcdef"), uint16(0))
	f.Add([]byte{}, uint16(300))
	f.Add(s.seal("u-1", session.Nebula, []byte("key")), uint16(13))
	f.Fuzz(func(t *testing.T, key []byte, at uint16) {
		if opened, err := s.open("u-1", session.AdvAuth, key); err == nil {
			t.Fatalf("%x is the key %x", key, opened)
		}
		sealed := s.seal("u-1", session.Nebula, key)
		if opened, err := s.open("u-1", session.Nebula, sealed); err != nil || !bytes.Equal(opened, key) {
			t.Fatalf("%x is sealed as %x, which opens as %x, %v", key, sealed, opened, err)
		}
		spoilt := bytes.Clone(sealed)
		spoilt[int(at)%len(spoilt)] ^= 1 << (at % 8)
		for what, open := range map[string]func() ([]byte, error){
			"another user's":        func() ([]byte, error) { return s.open("u-2", session.Nebula, sealed) },
			"another venue's":       func() ([]byte, error) { return s.open("u-1", session.AdvAuth, sealed) },
			"another deployment's":  func() ([]byte, error) { return newSealer([32]byte{2}).open("u-1", session.Nebula, sealed) },
			"one with a bit turned": func() ([]byte, error) { return s.open("u-1", session.Nebula, spoilt) },
			"one cut off": func() ([]byte, error) {
				return s.open("u-1", session.Nebula, sealed[:int(at)%len(sealed)])
			},
		} {
			if opened, err := open(); !reflect.DeepEqual(err, ErrNoKey) || opened != nil {
				t.Fatalf("%s opens as %x, %v", what, opened, err)
			}
		}
	})
}
