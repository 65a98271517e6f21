package adapters_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people is a directory that compares instead of hashing. It keeps the contract: the same work for a name nobody has.
type people struct {
	mu         sync.Mutex
	passwords  map[string]string // by name; the user id is "u-" and the name
	generation uint64
	checks     atomic.Int32 // running now
	most       atomic.Int32 // the most that ran at once
	hold       chan struct{}
}

func (p *people) Check(_ context.Context, _ session.Venue, name, password string) (session.Credential, error) {
	if n := p.checks.Add(1); n > p.most.Load() {
		p.most.Store(n)
	}
	defer p.checks.Add(-1)
	if p.hold != nil {
		<-p.hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := session.Credential{User: session.UserID("u-" + name), Generation: p.generation, Verdict: session.NoSuchUser}
	if want, known := p.passwords[name]; known {
		if c.Verdict = session.Mismatched; want == password {
			c.Verdict = session.Matched
		}
	}
	return c, nil
}

func (p *people) Find(name string) (session.UserID, bool) {
	_, known := p.passwords[name]
	return session.UserID("u-" + name), known
}

func (p *people) Name(user session.UserID) (string, bool) {
	return strings.TrimPrefix(string(user), "u-"), true
}

func (p *people) Profile(user session.UserID) (session.Profile, bool) {
	return session.Profile{User: user, Names: []string{strings.TrimPrefix(string(user), "u-")}}, true
}

func (p *people) Current(context.Context) error { return nil }

func (p *people) Generation(session.UserID, session.Venue) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation, true
}

func (p *people) Decoy(name string) session.UserID { return session.UserID("u-" + name) }

func (p *people) Key(session.UserID, session.Venue) ([]byte, uint64, bool) { return nil, 0, false }

// house is a writer and any number of pods on a real embedded bus.
type house struct {
	t      *testing.T
	bus    *bus.Bus
	people *people
	stop   []func()
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, people: &people{passwords: map[string]string{"jane": "right"}, generation: 1}}
	h.stop = append(h.stop, func() { b.Close(); server.Shutdown() })
	t.Cleanup(func() {
		for i := len(h.stop) - 1; i >= 0; i-- {
			h.stop[i]()
		}
	})
	h.runs(engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: session.DefaultPolicies(), Log: slog.New(slog.DiscardHandler),
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	return h
}

func (h *house) runs(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	h.stop = append(h.stop, func() { cancel(); <-done })
}

// pod is a gate with projections of its own; change may alter its configuration.
func (h *house) pod(change func(*adapters.Config)) *adapters.Gate {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.bus.Book(0)}, Models: []projections.Model{index, known},
		Staleness: 20 * time.Second, Log: slog.New(slog.DiscardHandler)})
	h.runs(f.Run)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	h.stop = append(h.stop, func() { submit.Close() })
	cfg := adapters.Config{Submit: submit, Directory: h.people, Sessions: index, Resources: known, Follower: f,
		Policies: session.DefaultPolicies(), Partitions: 1, DeploymentKey: [32]byte{1}, Timeout: 20 * time.Second, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	g := adapters.NewGate(cfg)
	h.runs(g.Run)
	must(h.t, f.Barrier(context.Background()))
	return g
}

// register makes the book know the user.
func (h *house) register(user session.UserID) {
	h.t.Helper()
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	defer submit.Close()
	h.command(submit, &session.Register{User: user, Credential: 1})
}

func (h *house) command(submit *bus.Submitter, cmd session.Command) session.Reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	must(h.t, err)
	reply, err := session.DecodeReply(answer.Body)
	must(h.t, err)
	return reply
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) login(g *adapters.Gate, venue session.Venue, name, password string) (adapters.Grant, adapters.Refused) {
	h.t.Helper()
	grant, refused, err := g.Login(context.Background(), adapters.Login{Venue: venue, Name: name, Password: password})
	must(h.t, err)
	return grant, refused
}

func (h *house) check(g *adapters.Gate, venue session.Venue, token string) session.Refusal {
	h.t.Helper()
	_, refused, err := g.Check(context.Background(), venue, token)
	must(h.t, err)
	return refused.Code
}

