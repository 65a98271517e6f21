package directory

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

func TestStore(t *testing.T) {
	r := newRig(t)
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	r.clock = func() time.Time { return at }
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "Jane", "jane@example.com")
	if jane.Credential != 1 || !jane.Created.Equal(at) || !jane.Changed.Equal(at) {
		t.Errorf("created as %+v", jane)
	}
	for _, name := range []string{"jane", "JANE", "Jane@Example.com"} {
		found, err := s.Find(ctx, name)
		if err != nil || found.User != jane.User || found.Verifier != jane.Verifier || found.Names[0] != "Jane" {
			t.Errorf("%s: found %+v, %v", name, found, err)
		}
	}
	_, err := s.Find(ctx, "joe")
	want(t, err, ErrNotFound)
	_, err = s.Find(ctx, "not a name")
	want(t, err, ErrBadName)
	for _, user := range []session.UserID{"u-nobody", "", "no id", "*", ">"} {
		_, err = s.Get(ctx, user)
		want(t, err, ErrNotFound)
		want(t, s.Remove(ctx, user), ErrNotFound)
	}
	_, err = add(ctx, s, good, "JANE")
	want(t, err, ErrNameTaken)
	_, err = s.Create(ctx, Record{User: jane.User, Names: []string{"jane"}})
	want(t, err, ErrExists)
	_, err = s.Create(ctx, Record{User: "u-2", Names: []string{"unclaimed"}})
	want(t, err, ErrNameTaken)
	_, err = s.Create(ctx, Record{User: "u-2", Names: []string{"jane"}})
	want(t, err, ErrNameTaken)
	_, err = s.SetPassword(ctx, jane.User, "short")
	want(t, err, ErrPassword)
	_, err = s.SetVerifier(ctx, jane.User, "$argon2id$v=19$m=999999,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR")
	want(t, err, ErrBadVerifier)

	at = at.Add(time.Hour)
	generation, err := s.SetPassword(ctx, jane.User, other)
	must(t, err)
	changed, err := s.Get(ctx, jane.User)
	must(t, err)
	if generation != 2 || changed.Credential != 2 || changed.Verifier == jane.Verifier || !changed.Changed.Equal(at) || !changed.Created.Equal(jane.Created) {
		t.Errorf("after a new password: generation %d, %+v", generation, changed)
	}
	if generation, err = s.SetVerifier(ctx, jane.User, ""); err != nil || generation != 3 {
		t.Errorf("a password taken away is generation %d, %v", generation, err)
	}
	updated, err := s.Update(ctx, jane.User, func(r *Record) error {
		r.User, r.Credential, r.Created, r.First = "u-other", 99, time.Time{}, "Jane"
		return nil
	})
	if err != nil || updated.User != jane.User || updated.Credential != 3 || !updated.Created.Equal(jane.Created) || updated.First != "Jane" {
		t.Errorf("updated to %+v, %v", updated, err)
	}
	no := errors.New("no")
	_, err = s.Update(ctx, jane.User, func(*Record) error { return no })
	want(t, err, no)
	joe := r.add(good, "joe")
	list, err := s.List(ctx)
	if err != nil || len(list) != 2 || list[0].User > list[1].User || list[0].Verifier == joe.Verifier || list[1].Verifier == joe.Verifier {
		t.Errorf("listed: %+v, %v", list, err)
	}
}

func TestStoreConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []StoreConfig{
		{Policy: PasswordPolicy{MinLength: 7}}, {Parameters: Parameters{Memory: 8}}, {Parameters: Parameters{1 << 20, 1, 1}},
	} {
		if _, err := NewStore(nil, cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	s, err := NewStore(nil, StoreConfig{})
	must(t, err)
	if v, err := s.Hash(good, []string{"jane"}); err != nil || !strings.HasPrefix(string(v), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hashed as %q, %v", string(v), err)
	}
}

// TestClaimTakesNothing: a refused claim leaves the names before the taken one as they were.
func TestClaimTakesNothing(t *testing.T) {
	r := newRig(t)
	s := r.store(r.kv)
	r.add(good, "jane")
	_, err := s.Claim(t.Context(), []string{"free", "jane"})
	want(t, err, ErrNameTaken)
	free, err := keyOf("free")
	must(t, err)
	_, err = r.kv.Get(t.Context(), namePrefix+free.String())
	want(t, err, jetstream.ErrKeyNotFound)
}

// TestUniqueness: of sixteen that want one name at the same time, in several spellings, one gets it.
func TestUniqueness(t *testing.T) {
	r := newRig(t)
	spellings := []string{"j\u00e5ne", "J\u00c5NE", "ja\u030ane", "\uff2a\u00e5ne"}
	records, failures := make([]Record, 16), make([]error, 16)
	var racers sync.WaitGroup
	for i := range records {
		s := r.store(r.kv)
		racers.Go(func() {
			records[i], failures[i] = add(t.Context(), s, good, spellings[i%len(spellings)], fmt.Sprint("own-", i))
		})
	}
	racers.Wait()
	winner := -1
	for i, err := range failures {
		switch {
		case err == nil && winner >= 0:
			t.Fatal("two users have one name")
		case err == nil:
			winner = i
		case !errors.Is(err, ErrNameTaken) && !errors.Is(err, ErrExists):
			t.Errorf("error %v", err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody has the name")
	}
	found, err := r.store(r.kv).Find(t.Context(), "j\u00e5ne")
	if err != nil || found.Verifier != records[winner].Verifier {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestNoLostUpdate: changes made at the same time are all there.
func TestNoLostUpdate(t *testing.T) {
	r := newRig(t)
	jane := r.add(good, "jane")
	var writers sync.WaitGroup
	for i := range 8 {
		s := r.store(r.kv)
		writers.Go(func() {
			if _, err := s.Update(t.Context(), jane.User, func(r *Record) error {
				r.Scopes = append(r.Scopes, fmt.Sprint("scope-", i))
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if record, err := r.store(r.kv).Get(t.Context(), jane.User); err != nil || len(record.Scopes) != 8 {
		t.Errorf("after 8 changes: %v, %v", record.Scopes, err)
	}
}

func TestRename(t *testing.T) {
	r := newRig(t)
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "jane")
	rename := func(names ...string) error {
		_, err := s.Update(ctx, jane.User, func(r *Record) error { r.Names = names; return nil })
		return err
	}
	r.add(good, "joe")
	want(t, rename("JOE"), ErrNameTaken)
	want(t, rename(), ErrBadName)
	must(t, rename("janet", "jane"))
	must(t, rename("janet"))
	_, err := s.Find(ctx, "jane")
	want(t, err, ErrNotFound)
	if next := r.add(other, "jane"); next.User == jane.User {
		t.Error("a name given up brings back the old id")
	}
	must(t, rename("JANET")) // another spelling of one's own
	if found, err := s.Find(ctx, "janet"); err != nil || found.Names[0] != "JANET" {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestSweep: claims that no record bears out are given free, but only after a while, and those of unfinished creations
// never.
func TestSweep(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	r.clock = func() time.Time { return now }
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "jane")
	must(t, s.claimFor(ctx, jane.User, []string{"janet"})) // a rename that crashed
	unfinished, err := s.Claim(ctx, []string{"max"})
	must(t, err)
	must(t, s.Sweep(ctx))
	_, err = add(ctx, s, good, "janet")
	want(t, err, ErrNameTaken)
	now = now.Add(claimPatience + time.Minute)
	joe := r.add(good, "janet") // taken over
	must(t, s.claimFor(ctx, joe.User, []string{"joe"}))
	now = now.Add(claimPatience + time.Minute)
	must(t, s.Sweep(ctx))
	if got := r.keys(); len(got) != 5 { // jane, janet, max and two records
		t.Errorf("left: %q", got)
	}
	if again, err := s.Claim(ctx, []string{"max"}); err != nil || again != unfinished {
		t.Errorf("the unfinished creation goes on as %s, %v, want %s", again, err, unfinished)
	}
}

// keys lists the subjects of all that the bucket's stream holds, markers included.
func (r *rig) keys() []string {
	r.Helper()
	var keys []string
	for _, m := range r.messages() {
		keys = append(keys, m.Subject)
	}
	return keys
}

func (r *rig) messages() []*jetstream.RawStreamMsg {
	r.Helper()
	info, err := r.stream().Info(r.Context())
	must(r.T, err)
	var all []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := r.stream().GetMsg(r.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		must(r.T, err)
		all = append(all, m)
	}
	return all
}

// TestRemove: of an erased user nothing is left that says who it was: not in the stream, and not on the
// disk. The id stays, and cannot be used again; the names can.
func TestRemove(t *testing.T) {
	r := newRig(t)
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "jane.doe", "jane@example.com")
	_, err := s.Update(ctx, jane.User, func(r *Record) error { r.First, r.Last = "Jane", "Unmistakable"; return nil })
	must(t, err)
	joe := r.add(good, "joe")
	secrets := []string{string(jane.Verifier)[30:], base64.StdEncoding.EncodeToString(jane.Seed), "jane.doe", "jane@example.com", "Unmistakable"}
	for _, name := range jane.Names {
		key, err := keyOf(name)
		must(t, err)
		secrets = append(secrets, key.String())
	}
	onDisk := func() (found []string) {
		must(t, filepath.WalkDir(filepath.Join(r.dir, "jetstream"), func(path string, f os.DirEntry, err error) error {
			if err != nil || f.IsDir() {
				return nil // a file that went away meanwhile
			}
			data, err := os.ReadFile(path)
			for _, secret := range secrets {
				if err == nil && bytes.Contains(data, []byte(secret)) {
					found = append(found, filepath.Base(path)+": "+secret)
				}
			}
			return nil
		}))
		return found
	}
	if len(onDisk()) < len(secrets) {
		t.Fatalf("the search does not find what is there: %q", onDisk())
	}
	must(t, s.Remove(ctx, jane.User))
	must(t, s.Remove(ctx, jane.User)) // a repeated command
	for _, m := range r.messages() {
		for _, secret := range secrets {
			if strings.Contains(m.Subject, secret) || bytes.Contains(m.Data, []byte(secret)) {
				t.Errorf("%s still holds %s", m.Subject, secret)
			}
		}
	}
	if len(r.keys()) != 3 { // what is left of her, and joe's two
		t.Errorf("left: %q", r.keys())
	}
	r.server.Shutdown() // which writes the indexes
	if found := onDisk(); len(found) > 0 {
		t.Errorf("still on the disk: %q", found)
	}
	r.start("")
	r.open()
	s = r.store(r.kv)
	_, err = s.Get(ctx, jane.User)
	want(t, err, ErrErased)
	_, err = s.SetPassword(ctx, jane.User, other)
	want(t, err, ErrErased)
	_, err = s.Find(ctx, "jane.doe")
	want(t, err, ErrNotFound)
	if next := r.add(other, "jane.doe"); next.User == jane.User {
		t.Error("the id of an erased user is used again")
	}
	if found, err := s.Find(ctx, "joe"); err != nil || found.User != joe.User {
		t.Errorf("somebody else: %+v, %v", found, err)
	}
}

// TestRemoveUnreadable: a record that nobody can read can be erased.
func TestRemoveUnreadable(t *testing.T) {
	r := newRig(t)
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "jane")
	_, err := r.kv.Put(ctx, userPrefix+string(jane.User), []byte("{"))
	must(t, err)
	_, err = s.Find(ctx, "jane")
	want(t, err, ErrUnreadable)
	_, err = s.Claim(ctx, []string{"jane"})
	if err == nil {
		t.Error("the name of an unreadable record is given away")
	}
	must(t, s.Remove(ctx, jane.User))
	if len(r.keys()) != 1 {
		t.Errorf("left: %q", r.keys())
	}
	r.add(good, "jane")
}
