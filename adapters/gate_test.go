package adapters_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// jane is the one user of these tests.
var jane = adapterstest.Person{User: "u-jane", Names: []string{"jane"}, Password: "right"}

var must = adapterstest.Must

// house is the kit's, with Jane in it and the calls that these tests make again and again.
type house struct {
	*adapterstest.House
	t *testing.T
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return &house{adapterstest.NewHouse(t, adapterstest.Settings{People: []adapterstest.Person{jane}}), t}
}

// pod is a gate with projections of its own; change may alter its configuration.
func (h *house) pod(change func(*adapters.Config)) *adapters.Gate {
	h.t.Helper()
	return h.Pod(change).Gate
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
	grant, _ := h.login(h.pod(nil), session.Genesis, "jane", "right")
	g := h.pod(func(c *adapters.Config) { c.Timeout = 300 * time.Millisecond }) // it has seen the login
	away := h.pod(func(c *adapters.Config) { c.Follower = adapterstest.Lost{} })
	for _, token := range []string{grant.Access, "never granted"} {
		if _, refused, err := away.Check(context.Background(), session.Genesis, token); !errors.Is(err, adapters.ErrUnavailable) || refused.No() {
			t.Errorf("a pod that has lost touch says %s, %v", refused.Code, err)
		}
	}
	h.StopWriters()
	if _, refused, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "right"}); !errors.Is(err, adapters.ErrUnavailable) || refused.No() {
		t.Errorf("a login without a writer: %s, %v", refused.Code, err)
	}
	if _, refused, err := g.Check(context.Background(), session.Genesis, grant.Access); err != nil || refused.No() {
		t.Errorf("a known token is not checked while the writer is away: %s, %v", refused.Code, err)
	}
}

// TestChecksAreBounded: no more passwords are hashed at once than set, and no more logins wait than set.
func TestChecksAreBounded(t *testing.T) {
	h := newHouse(t)
	g := h.pod(func(c *adapters.Config) { c.Checks, c.Queue = 2, 3 })
	release := h.People.Hold()
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
	release()
	for range 5 {
		if err := <-results; err != nil {
			t.Errorf("a login that waited: %v", err)
		}
	}
	if h.People.MostAtOnce() != 2 {
		t.Errorf("%d passwords were checked at once", h.People.MostAtOnce())
	}
}

// TestStaleDirectory: a login judged by an outdated verifier is judged again, not refused and not counted.
func TestStaleDirectory(t *testing.T) {
	h := newHouse(t)
	g := h.pod(nil)
	h.Command(&session.ChangeCredential{User: jane.User, Credential: 2})
	go func() { // the directory catches up a little later
		time.Sleep(50 * time.Millisecond)
		h.People.Change(jane.User, func(p *adapterstest.Person) { p.Password, p.Credential = "new", 2 })
	}()
	grant, refused := h.login(g, session.Genesis, "jane", "new")
	if refused.No() || grant.Session.Failed != 0 {
		t.Errorf("%s after %d failures", refused.Code, grant.Session.Failed)
	}
	h.People.Change(jane.User, func(p *adapterstest.Person) { p.Credential = 1 }) // and one that never does
	if _, refused, err := g.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: "jane", Password: "new"}); !errors.Is(err, adapters.ErrUnavailable) {
		t.Errorf("a directory that stays behind: %s, %v", refused.Code, err)
	}
}

// TestUseIsRecorded: a session that is used does not become idle.
func TestUseIsRecorded(t *testing.T) {
	h := newHouse(t)
	var ahead atomic.Int64 // the pod's clock, ahead of the writer's: as if the time had passed
	g := h.pod(func(c *adapters.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	grant, _ := h.login(g, session.Genesis, "jane", "right")
	ahead.Store(int64(4 * time.Minute)) // of 30
	if got := h.check(g, session.Genesis, grant.Access); got != session.Accepted {
		t.Fatal(got)
	}
	adapterstest.Eventually(t, "the use is recorded", func() bool {
		s, _ := g.Session(grant.Session.ID)
		return s.LastActive > grant.Session.LastActive
	})
	ahead.Store(int64(31 * time.Minute))
	if got := h.check(g, session.Genesis, grant.Access); got != session.ExpiredToken {
		t.Errorf("idle for longer than the limit: %s", got)
	}
}

// TestUseIsRecordedAtOnce: Use does not wait for the grain, and another pod sees it.
func TestUseIsRecordedAtOnce(t *testing.T) {
	h := newHouse(t)
	one, two := h.pod(nil), h.pod(nil)
	grant, _ := h.login(one, session.Genesis, "jane", "right")
	one.Use(grant.Session.ID, grant.Session.User)
	adapterstest.Eventually(t, "the other pod sees the use", func() bool {
		s, _ := two.Session(grant.Session.ID)
		return s.LastActive > grant.Session.LastActive
	})
}

// TestManyLogins: the limit of sessions holds whatever the concurrency, and the refusal names what stands in the way.
func TestManyLogins(t *testing.T) {
	h := newHouse(t)
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