// TestEveryPodKnows: what one pod grants, every pod takes; what one pod ends, no pod takes, asked right after.
func TestEveryPodKnows(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	one, two := h.pod(nil), h.pod(nil)
	for range 20 {
		grant, refused := h.login(one, session.Genesis, "jane", "right")
		if refused.No() {
			t.Fatal(refused.Code)
		}
		if got := h.check(two, session.Genesis, grant.Access); got != session.Accepted {
			t.Fatalf("the other pod says %s", got)
		}
		if got := h.check(two, session.Nebula, grant.Access); got != session.InvalidToken {
			t.Fatalf("at another venue: %s", got)
		}
		for _, wrong := range []string{grant.Refresh, grant.Access + "x", ""} {
			if got := h.check(two, session.Genesis, wrong); got != session.InvalidToken {
				t.Fatalf("what is no access token: %s", got)
			}
		}
		next, refused, err := two.Refresh(context.Background(), adapters.Refresh{Venue: session.Genesis, Token: grant.Refresh, Name: "jane"})
		must(t, err)
		if refused.No() || next.Refresh != grant.Refresh || next.Access == grant.Access || next.Session.Handle == grant.Session.Handle {
			t.Fatalf("refresh: %s, the refresh token stays: %t", refused.Code, next.Refresh == grant.Refresh)
		}
		if _, refused, err := two.Refresh(context.Background(), adapters.Refresh{Venue: session.Genesis, Token: grant.Refresh, Name: "eve"}); err != nil || refused.Code != session.InvalidToken {
			t.Fatalf("somebody else's refresh: %s, %v", refused.Code, err)
		}
		if got := h.check(two, session.Genesis, grant.Access); got != session.InvalidToken {
			t.Fatalf("the token from before the refresh: %s", got)
		}
		for range 2 {
			out, err := two.Logout(context.Background(), adapters.Logout{Venue: session.Genesis, Handle: next.Session.Handle, Name: "jane"})
			must(t, err)
			if out.No() {
				t.Fatalf("logout: %s", out.Code)
			}
		}
		if got := h.check(two, session.Genesis, next.Access); got != session.InvalidToken {
			t.Fatalf("after the logout: %s", got)
		}
	}
}

// TestRotationAcrossPods: eight refreshes with one token at once, on two pods, all get the same successor; the token
// after next ends the family.
func TestRotationAcrossPods(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	pods := []*adapters.Gate{h.pod(nil), h.pod(nil)}
	venue := session.TraderEvolution
	first, refused := h.login(pods[0], venue, "jane", "right")
	if refused.No() {
		t.Fatal(refused.Code)
	}
	grants := make([]adapters.Grant, 8)
	var racing sync.WaitGroup
	for n := range grants {
		racing.Go(func() {
			grant, refused, err := pods[n%2].Refresh(context.Background(), adapters.Refresh{Venue: venue, Token: first.Refresh})
			if err != nil || refused.No() {
				t.Errorf("refresh %d: %s, %v", n, refused.Code, err)
			}
			grants[n] = grant
		})
	}
	racing.Wait()
	for _, g := range grants[1:] {
		if g.Access != grants[0].Access || g.Refresh != grants[0].Refresh {
			t.Fatal("two refreshes with one token got two successors")
		}
	}
	if grants[0].Refresh == first.Refresh || h.check(pods[1], venue, grants[0].Access) != session.Accepted {
		t.Fatal("the successor is no successor")
	}
	third, refused, err := pods[1].Refresh(context.Background(), adapters.Refresh{Venue: venue, Token: grants[0].Refresh})
	if err != nil || refused.No() {
		t.Fatal(refused.Code, err)
	}
	if _, refused, err = pods[0].Refresh(context.Background(), adapters.Refresh{Venue: venue, Token: first.Refresh}); err != nil || refused.Code != session.ReusedToken {
		t.Fatalf("a token of two generations ago: %s, %v", refused.Code, err)
	}
	if got := h.check(pods[0], venue, third.Access); got != session.InvalidToken {
		t.Fatalf("after the reuse: %s", got)
	}
}

// TestUnknownIsNotInvalid: without a writer, and with a view that is stale, the answer is "unavailable".
func TestUnknownIsNotInvalid(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	g := h.pod(func(c *adapters.Config) { c.Timeout = 300 * time.Millisecond })
	grant, _ := h.login(g, session.Genesis, "jane", "right")
	away := h.pod(func(c *adapters.Config) { c.Follower = lost{} })
	for _, token := range []string{grant.Access, "never granted"} {
		if _, refused, err := away.Check(context.Background(), session.Genesis, token); !errors.Is(err, adapters.ErrUnavailable) || refused.No() {
			t.Errorf("a pod that has lost touch says %s, %v", refused.Code, err)
		}
	}
	h.stop[1]() // the writer
	h.stop[1] = func() {}
	if _, refused, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "right"}); !errors.Is(err, adapters.ErrUnavailable) || refused.No() {
		t.Errorf("a login without a writer: %s, %v", refused.Code, err)
	}
	if _, refused, err := g.Check(context.Background(), session.Genesis, grant.Access); err != nil || refused.No() {
		t.Errorf("a known token is not checked while the writer is away: %s, %v", refused.Code, err)
	}
}

