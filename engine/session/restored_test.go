package session

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRetire: after any history, what Retire lists leaves no session live and no one-time token open, ends each session
// once, and lists nothing a second time. The mark alone changes nothing but the clock.
func TestRetire(t *testing.T) {
	ended, used := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live(rapid.IntRange(1, 60).Draw(rt, "turns"), func(turn) {})
		sessions, tokens := w.state.Sessions(), len(w.state.oneTime)
		w.state.Apply(&BookRestored{Header: Header{At: w.state.Clock()}, Page: 7})
		if w.state.Sessions() != sessions || len(w.state.oneTime) != tokens {
			rt.Fatal("the mark changes the state")
		}
		seen := map[SessionID]bool{}
		for _, e := range w.state.Retire(w.state.Clock()) {
			switch e := e.(type) {
			case *SessionEnded:
				if seen[e.Session] || e.Reason != Restored || e.User == "" {
					rt.Fatalf("%+v", e)
				}
				seen[e.Session] = true
			case *OneTimeRedeemed:
				used++
			default:
				rt.Fatalf("%T retires nothing", e)
			}
			w.state.Apply(e)
		}
		if len(seen) != sessions || w.state.Sessions() != 0 || len(w.state.oneTime) != 0 || len(w.state.Retire(w.state.Clock())) != 0 {
			rt.Fatalf("%d of %d sessions were ended, %d one-time tokens are open", len(seen), sessions, len(w.state.oneTime))
		}
		ended += sessions
	})
	if ended == 0 || used == 0 {
		t.Errorf("%d sessions were ended and %d one-time tokens: the histories show nothing", ended, used)
	}
}
