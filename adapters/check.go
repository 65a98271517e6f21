package adapters

import (
	"context"
	"sync"
	"time"

	"rollbook/engine/session"
)

// Check says whether an access token is good, and whose it is. A known token is answered from memory.
func (g *Gate) Check(ctx context.Context, venue session.Venue, token string) (session.Live, Refused, error) {
	hash := session.HashToken(token)
	live, found := g.cfg.Sessions.Check(hash)
	if found {
		if err := g.cfg.Follower.Fresh(); err != nil {
			return session.Live{}, Refused{}, unavailable(err)
		}
	} else {
		if err := g.barrier(ctx); err != nil {
			return session.Live{}, Refused{}, err
		}
		live, found = g.cfg.Sessions.Check(hash)
	}
	if !found || live.Venue != venue {
		return session.Live{}, Refused{Code: session.InvalidToken}, nil
	}
	now := g.now()
	if now >= live.Deadline {
		return session.Live{}, Refused{Code: session.ExpiredToken}, nil
	}
	g.noteUse(live, now)
	return live, Refused{}, nil
}

// Session is all that is known of a live session.
func (g *Gate) Session(id session.SessionID) (session.Session, bool) { return g.cfg.Sessions.ByID(id) }

// Resources lists what can be asked for.
func (g *Gate) Resources() []session.Resource { return g.cfg.Resources.All() }

// Resource finds one by name. A name this pod does not know is called unknown only after the barrier.
func (g *Gate) Resource(ctx context.Context, name session.ResourceName) (session.Resource, Refused, error) {
	r, ok := g.cfg.Resources.Named(name)
	if !ok {
		if err := g.barrier(ctx); err != nil {
			return session.Resource{}, Refused{}, err
		}
		if r, ok = g.cfg.Resources.Named(name); !ok {
			return session.Resource{}, Refused{Code: session.UnknownResource}, nil
		}
	}
	return r, Refused{}, nil
}

// Name is the name that a user logs in by; empty when the directory has forgotten it.
func (g *Gate) Name(user session.UserID) string {
	name, _ := g.cfg.Directory.Name(user)
	return name
}

// Watch gives a channel that is closed when the session ends, wherever that happens. stop releases it. A session that was
// granted here and has not been seen by this pod yet, because it lags, is watched from its arrival on.
func (g *Gate) Watch(id session.SessionID) (ended <-chan struct{}, stop func()) {
	return g.cfg.Sessions.Watch(id)
}

// noteUse has the use of a session recorded, when that is due.
func (g *Gate) noteUse(s session.Live, now session.Instant) {
	if now >= s.NoteFrom {
		g.Use(s.ID, s.User)
	}
}

// Use has the use of a session recorded now, though it may not be due: every pod is to know that its client is here.
// It waits for nothing; a session whose use is being recorded already is left alone.
func (g *Gate) Use(id session.SessionID, user session.UserID) {
	g.mu.Lock()
	_, busy := g.pending[id]
	if !busy {
		g.pending[id] = struct{}{}
	}
	g.mu.Unlock()
	if busy {
		return
	}
	select {
	case g.touches <- use{id, user}:
	default: // more than 4096 wait: the next use tries again
		g.noted(id)
	}
}

// use is a use of a session that is to be recorded.
type use struct {
	session session.SessionID
	user    session.UserID
}

func (g *Gate) noted(id session.SessionID) {
	g.mu.Lock()
	delete(g.pending, id)
	g.mu.Unlock()
}

// announceEvery is how often a pod says that it lives.
const announceEvery = 2 * time.Second

// Run records the use of sessions and announces the pod until ctx ends. It always returns ctx's error.
func (g *Gate) Run(ctx context.Context) error {
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() { g.record(ctx) })
	}
	working.Go(func() { g.announce(ctx) })
	working.Wait()
	return ctx.Err()
}

func (g *Gate) announce(ctx context.Context) {
	if g.cfg.Announce == nil {
		return
	}
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		// What is lost is made up for by the next: a lease is many times longer.
		_ = g.cfg.Announce(g.cfg.Pod)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *Gate) record(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-g.touches:
			// A use that cannot be recorded is recorded by the next one; the session only seems idle a little longer.
			if _, err := g.submit(ctx, u.user, &session.Touch{User: u.user, Session: u.session, Pod: g.cfg.Pod}); err != nil && ctx.Err() == nil {
				g.cfg.Log.Warn("the use of a session could not be recorded", "session", u.session, "err", err)
			}
			g.noted(u.session)
		}
	}
}
