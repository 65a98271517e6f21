package tokens_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/tokens"
)

// TestRestorePlusTail: an index that begins with a snapshot, taken anywhere in a random book, and is given the rest of the
// pages answers like one that was given them all.
func TestRestorePlusTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, state: session.NewState(quick()), whole: tokens.New(), now: session.Instant(time.Hour)}
		for _, u := range everybody {
			w.do(&session.Register{User: u, Credential: 1})
		}
		for range rapid.IntRange(1, 40).Draw(t, "before") {
			w.step()
		}
		// Pages without events move the time of the book, and what the state remembers not.
		w.now = w.now.Add(time.Duration(rapid.IntRange(0, 700).Draw(t, "empty page")) * time.Second)
		w.page()
		var chunks [][]byte
		if err := w.state.Snapshot(func(chunk []byte) error { chunks = append(chunks, slices.Clone(chunk)); return nil }); err != nil {
			t.Fatal(err)
		}
		state, err := session.ReadSnapshot(session.Policies{}, func(yield func([]byte, error) bool) {
			for _, chunk := range chunks {
				if !yield(chunk, nil) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		w.heir = tokens.New()
		if err := w.heir.Restore(projections.Page{Seq: w.seq, Time: w.now}, state); err != nil {
			t.Fatal(err)
		}
		w.compare()
		for n := range rapid.IntRange(1, 40).Draw(t, "after") {
			w.step()
			if n%8 == 0 {
				w.compare()
			}
		}
		w.compare()
	})
}

var everybody = []session.UserID{"ann", "bob", "eve"}

// quick are policies under which much happens within minutes.
func quick() session.Policies {
	p := session.DefaultPolicies()
	rotating := p.Venues[session.TraderEvolution]
	rotating.Grace = 5 * time.Second
	p.Venues[session.TraderEvolution] = rotating
	return p
}

// world is a random life, and the indexes that follow it.
type world struct {
	t       *rapid.T
	state   *session.State
	whole   *tokens.Index
	heir    *tokens.Index // nil until the snapshot
	now     session.Instant
	seq     uint64
	minted  int
	all     []session.TokenHash
	handles []session.Handle
	ids     []session.SessionID
	live    []session.Session
}

func (w *world) do(cmd session.Command) {
	events, _ := w.state.Decide(cmd, w.now)
	for _, e := range events {
		w.state.Apply(e)
	}
	w.page(events...)
}

func (w *world) page(events ...session.Event) {
	w.seq++
	for _, index := range []*tokens.Index{w.whole, w.heir} {
		if index == nil {
			continue
		}
		if err := index.Apply(projections.Page{Seq: w.seq, Time: w.now, Events: events}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) mint() session.TokenHash {
	w.minted++
	w.all = append(w.all, hash('t', w.minted))
	return w.all[len(w.all)-1]
}

func (w *world) mintID() session.SessionID {
	w.minted++
	w.ids = append(w.ids, sessionID(w.minted))
	w.handles = append(w.handles, session.Handle(sessionID(w.minted)))
	return sessionID(w.minted)
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 200).Draw(w.t, "pause")) * time.Second)
	user := rapid.SampledFrom(everybody).Draw(w.t, "user")
	venue := rapid.SampledFrom([]session.Venue{session.Genesis, session.TraderEvolution}).Draw(w.t, "venue")
	w.live = w.live[:0]
	w.state.EachSession(func(s session.Session) { w.live = append(w.live, s) })
	slices.SortFunc(w.live, func(a, b session.Session) int { return slices.Compare(a.ID[:], b.ID[:]) })
	what := rapid.IntRange(0, 9).Draw(w.t, "what")
	if what < 3 || len(w.live) == 0 {
		w.do(&session.Login{User: user, Venue: venue, Verdict: session.Matched, Credential: 1, Client: fmt.Sprint("app", what%2),
			Session: w.mintID(), Access: w.mint(), Refresh: w.mint(), Scopes: []string{"read"}[:what%2]})
		return
	}
	s := rapid.SampledFrom(w.live).Draw(w.t, "session")
	switch what {
	case 3, 4, 5:
		presented := s.Refresh
		if rapid.IntRange(0, 9).Draw(w.t, "reuse") == 0 {
			presented = s.Spent
		}
		w.do(&session.Refresh{User: s.User, Venue: s.Venue, Session: s.ID, Presented: presented,
			Handle: session.Handle(w.mintID()), Access: w.mint(), Refresh: w.mint()})
	case 6:
		w.do(&session.Logout{User: s.User, Session: s.ID, Reason: session.LoggedOut})
	case 7:
		w.do(&session.Touch{User: s.User, Session: s.ID})
	case 8:
		w.do(&session.Revoke{Venue: venue, Client: "app0", Before: w.now.Add(-time.Minute)})
		w.do(&session.Expire{})
	case 9:
		w.do(&session.IssueOneTime{User: s.User, Venue: venue, Token: w.mint(), Session: s.ID, Lifetime: 5 * time.Minute})
		w.do(&session.IssueOneTime{User: user, Venue: venue, Token: w.mint(), Lifetime: time.Minute})
		w.do(&session.Verify{User: user, Venue: venue, Token: rapid.SampledFrom(w.all).Draw(w.t, "token")})
	}
}

// compare asks both indexes everything that can be asked.
func (w *world) compare() {
	w.t.Helper()
	if a, b := w.whole.Len(), w.heir.Len(); a != b {
		w.t.Fatalf("%d live sessions, after the restore %d", a, b)
	}
	for _, h := range w.all {
		a, kindA := w.whole.ByToken(h)
		b, kindB := w.heir.ByToken(h)
		if kindA != kindB || !equal(a, b) {
			w.t.Fatalf("token %x: %v of %+v, after the restore %v of %+v", h[:4], kindA, a, kindB, b)
		}
		liveA, okA := w.whole.Check(h)
		liveB, okB := w.heir.Check(h)
		if okA != okB || liveA != liveB {
			w.t.Fatalf("check of token %x: %+v %v, after the restore %+v %v", h[:4], liveA, okA, liveB, okB)
		}
		userA, okA := w.whole.OneTime(h)
		userB, okB := w.heir.OneTime(h)
		if okA != okB || userA != userB {
			w.t.Fatalf("one-time token %x: %q %v, after the restore %q %v", h[:4], userA, okA, userB, okB)
		}
	}
	for _, h := range w.handles {
		a, okA := w.whole.ByHandle(h)
		b, okB := w.heir.ByHandle(h)
		if okA != okB || !equal(a, b) {
			w.t.Fatalf("handle %s: %+v %v, after the restore %+v %v", h, a, okA, b, okB)
		}
	}
	for _, u := range everybody {
		if a, b := w.whole.ByUser(u), w.heir.ByUser(u); !slices.EqualFunc(a, b, equal) {
			w.t.Fatalf("sessions of %s: %+v, after the restore %+v", u, a, b)
		}
	}
}
