package adapters_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// leaving is a gate that is asked for the ends of sessions.
type leaving struct {
	asked chan session.Session // every question, before it is answered

	mu    sync.Mutex
	fails int // how many more questions nobody can answer
	used  session.Instant
}

func (g *leaving) Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		panic("Disconnect without a deadline")
	}
	g.asked <- s
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fails > 0 {
		g.fails--
		return adapters.Refused{}, adapters.ErrUnavailable
	}
	return adapters.Refused{}, nil
}

// Session knows every session as used when the test says.
func (g *leaving) Session(id session.SessionID) (session.Session, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return session.Session{ID: id, LastActive: g.used}, true
}

// lingering gives a Linger whose clock stands still. The test's end joins it.
func lingering(t *testing.T, gate *leaving, cfg adapters.LingerConfig) *adapters.Linger {
	gate.asked = make(chan session.Session, 100)
	cfg.Gate, cfg.Sockets, cfg.Timeout, cfg.Log = gate, adapters.NewSockets(100), time.Minute, slog.New(slog.DiscardHandler)
	cfg.Now = func() time.Time { return time.Unix(1000, 0) }
	l := adapters.NewLinger(cfg)
	t.Cleanup(func() { stop(t, l) })
	return l
}

func stop(t *testing.T, l *adapters.Linger) {
	t.Helper()
	if err := l.Sockets.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	l.Forget()
	if l.Held() != 0 {
		t.Errorf("%d sessions are held by nobody", l.Held())
	}
}

func bound(generation uint32) session.Session {
	return session.Session{ID: session.SessionID{1}, Bound: true, Generation: generation}
}

func TestLastSocketEndsTheSession(t *testing.T) {
	gate := &leaving{}
	l := lingering(t, gate, adapters.LingerConfig{})
	l.Arrive(bound(1))
	l.Arrive(bound(3))
	l.Arrive(bound(2)) // granted before, told later
	l.Depart(bound(0).ID, 0)
	l.Depart(bound(0).ID, 0)
	if l.Held() != 1 || len(gate.asked) != 0 {
		t.Errorf("%d held, %d ended with a socket open", l.Held(), len(gate.asked))
	}
	l.Depart(bound(0).ID, 0)
	if s := <-gate.asked; s.Generation != 3 {
		t.Errorf("generation %d was ended, not the newest", s.Generation)
	}
	l.Depart(bound(0).ID, 0) // of a session that is not here
	stop(t, l)
	if len(gate.asked) != 0 {
		t.Errorf("ended %d times more", len(gate.asked))
	}
}

// What is over, unbound, renewed or back on a socket is left alone; so is everything when the service stops.
func TestSessionIsLeftAlone(t *testing.T) {
	unbound := bound(1)
	unbound.Bound = false
	for name, leave := range map[string]func(*adapters.Linger) (held int){
		"over":    func(l *adapters.Linger) int { l.Arrive(bound(1)); l.Depart(bound(1).ID, adapters.Over); return 0 },
		"unbound": func(l *adapters.Linger) int { l.Arrive(unbound); l.Depart(unbound.ID, 0); return 0 },
		"renewed": func(l *adapters.Linger) int {
			l.Arrive(bound(1))
			l.Depart(bound(1).ID, time.Hour)
			l.Renew(bound(2))
			return 0
		},
		"back": func(l *adapters.Linger) int {
			l.Arrive(bound(1))
			l.Depart(bound(1).ID, time.Hour)
			l.Arrive(bound(1))
			return 1
		},
		"lingers": func(l *adapters.Linger) int { l.Arrive(bound(1)); l.Depart(bound(1).ID, time.Hour); return 1 },
		"stopping": func(l *adapters.Linger) int {
			l.Arrive(bound(1))
			_ = l.Sockets.Shutdown(context.Background())
			l.Depart(bound(1).ID, 0)
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := &leaving{}
			l := lingering(t, gate, adapters.LingerConfig{})
			if want := leave(l); l.Held() != want {
				t.Errorf("%d held, not %d", l.Held(), want)
			}
			stop(t, l)
			if len(gate.asked) != 0 {
				t.Errorf("it was ended")
			}
		})
	}
}

// A use since shows that the client is at another pod, where uses count; one that came by the socket itself does not.
func TestUseKeepsTheSession(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		ends  int
	}{{0, 1}, {time.Second, 1}, {2 * time.Second, 0}} {
		gate := &leaving{used: session.At(time.Unix(1000, 0).Add(test.after))}
		l := lingering(t, gate, adapters.LingerConfig{Uses: gate})
		l.Arrive(bound(1))
		l.Depart(bound(1).ID, 0)
		for l.Held() != 0 {
			time.Sleep(time.Millisecond)
		}
		stop(t, l)
		if len(gate.asked) != test.ends {
			t.Errorf("used %s after: %d ends", test.after, len(gate.asked))
		}
	}
}

func TestEndIsAskedForAgain(t *testing.T) {
	gate := &leaving{fails: 2}
	l := lingering(t, gate, adapters.LingerConfig{Retry: time.Millisecond})
	l.Arrive(bound(7))
	l.Depart(bound(7).ID, 0)
	for range 3 {
		if s := <-gate.asked; s.Generation != 7 {
			t.Errorf("generation %d", s.Generation)
		}
	}
	stop(t, l)
	if len(gate.asked) != 0 {
		t.Error("it was ended once more after it had been")
	}

	t.Run("not when the client is back", func(t *testing.T) {
		gate := &leaving{fails: 1}
		l := lingering(t, gate, adapters.LingerConfig{Retry: time.Hour})
		l.Arrive(bound(1))
		l.Depart(bound(1).ID, 0)
		<-gate.asked
		l.Arrive(bound(1)) // before or after the failure is known
		stop(t, l)
		if len(gate.asked) != 0 {
			t.Error("it was ended while its client was here")
		}
	})
}

// An end of a session that nobody can come back to is awaited, also while the service stops.
func TestEndIsAwaited(t *testing.T) {
	gate := &leaving{fails: 1}
	l := lingering(t, gate, adapters.LingerConfig{Retry: time.Millisecond})
	l.End(bound(1))
	if len(gate.asked) == 0 {
		t.Error("it was not asked for")
	}
	<-gate.asked
	<-gate.asked // again
	stop(t, l)
	gate.mu.Lock()
	gate.fails = 1
	gate.mu.Unlock()
	l.End(bound(1))
	if len(gate.asked) != 1 || l.Held() != 0 {
		t.Errorf("while the service stops: asked %d times, %d held", len(gate.asked), l.Held())
	}
}
