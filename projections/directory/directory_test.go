package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

// TestWatch: a running directory sees every change.
func TestWatch(t *testing.T) {
	r := newRig(t)
	s, ctx := r.store(r.kv), t.Context()
	jane := r.add(good, "jane", "jane@example.com")
	d := r.directory(r.kv)
	if v := verdict(t, d, "Jane@Example.com", good); v != session.Matched {
		t.Errorf("a user from before: verdict %v", v)
	}
	joe := r.add("", "Joe")
	soon(t, "a new user is seen", func() bool { return finds(d, "joe", joe.User) })
	if name, ok := d.Name(joe.User); !ok || name != "Joe" {
		t.Errorf("shown as %q, %v", name, ok)
	}
	generation, err := s.SetPassword(ctx, joe.User, other)
	must(t, err)
	soon(t, "a new password is seen", func() bool {
		c, err := d.Check(ctx, session.Genesis, "joe", other)
		return err == nil && c == session.Credential{User: joe.User, Generation: generation, Verdict: session.Matched}
	})
	_, err = s.Update(ctx, jane.User, func(r *Record) error { r.Names = []string{"janet", "jane@example.com"}; return nil })
	must(t, err)
	soon(t, "a new name is seen", func() bool { return finds(d, "janet", jane.User) })
	if !finds(d, "jane", "") || !finds(d, "jane@example.com", jane.User) {
		t.Error("the name given up still leads to her, or the one kept does not")
	}
	if users, broken := d.Counts(); users != 2 || broken != 0 {
		t.Errorf("counts %d, %d", users, broken)
	}
	for _, u := range d.Users() {
		if u.Verifier != Hidden {
			t.Errorf("user %s is listed with a verifier that is not hidden", u.User)
		}
		u.Names[0] = "spoilt" // the caller's own copy
	}
	if name, _ := d.Name(jane.User); name != "janet" {
		t.Errorf("a caller changed the name to %q", name)
	}
	if d.Outdated(jane.User) {
		t.Error("her verifier is of the default's cost")
	}
	_, err = s.SetVerifier(ctx, jane.User, phcGoldens[0].verifier)
	must(t, err)
	soon(t, "another cost is seen", func() bool { return d.Outdated(jane.User) })
	if v := verdict(t, d, "janet", "password"); v != session.Matched {
		t.Errorf("an imported verifier: verdict %v", v)
	}
	must(t, s.Remove(ctx, jane.User))
	soon(t, "an erasure is seen", func() bool { users, _ := d.Counts(); return users == 1 })
	if v := verdict(t, d, "janet", "password"); v != session.NoSuchUser {
		t.Errorf("an erased user: verdict %v", v)
	}
	if _, ok := d.Name(jane.User); ok {
		t.Error("an erased user's name is still known")
	}
	must(t, r.kv.Purge(ctx, userPrefix+string(joe.User))) // by hand: no command does this
	soon(t, "a deletion is seen", func() bool { users, _ := d.Counts(); return users == 0 })
}

// TestUnreadable: a bad record or claim stops its own logins, as "not known", from the start as well as later; nobody
// else's; and no more once it is mended.
func TestUnreadable(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	jane, joe, zoe := r.add(good, "jane"), r.add(good, "joe"), r.add(good, "zoe")
	spoil := func(key, value string) (mend func()) {
		e, err := r.kv.Get(ctx, key)
		must(t, err)
		_, err = r.kv.Put(ctx, key, []byte(value))
		must(t, err)
		return func() {
			_, err := r.kv.Put(ctx, key, e.Value())
			must(t, err)
		}
	}
	_, err := r.kv.Put(ctx, "apikey.1", []byte("something else that is kept here"))
	must(t, err)
	_, err = r.kv.Put(ctx, "user.of.another.form", []byte("x"))
	must(t, err)
	running := r.directory(r.kv)
	mendJane := spoil(userPrefix+string(jane.User), `{"version":2}`)
	zoeKey, err := keyOf("zoe")
	must(t, err)
	mendZoe := spoil(namePrefix+zoeKey.String(), "not an id")
	fresh := r.directory(r.kv)
	unknown := func(d *Directory, name string) bool {
		_, err := d.Check(ctx, session.Genesis, name, good)
		return errors.Is(err, ErrUnreadable)
	}
	for _, d := range []*Directory{running, fresh} {
		soon(t, "both are known to be unreadable", func() bool { return unknown(d, "jane") && unknown(d, "zoe") })
		if v := verdict(t, d, "joe", good); v != session.Matched {
			t.Errorf("somebody else: verdict %v", v)
		}
		if users, broken := d.Counts(); users != 3 || broken != 1 {
			t.Errorf("counts %d, %d, want 3 and 1", users, broken)
		}
		if len(d.Users()) != 2 || !finds(d, "zoe", "") || !finds(d, "jane", jane.User) {
			t.Error("the lists show what is not known")
		}
	}
	if name, ok := running.Name(jane.User); !ok || name != "jane" {
		t.Errorf("the name shown is %q, %v", name, ok)
	}
	if list, err := r.store(r.kv).List(ctx); len(list) != 2 || !errors.Is(err, ErrUnreadable) {
		t.Errorf("the store lists %d users, error %v", len(list), err)
	}
	mendJane()
	mendZoe()
	for _, d := range []*Directory{running, fresh} {
		soon(t, "they are mended", func() bool { return !unknown(d, "jane") && !unknown(d, "zoe") })
		if verdict(t, d, "jane", good) != session.Matched || !finds(d, "zoe", zoe.User) || !finds(d, "joe", joe.User) {
			t.Error("a mended record does not serve")
		}
	}
}

