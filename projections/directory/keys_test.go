package directory

import (
	"bytes"
	"log/slog"
	"testing"

	"rollbook/engine/session"
)

// TestAPIKeys: a key comes back as it was set, for its user and venue alone; every change is a new generation; the
// bucket never holds it in the clear; another deployment key does not unseal it.
func TestAPIKeys(t *testing.T) {
	r := newRig(t)
	jane := r.add(good, "jane")
	store, err := NewStore(r.kv, StoreConfig{Parameters: cheap, DeploymentKey: [32]byte{7}})
	must(t, err)
	key := []byte("0123456789abcdef")
	generation, err := store.SetKey(t.Context(), jane.User, session.AdvAuth, key)
	must(t, err)
	if generation != jane.Credential+1 {
		t.Errorf("generation %d after %d", generation, jane.Credential)
	}
	entry, err := r.kv.Get(t.Context(), userPrefix+string(jane.User))
	must(t, err)
	for _, form := range [][]byte{key, []byte("MDEyMzQ1Njc4OWFiY2RlZg")} {
		if bytes.Contains(entry.Value(), form) {
			t.Fatal("the bucket holds the key in the clear")
		}
	}
	open := func(deployment byte) *Directory {
		d := New(r.kv, Config{DeploymentKey: [32]byte{deployment}, Parameters: cheap}, slog.New(slog.DiscardHandler))
		v := newView()
		d.apply(v, entry)
		d.replace(v)
		return d
	}
	d := open(7)
	if got, g, ok := d.Key(jane.User, session.AdvAuth); !ok || !bytes.Equal(got, key) || g != generation {
		t.Errorf("key %q of generation %d, %t", got, g, ok)
	}
	if _, _, ok := d.Key(jane.User, session.Nebula); ok {
		t.Error("a key is good at a venue that it was not made for")
	}
	if _, _, ok := open(8).Key(jane.User, session.AdvAuth); ok {
		t.Error("another deployment key unseals it")
	}
	if users := d.Users(); len(users) != 1 || len(users[0].Keys) != 1 || users[0].Keys["advauth"] != nil {
		t.Errorf("a list shows %+v", users)
	}
	generation, err = store.SetKey(t.Context(), jane.User, session.AdvAuth, nil)
	must(t, err)
	if generation != jane.Credential+2 {
		t.Errorf("generation %d after the key was taken away", generation)
	}
	if _, err := NewStore(r.kv, StoreConfig{Parameters: cheap}); err != nil {
		t.Error(err)
	} else if s, _ := NewStore(r.kv, StoreConfig{Parameters: cheap}); s != nil {
		if _, err := s.SetKey(t.Context(), jane.User, session.AdvAuth, key); err == nil {
			t.Error("a store without the deployment key seals")
		}
	}
}
