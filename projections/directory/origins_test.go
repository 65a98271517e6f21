package directory

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"rollbook/engine/session"
)

var somewhere = session.Origin{Address: netip.MustParseAddr("203.0.113.77"), Agent: "probe/7.1 (test)", Name: "JANE"}

// TestOrigins: what a pod seals opens with the deployment key and the user's seed, for that user alone, and never again
// once the user is erased; no two sealings are alike.
func TestOrigins(t *testing.T) {
	r := newRig(t)
	store, d := r.store(r.kv), r.directory(r.kv)
	jane, joe := r.add(good, "jane"), r.add(good, "joe")
	must(t, d.Current(t.Context()))
	sealed := d.Seal(jane.User, somewhere)
	if bytes.Equal(sealed, d.Seal(jane.User, somewhere)) {
		t.Error("the same origin is sealed alike twice")
	}
	for _, part := range []string{"203.0.113.77", "\xcb\x00\x71\x4d", "probe", "JANE"} {
		if bytes.Contains(sealed, []byte(part)) {
			t.Errorf("%q is in the clear", part)
		}
	}
	origins, err := store.Origins(t.Context(), [32]byte{1})
	must(t, err)
	if got, ok := origins.Open(jane.User, sealed); !ok || got != somewhere {
		t.Errorf("it opens as %+v, %t", got, ok)
	}
	if _, ok := origins.Open(joe.User, sealed); ok {
		t.Error("it opens for another user")
	}
	other, err := store.Origins(t.Context(), [32]byte{2})
	must(t, err)
	if _, ok := other.Open(jane.User, sealed); ok {
		t.Error("it opens under another deployment key")
	}
	for i := range sealed {
		for _, damaged := range [][]byte{sealed[:i], append(append(bytes.Clone(sealed[:i]), sealed[i]^1), sealed[i+1:]...)} {
			if _, ok := origins.Open(jane.User, damaged); ok {
				t.Fatalf("it opens though it was damaged at byte %d", i)
			}
		}
	}
	must(t, store.Remove(t.Context(), jane.User))
	after, err := store.Origins(t.Context(), [32]byte{1})
	must(t, err)
	if _, ok := after.Open(jane.User, sealed); ok {
		t.Error("it opens though the user was erased")
	}
}

// TestOriginsOfNobody: for a decoy, and for a user without a seed, as much is sealed as for anybody, and nothing that
// opens; the next change of such a user's record gives them a seed.
func TestOriginsOfNobody(t *testing.T) {
	r := newRig(t)
	store, d := r.store(r.kv), r.directory(r.kv)
	jane := r.add(good, "jane")
	old := jane.clone()
	old.Seed = nil
	data, err := old.encode()
	must(t, err)
	_, err = r.kv.Put(t.Context(), userPrefix+string(jane.User), data)
	must(t, err)
	must(t, d.Current(t.Context()))
	origins, err := store.Origins(t.Context(), [32]byte{1})
	must(t, err)
	for _, user := range []session.UserID{jane.User, d.Decoy("nobody")} {
		if _, ok := origins.Open(user, d.Seal(user, somewhere)); ok {
			t.Errorf("what was sealed for %s opens", user)
		}
	}
	_, err = store.SetPassword(t.Context(), jane.User, other)
	must(t, err)
	must(t, d.Current(t.Context()))
	origins, err = store.Origins(t.Context(), [32]byte{1})
	must(t, err)
	if got, ok := origins.Open(jane.User, d.Seal(jane.User, somewhere)); !ok || got != somewhere {
		t.Errorf("with a seed it opens as %+v, %t", got, ok)
	}
	before, err := store.Get(t.Context(), jane.User)
	must(t, err)
	_, err = store.SetPassword(t.Context(), jane.User, good)
	must(t, err)
	if now, err := store.Get(t.Context(), jane.User); err != nil || !bytes.Equal(now.Seed, before.Seed) {
		t.Errorf("a change of the record changes the seed: %v", err)
	}
	for length := range session.MaxAgent + 1 {
		o := session.Origin{Agent: strings.Repeat("a", length), Name: "nobody"}
		if known, decoy := d.Seal(jane.User, o), d.Seal(d.Decoy("nobody"), o); len(known) != len(decoy) || (len(known)-1-12-16)%originPad != 0 {
			t.Fatalf("an agent of %d bytes takes %d bytes of a user and %d of a decoy", length, len(known), len(decoy))
		}
	}
}

// TestSeedsAreHidden: a seed is in no list and no log.
func TestSeedsAreHidden(t *testing.T) {
	r := newRig(t)
	jane := r.add(good, "jane")
	list, err := r.store(r.kv).List(t.Context())
	must(t, err)
	if len(jane.Seed) != seedLength || len(list) != 1 || list[0].Seed != nil {
		t.Errorf("a seed of %d bytes, and a list with one of %d", len(jane.Seed), len(list[0].Seed))
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("a record", "user", jane, "seed", jane.Seed)
	for _, text := range []string{log.String(), fmt.Sprint(jane.Seed), fmt.Sprintf("%+v %#v %s %v", jane, jane, jane.Seed, jane.Seed)} {
		for _, form := range []string{string(jane.Seed), fmt.Sprintf("%x", []byte(jane.Seed)), fmt.Sprint([]byte(jane.Seed))} {
			if strings.Contains(text, form) {
				t.Errorf("the seed is printed: %s", text)
			}
		}
	}
}