// entry is one entry of the bucket.
type entry struct {
	jetstream.KeyValueEntry
	key   string
	value []byte
	op    jetstream.KeyValueOp
}

func (e entry) Key() string                     { return e.key }
func (e entry) Value() []byte                   { return e.value }
func (e entry) Operation() jetstream.KeyValueOp { return e.op }

// TestNameMoves: a name goes from one user to another, who is renamed in turn, and one is erased. In whatever order the
// last entries of the keys come, before or after older ones of other keys, the same names lead to the same users; and on
// no way there does a name lead to a user without both claim and record.
func TestNameMoves(t *testing.T) {
	t.Parallel()
	record := func(user session.UserID, names ...string) entry {
		data, err := (&Record{User: user, Names: names, Credential: 1}).encode()
		must(t, err)
		return entry{key: userPrefix + string(user), value: data}
	}
	claim := func(name string, user session.UserID) entry {
		key, err := keyOf(name)
		must(t, err)
		e := entry{key: namePrefix + key.String(), value: []byte(user)}
		if user == "" {
			e.op = jetstream.KeyValuePurge
		}
		return e
	}
	erased, err := (&Record{User: "u-3", erased: time.Now()}).encode()
	must(t, err)
	before := []entry{
		claim("jane", "u-1"), record("u-1", "jane"), claim("joe", "u-2"), record("u-2", "joe"), claim("max", "u-3"), record("u-3", "max"),
	}
	after := []entry{
		record("u-1", "janet"), claim("janet", "u-1"), record("u-2", "jane"), claim("jane", "u-2"), claim("joe", ""),
		{key: userPrefix + "u-3", value: erased}, claim("max", "u-2"), // the last one is half of a rename
	}
	for range 500 {
		d := New(nil, Config{Parameters: cheap}, slog.New(slog.DiscardHandler))
		for _, e := range before {
			d.apply(d.view, e)
		}
		for _, i := range rand.Perm(len(after)) {
			d.apply(d.view, after[i])
			if finds(d, "jane", "u-1") && finds(d, "janet", "u-1") {
				t.Fatal("a user has the old name and the new one at once")
			}
		}
		if !finds(d, "jane", "u-2") || !finds(d, "janet", "u-1") || !finds(d, "joe", "") || !finds(d, "max", "") {
			t.Fatal("the order of the entries decided whose a name is")
		}
	}
}

// TestAcknowledgedIsKnown: a user is known to every check that begins after the command that made them was acknowledged.
func TestAcknowledgedIsKnown(t *testing.T) {
	r := newRig(t)
	d := r.directory(r.kv)
	for i := range 100 {
		name := fmt.Sprintf("user%d", i)
		r.add(good, name)
		if v := verdict(t, d, name, good); v != session.Matched {
			t.Fatalf("check %d, right after the user was made: verdict %v", i, v)
		}
	}
}

