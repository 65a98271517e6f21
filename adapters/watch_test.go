package adapters_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/tokens"
)

// lagging is a pod that gives up waiting at once, whose view stands still until it is let go.
type lagging struct {
	*projections.Follower
}

func (lagging) Await(context.Context, bus.Position) error { return context.DeadlineExceeded }

// held applies a page when it may.
type held struct {
	projections.Model
	gate chan struct{}
}

func (h held) Apply(page projections.Page) error {
	<-h.gate
	return h.Model.Apply(page)
}

// TestWatchOfALaggingPod: a session that is granted by a pod which has not seen its start is not taken for ended: its end
// is told when it ends. One that began and ended unseen is told when the pod sees it.
func TestWatchOfALaggingPod(t *testing.T) {
	h := newHouse(t)
	quick := h.pod(nil)
	index, gate := tokens.New(), make(chan struct{})
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.Bus.Book(0)}, Models: []projections.Model{held{index, gate}},
		Staleness: 20 * time.Second, Log: adapterstest.Discard})
	adapterstest.Runs(t, f.Run)
	var open atomic.Bool
	letGo := func() {
		if open.CompareAndSwap(false, true) {
			close(gate)
		}
	}
	t.Cleanup(letGo)
	slow := h.pod(func(c *adapters.Config) { c.Sessions, c.Follower = index, lagging{f} })

	var ended [3]<-chan struct{}
	var grants [3]adapters.Grant
	for n := range grants {
		var refused adapters.Refused
		if grants[n], refused = h.login(slow, session.Genesis, "jane", "right"); refused.No() {
			t.Fatal(refused.Code)
		}
		var stop func()
		ended[n], stop = slow.Watch(grants[n].Session.ID)
		defer stop()
	}
	_, err := quick.Logout(context.Background(), adapters.Logout{Venue: session.Genesis, Handle: grants[0].Session.Handle})
	must(t, err)
	for n := range ended {
		if _, seen := slow.Session(grants[n].Session.ID); seen {
			t.Fatal("the pod does not lag: nothing is proved")
		}
		select {
		case <-ended[n]:
			t.Errorf("session %d is taken for ended before it was seen", n)
		default:
		}
	}
	letGo()
	told := func(n int) {
		t.Helper()
		select {
		case <-ended[n]:
		case <-time.After(20 * time.Second):
			t.Fatalf("the end of session %d is not told", n)
		}
	}
	told(0)
	_, err = quick.Logout(context.Background(), adapters.Logout{Venue: session.Genesis, Handle: grants[1].Session.Handle})
	must(t, err)
	told(1)
	select {
	case <-ended[2]:
		t.Error("a session that lives is taken for ended")
	default:
	}
	if _, seen := slow.Session(grants[2].Session.ID); !seen {
		t.Error("the session that lives has not arrived")
	}
}

// TestOneTimeDeadline: who issues a token is told until when it can be redeemed, by the book's clock; one above the limit
// makes the oldest void.
func TestOneTimeDeadline(t *testing.T) {
	h := newHouse(t)
	g := h.pod(nil)
	issue := func(lifetime time.Duration) adapters.OneTime {
		t.Helper()
		made, refused, err := g.IssueOneTime(context.Background(), session.TraderEvolution, "u-jane", session.SessionID{}, lifetime, adapters.URLSafe)
		must(t, err)
		if refused.No() {
			t.Fatal(refused.Code)
		}
		return made
	}
	before := session.At(time.Now())
	first := issue(time.Hour)
	if after := session.At(time.Now()); first.Until < before.Add(time.Hour) || first.Until > after.Add(time.Hour) {
		t.Errorf("issued between %s and %s for an hour, until %s", before.Time(), after.Time(), first.Until.Time())
	}
	second := issue(time.Hour)
	for range 15 { // of 16
		issue(time.Hour)
	}
	redeemed := func(token string) session.Refusal {
		t.Helper()
		_, refused, err := g.Verify(context.Background(), session.TraderEvolution, token)
		must(t, err)
		return refused.Code
	}
	if got := redeemed(first.Token); got != session.InvalidToken {
		t.Errorf("the one that was replaced: %s", got)
	}
	if got := redeemed(second.Token); got != session.Accepted {
		t.Errorf("the oldest that is left: %s", got)
	}
	if _, refused, err := g.IssueOneTime(context.Background(), session.TraderEvolution, "u-nobody", session.SessionID{}, 0, adapters.URLSafe); err != nil || refused.Code != session.UnknownUser {
		t.Errorf("for nobody: %s, %v", refused.Code, err)
	}
}
