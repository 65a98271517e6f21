package directory

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

var errCrash = errors.New("the process was killed")

// crashing ends a command at one of its writes: before it, or after it was stored and before anybody heard. From then on
// nothing goes through.
type crashing struct {
	jetstream.KeyValue
	left   int // writes that go through
	stored bool
	dead   bool
}

func (c *crashing) write(do func() error) error {
	if c.dead {
		return errCrash
	}
	if c.left--; c.left >= 0 {
		return do()
	}
	c.dead = true
	if c.stored {
		if err := do(); err != nil {
			return err
		}
	}
	return errCrash
}

func (c *crashing) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (rev uint64, err error) {
	err = c.write(func() error { rev, err = c.KeyValue.Create(ctx, key, value, opts...); return err })
	return rev, err
}

func (c *crashing) Update(ctx context.Context, key string, value []byte, revision uint64) (rev uint64, err error) {
	err = c.write(func() error { rev, err = c.KeyValue.Update(ctx, key, value, revision); return err })
	return rev, err
}

func (c *crashing) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	return c.write(func() error { return c.KeyValue.Purge(ctx, key, opts...) })
}

func (c *crashing) PurgeDeletes(ctx context.Context, opts ...jetstream.KVPurgeOpt) error {
	return c.write(func() error { return c.KeyValue.PurgeDeletes(ctx, opts...) })
}

func (c *crashing) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if c.dead {
		return nil, errCrash
	}
	return c.KeyValue.Get(ctx, key)
}

// crashEverywhere kills a command at each of its writes in turn, "not stored" and "stored", and lets mend look at what
// is left and finish it. Each round has names of its own, made with the number it is given.
func crashEverywhere(t *testing.T, r *rig, least int, prepare func(n int) Record, command func(*Store, Record, int) error, mend func(*Store, Record, int)) {
	t.Helper()
	n := 0
	for _, stored := range []bool{false, true} {
		for left := 0; ; left++ {
			n++
			before := prepare(n)
			kv := &crashing{KeyValue: r.kv, left: left, stored: stored}
			err := command(r.store(kv), before, n)
			if err == nil && !kv.dead {
				if left < least {
					t.Fatalf("the command has %d writes, want at least %d", left, least)
				}
				break
			}
			want(t, err, errCrash)
			mend(r.store(r.kv), before, n)
			if t.Failed() {
				t.Fatalf("after a crash at write %d, stored: %v", left, stored)
			}
		}
	}
}

// TestCrashedAdd: a new user of two names, killed at every write, can be added by the same command.
func TestCrashedAdd(t *testing.T) {
	r := newRig(t)
	d := r.directory(r.kv)
	names := func(n int) []string { return []string{fmt.Sprint("jane-", n), fmt.Sprint("jane-", n, "@example.com")} }
	command := func(s *Store, _ Record, n int) error {
		_, err := add(t.Context(), s, good, names(n)...)
		return err
	}
	crashEverywhere(t, r, 3, func(int) Record { return Record{} }, command, func(s *Store, _ Record, n int) {
		record, err := s.Find(t.Context(), names(n)[0])
		if err != nil {
			want(t, err, ErrNotFound)
			first, claimErr := s.holderOf(t.Context(), names(n)[0])
			must(t, command(s, Record{}, n))
			if record, err = s.Find(t.Context(), names(n)[0]); err != nil || claimErr == nil && record.User != first {
				t.Errorf("went on with %s instead of %s, %v", record.User, first, err)
			}
		} else {
			want(t, command(s, Record{}, n), ErrNameTaken) // it was done
		}
		for _, name := range names(n) {
			soon(t, "the user can log in", func() bool { return finds(d, name, record.User) })
			if v := verdict(t, d, name, good); v != session.Matched {
				t.Errorf("%s: verdict %v", name, v)
			}
		}
	})
}

func (s *Store) holderOf(ctx context.Context, name string) (session.UserID, error) {
	key, err := keyOf(name)
	if err != nil {
		return "", err
	}
	user, _, err := s.holder(ctx, key)
	return user, err
}

// TestCrashedRename: a rename, killed at every write, is done by the same command; at no point is the user without a
// name, and after a while the old one is free.
func TestCrashedRename(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	r.clock = func() time.Time { return now }
	d := r.directory(r.kv)
	old := func(n int) string { return fmt.Sprint("jane-", n) }
	next := func(n int) string { return fmt.Sprint("janet-", n) }
	command := func(s *Store, jane Record, n int) error {
		_, err := s.Update(t.Context(), jane.User, func(r *Record) error { r.Names = []string{next(n)}; return nil })
		return err
	}
	crashEverywhere(t, r, 4, func(n int) Record { return r.add(good, old(n)) }, command, func(s *Store, jane Record, n int) {
		soon(t, "one name leads to the user", func() bool { return finds(d, old(n), jane.User) != finds(d, next(n), jane.User) })
		must(t, command(s, jane, n))
		soon(t, "the new name leads to the user", func() bool { return finds(d, next(n), jane.User) && finds(d, old(n), "") })
		now = now.Add(claimPatience + time.Minute)
		must(t, s.Sweep(t.Context()))
		_, err := s.holderOf(t.Context(), old(n))
		want(t, err, ErrNotFound)
		if user, err := s.holderOf(t.Context(), next(n)); err != nil || user != jane.User {
			t.Errorf("the new name is %s's, %v", user, err)
		}
	})
}