// TestRewatch: after the server was away the directory goes on by itself. Meanwhile it judges nobody, since what changed
// is not known, and still says whose a name was.
func TestRewatch(t *testing.T) {
	r := newRig(t)
	jane, joe, max := r.add(good, "jane"), r.add(good, "joe"), r.add(good, "max")
	r.server.Shutdown()
	r.start("127.0.0.1:0")
	r.open()
	address := strings.TrimPrefix(r.server.URL(), "nats://")
	d := r.directory(r.remote())
	r.server.Shutdown()
	for _, name := range []string{"jane", "nobody"} {
		if c, err := d.Check(t.Context(), session.Genesis, name, good); err == nil {
			t.Errorf("while the server is away %s is judged: %+v", name, c)
		}
	}
	if !finds(d, "jane", jane.User) {
		t.Error("while the server is away nobody is known")
	}
	r.start(address)
	r.open()
	s, ctx := r.store(r.kv), t.Context()
	_, err := s.SetPassword(ctx, jane.User, other)
	must(t, err)
	_, err = s.Update(ctx, joe.User, func(r *Record) error { r.Names = []string{"joseph"}; return nil })
	must(t, err)
	must(t, s.Remove(ctx, max.User))
	zoe := r.add(good, "zoe")
	soon(t, "what changed is seen", func() bool {
		return finds(d, "zoe", zoe.User) && finds(d, "joseph", joe.User) && finds(d, "joe", "") && finds(d, "max", "")
	})
	if v := verdict(t, d, "jane", other); v != session.Matched {
		t.Errorf("the new password: verdict %v", v)
	}
	if v := verdict(t, d, "jane", good); v != session.Mismatched {
		t.Errorf("the old password: verdict %v", v)
	}
}

// TestRewatchRestored: a bucket that is put back to an earlier state, with less in it, replaces what was known.
func TestRewatchRestored(t *testing.T) {
	r := newRig(t)
	jane, joe := r.add(good, "jane"), r.add(good, "joe")
	d := r.directory(r.kv)
	if !finds(d, "joe", joe.User) {
		t.Fatal("he is not known")
	}
	key, err := keyOf("jane")
	must(t, err)
	var kept []jetstream.KeyValueEntry
	for _, k := range []string{userPrefix + string(jane.User), namePrefix + key.String()} {
		e, err := r.kv.Get(t.Context(), k)
		must(t, err)
		kept = append(kept, e)
	}
	config := r.stream().CachedInfo().Config
	must(t, r.bus.JetStream().DeleteStream(t.Context(), config.Name))
	_, err = r.bus.JetStream().CreateStream(t.Context(), config)
	must(t, err)
	for _, e := range kept {
		_, err = r.kv.Put(t.Context(), e.Key(), e.Value())
		must(t, err)
	}
	soon(t, "the earlier state is seen", func() bool { return finds(d, "joe", "") })
	if !finds(d, "jane", jane.User) {
		t.Error("who is in it is not known")
	}
}

// TestRunEnds: Run returns when its context ends, and as well while the bus is gone for good.
func TestRunEnds(t *testing.T) {
	r := newRig(t)
	d := New(r.kv, Config{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	want(t, d.Await(ctx), ErrNotReady) // nothing has been started
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	must(t, d.Await(t.Context()))
	must(t, r.bus.Close())
	select {
	case err := <-done:
		t.Fatalf("Run gave up: %v", err)
	case <-time.After(3 * rewatch):
	}
	cancel()
	want(t, <-done, context.Canceled)
	if !d.Ready() {
		t.Error("what was read once is still known")
	}
}

// TestConcurrentUse: reads of all kinds beside a stream of changes, for the race detector.
func TestConcurrentUse(t *testing.T) {
	r := newRig(t)
	jane := r.add(good, "jane")
	d := r.directory(r.kv)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if c, err := d.Check(t.Context(), session.Genesis, "jane", good); err != nil || c.User != jane.User {
					t.Errorf("checked as %+v, %v", c, err)
				}
				d.Users()
				d.Counts()
				d.Name(jane.User)
				d.Outdated(jane.User)
			}
		})
	}
	s := r.store(r.kv)
	for i := range 40 {
		_, err := s.Update(ctx, jane.User, func(r *Record) error { r.First = strings.Repeat("x", i); return nil })
		must(t, err)
	}
	soon(t, "the last change is seen", func() bool { return len(d.Users()[0].First) == 39 })
	cancel()
	readers.Wait()
}

func BenchmarkFind(b *testing.B) {
	d := New(nil, Config{Parameters: cheap}, slog.New(slog.DiscardHandler))
	key, err := keyOf("jane")
	must(b, err)
	d.view.claims[key] = "u-1"
	d.view.users["u-1"] = &known{record: Record{User: "u-1"}, keys: []nameKey{key}}
	b.ReportAllocs()
	for b.Loop() {
		if !finds(d, "jane", "u-1") {
			b.Fatal("she is not found")
		}
	}
}
