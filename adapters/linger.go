package adapters

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"rollbook/engine/session"
)

// LingerConfig is what a [Linger] stands on. All fields but the ones with a zero value below are required.
type LingerConfig struct {
	// Gate is asked for the ends: the *[Gate].
	Gate interface {
		Disconnect(ctx context.Context, s session.Session) (Refused, error)
	}
	// Uses tells when a session was used last: the *[Gate], for a venue whose clients may come back with the token that
	// they have. Nil: a client that comes back renews its session, which the book knows by itself.
	Uses interface {
		Session(id session.SessionID) (session.Session, bool)
	}
	// Sockets are the venue's; an end that has begun is joined with them.
	Sockets *Sockets
	// Timeout bounds one question to the gate.
	Timeout time.Duration
	// AtOnce is how many ends are asked for at the same time. Zero: 16.
	AtOnce int
	// Retry is when an end is asked for again after nobody could say what came of it. Zero: 5 s.
	Retry time.Duration
	// Now is the pod's clock. Nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Linger keeps the sessions whose client is on some socket of this pod, and ends them when the last socket is gone: at
// once, or after a time in which the client may come back. A pod that dies meanwhile ends nothing; the session's idle
// limit does, or the lease of its pod. Its methods are safe for concurrent use.
type Linger struct {
	LingerConfig // not changed after the first use

	asking chan struct{} // a slot for each end that is asked for

	mu   sync.Mutex
	held map[session.SessionID]*held // guarded by mu: the sessions that are on sockets, or were until lately
}

// held is a session whose client is on some socket of this pod, or was until lately.
type held struct {
	session session.Session // as it was granted last: the generation that a departure ends
	sockets int             // that its client is on
	left    session.Instant // with no socket: when the last one went
	timer   *time.Timer     // with no socket: ends the session when it fires
}

// NewLinger makes a Linger; it starts nothing.
func NewLinger(cfg LingerConfig) *Linger {
	SetDefault(&cfg.AtOnce, 16)
	SetDefault(&cfg.Retry, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Linger{LingerConfig: cfg, asking: make(chan struct{}, cfg.AtOnce), held: make(map[session.SessionID]*held)}
}

// lateUse is how long after the last socket went a use may still be recorded that came by it.
const lateUse = time.Second

// Arrive notes that the session's client is on one more socket, and is here to stay.
func (l *Linger) Arrive(s session.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[s.ID]
	if e == nil {
		e = &held{session: s}
		l.held[s.ID] = e
	}
	e.sockets++
	e.renew(s)
}

// Renew notes that the session was renewed, by whatever way. Without a socket it goes on by itself from here on, or on
// one that is about to arrive.
func (l *Linger) Renew(s session.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.held[s.ID]; e != nil {
		e.renew(s)
		if e.sockets == 0 {
			delete(l.held, s.ID)
		}
	}
}

func (e *held) renew(s session.Session) {
	if s.Generation >= e.session.Generation {
		e.session = s
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// Over as the time after which a session ends says that it has ended.
const Over = -time.Second

// Depart notes that the client has left a socket that had arrived. When it was the last one a bound session ends after
// that time, unless its client comes back; with a negative time it is forgotten.
func (l *Linger) Depart(id session.SessionID, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[id]
	if e == nil {
		return
	}
	if e.sockets--; e.sockets > 0 {
		return
	}
	if after < 0 || !e.session.Bound || l.Sockets.Closing().Err() != nil {
		delete(l.held, id)
		return
	}
	e.left = session.At(l.Now())
	l.endAfter(e, after)
}

// End asks for the end of a session that nobody can come back to, and waits for the answer. A failure is tried again
// until the service stops.
func (l *Linger) End(s session.Session) {
	if err := l.ask(context.Background(), s); err != nil {
		l.again(&held{session: s}, err)
	}
}

// Held is how many sessions are on sockets, or were until lately.
func (l *Linger) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// Forget forgets all sessions without ending any. The sockets are closed before.
func (l *Linger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.held {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	clear(l.held)
}

// endAfter ends the session unless something happens to it first. Its caller holds mu.
func (l *Linger) endAfter(e *held, after time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		l.mu.Lock() // also orders this after the assignment of timer
		due := l.held[e.session.ID] == e && e.timer == timer && l.Sockets.begin()
		if due {
			delete(l.held, e.session.ID)
		}
		l.mu.Unlock()
		if due {
			defer l.Sockets.work.Done()
			l.due(e)
		}
	})
	e.timer = timer
}

// due asks for the end of a session whose time is over. Whether it was renewed is the book's to say: the gate asks for
// the end of this generation alone. A use that is recorded since shows that its client has come back to another pod,
// which then sees it go.
func (l *Linger) due(e *held) {
	if l.Uses != nil {
		if now, live := l.Uses.Session(e.session.ID); live && now.LastActive > e.left.Add(lateUse) {
			return
		}
	}
	closing := l.Sockets.Closing()
	if err := l.ask(closing, e.session); err != nil && closing.Err() == nil {
		l.again(e, err)
	}
}

// ask asks the gate for the end of the session, when there is a slot.
func (l *Linger) ask(ctx context.Context, s session.Session) error {
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	refused, err := l.Gate.Disconnect(ctx, s)
	if err == nil {
		l.Log.Debug("a session was left by its socket", "session", s.ID, "refusal", refused.Code)
	}
	return err
}

// again has the end asked for once more, unless the client has come back or the service stops.
func (l *Linger) again(e *held, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.held[e.session.ID] != nil:
	case l.Sockets.Closing().Err() != nil:
		l.Log.Warn("a session whose socket is gone could not be ended; its limits end it", "session", e.session.ID, "err", err)
	default:
		l.Log.Warn("a session whose socket is gone could not be ended; it is tried again", "session", e.session.ID, "err", err)
		l.held[e.session.ID] = e
		l.endAfter(e, l.Retry)
	}
}