// lost is a follower that has lost touch with the book.
type lost struct{}

func (lost) Await(context.Context, bus.Position) error { return projections.ErrStale }
func (lost) Barrier(context.Context) error             { return projections.ErrStale }
func (lost) Fresh() error                              { return projections.ErrStale }

// TestChecksAreBounded: no more passwords are hashed at once than set, and no more logins wait than set.
func TestChecksAreBounded(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	g := h.pod(func(c *adapters.Config) { c.Checks, c.Queue = 2, 3 })
	h.people.hold = make(chan struct{})
	const logins = 12
	results := make(chan error, logins)
	for range logins {
		go func() {
			_, _, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "wrong"})
			results <- err
		}()
	}
	busy := 0
	for busy < logins-5 {
		if err := <-results; !errors.Is(err, adapters.ErrBusy) {
			t.Fatalf("a login beyond the queue: %v", err)
		}
		busy++
	}
	close(h.people.hold)
	for range 5 {
		if err := <-results; err != nil {
			t.Errorf("a login that waited: %v", err)
		}
	}
	if h.people.most.Load() != 2 {
		t.Errorf("%d passwords were checked at once", h.people.most.Load())
	}
}

// TestStaleDirectory: a login judged by an outdated verifier is judged again, not refused and not counted.
func TestStaleDirectory(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	g := h.pod(nil)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(t, err)
	defer submit.Close()
	h.command(submit, &session.ChangeCredential{User: "u-jane", Credential: 2})
	go func() { // the directory catches up a little later
		time.Sleep(50 * time.Millisecond)
		h.people.mu.Lock()
		defer h.people.mu.Unlock()
		h.people.passwords["jane"], h.people.generation = "new", 2
	}()
	grant, refused := h.login(g, session.Genesis, "jane", "new")
	if refused.No() || grant.Session.Failed != 0 {
		t.Errorf("%s after %d failures", refused.Code, grant.Session.Failed)
	}
	h.people.mu.Lock()
	h.people.generation = 1 // and one that never does
	h.people.mu.Unlock()
	if _, refused, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "new"}); !errors.Is(err, adapters.ErrUnavailable) {
		t.Errorf("a directory that stays behind: %s, %v", refused.Code, err)
	}
}

// TestUseIsRecorded: a session that is used does not become idle.
func TestUseIsRecorded(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	var ahead atomic.Int64 // the pod's clock, ahead of the writer's: as if the time had passed
	g := h.pod(func(c *adapters.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	grant, _ := h.login(g, session.Genesis, "jane", "right")
	ahead.Store(int64(4 * time.Minute)) // of 30
	if got := h.check(g, session.Genesis, grant.Access); got != session.Accepted {
		t.Fatal(got)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s, _ := g.Session(grant.Session.ID)
		if s.LastActive > grant.Session.LastActive {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the use was not recorded")
		}
	}
	ahead.Store(int64(31 * time.Minute))
	if got := h.check(g, session.Genesis, grant.Access); got != session.ExpiredToken {
		t.Errorf("idle for longer than the limit: %s", got)
	}
}

// TestUseIsRecordedAtOnce: Use does not wait for the grain, and another pod sees it.
func TestUseIsRecordedAtOnce(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	one, two := h.pod(nil), h.pod(nil)
	grant, _ := h.login(one, session.Genesis, "jane", "right")
	one.Use(grant.Session.ID, grant.Session.User)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if s, _ := two.Session(grant.Session.ID); s.LastActive > grant.Session.LastActive {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the other pod does not see the use")
		}
	}
}

// TestManyLogins: the limit of sessions holds whatever the concurrency, and the refusal names what stands in the way.
func TestManyLogins(t *testing.T) {
	h := newHouse(t)
	h.register("u-jane")
	g := h.pod(nil)
	var granted, full atomic.Int32
	var working sync.WaitGroup
	for n := range 12 {
		working.Go(func() {
			_, refused, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "right", Client: fmt.Sprint(n)})
			switch {
			case err != nil:
				t.Error(err)
			case refused.Code == session.TooManySessions:
				full.Add(1)
			case !refused.No():
				granted.Add(1)
			}
		})
	}
	working.Wait()
	if granted.Load() != 5 || full.Load() != 7 {
		t.Errorf("%d granted, %d refused", granted.Load(), full.Load())
	}
	if _, refused := h.login(g, session.Genesis, "jane", "right"); len(refused.Sessions) != 5 {
		t.Errorf("%d sessions stand in the way", len(refused.Sessions))
	}
}