// TestCrashedRemove: an erasure, killed at every write, is finished by the same command. If anything was written at all,
// nobody logs in from then on.
func TestCrashedRemove(t *testing.T) {
	r := newRig(t)
	d := r.directory(r.kv)
	command := func(s *Store, jane Record, _ int) error { return s.Remove(t.Context(), jane.User) }
	prepare := func(n int) Record {
		jane := r.add(good, fmt.Sprint("jane-", n), fmt.Sprint("jane-", n, "@example.com"))
		soon(t, "the user is known", func() bool { return finds(d, jane.Names[0], jane.User) })
		return jane
	}
	crashEverywhere(t, r, 4, prepare, command, func(s *Store, jane Record, n int) {
		if _, err := s.Get(t.Context(), jane.User); errors.Is(err, ErrErased) {
			soon(t, "nobody logs in", func() bool { return finds(d, jane.Names[0], "") && finds(d, jane.Names[1], "") })
		}
		must(t, command(s, jane, n))
		soon(t, "nobody logs in", func() bool { return finds(d, jane.Names[0], "") && finds(d, jane.Names[1], "") })
		for _, name := range jane.Names {
			_, err := s.holderOf(t.Context(), name)
			want(t, err, ErrNotFound)
		}
	})
	for _, m := range r.messages() {
		if m.Header.Get("KV-Operation") != "" {
			t.Errorf("a marker is left: %s", m.Subject)
		}
	}
}

// TestCrashedPassword: a new password, killed at its write, is there or not there, and the same command makes it so.
func TestCrashedPassword(t *testing.T) {
	r := newRig(t)
	command := func(s *Store, jane Record, _ int) error {
		_, err := s.SetPassword(t.Context(), jane.User, other)
		return err
	}
	crashEverywhere(t, r, 2, func(n int) Record { return r.add(good, fmt.Sprint("jane-", n)) }, command, func(s *Store, jane Record, n int) {
		left, err := s.Get(t.Context(), jane.User)
		if err != nil || (left.Credential == 1) != (left.Verifier == jane.Verifier) {
			t.Errorf("left: generation %d, %v", left.Credential, err)
		}
		must(t, command(s, jane, n))
		now, err := s.Get(t.Context(), jane.User)
		if err != nil || now.Credential != left.Credential+1 || now.Verifier == left.Verifier {
			t.Errorf("generation %d after %d, %v", now.Credential, left.Credential, err)
		}
	})
}

// meddling does something just before a removal of markers, which then takes a claim that stands where a marker stood.
type meddling struct {
	jetstream.KeyValue
	before func()
}

func (m *meddling) PurgeDeletes(ctx context.Context, opts ...jetstream.KVPurgeOpt) error {
	if before := m.before; before != nil {
		m.before = nil
		before()
	}
	return m.KeyValue.PurgeDeletes(ctx, opts...)
}

func (m *meddling) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	if before := m.before; before != nil && key[:len(userPrefix)] == userPrefix {
		m.before = nil
		before()
	}
	return m.KeyValue.Create(ctx, key, value, opts...)
}

// TestLostClaim: a claim that is removed in the place of the marker it was made over is made again: by whoever removes,
// when the record is there already, and else by whoever writes the record.
func TestLostClaim(t *testing.T) {
	r := newRig(t)
	key, err := keyOf("jane")
	must(t, err)
	lose := func() {
		must(t, r.stream().Purge(t.Context(), jetstream.WithPurgeSubject("$KV.DIRECTORY."+namePrefix+key.String())))
	}
	holds := func(user session.UserID) {
		t.Helper()
		if holder, err := r.store(r.kv).holderOf(t.Context(), "jane"); err != nil || holder != user {
			t.Fatalf("the name is %q's, %v, want %q's", holder, err, user)
		}
	}
	old := r.add(good, "jane")
	var next Record
	must(t, r.store(&meddling{r.kv, func() { next = r.add(good, "jane"); lose() }}).Remove(t.Context(), old.User))
	holds(next.User)

	must(t, r.store(r.kv).Remove(t.Context(), next.User))
	last, err := add(t.Context(), r.store(&meddling{r.kv, lose}), good, "jane")
	must(t, err)
	holds(last.User)
}
