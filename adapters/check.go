package adapters

import (
	"context"
	"time"

	"rollbook/engine/session"
)

// Check says whether an access token is good, and of which session. A known token is answered from memory.
func (g *Gate) Check(ctx context.Context, venue session.Venue, token string) (session.Session, Refused, error) {
	hash := session.HashToken(token)
	s, kind := g.cfg.Sessions.ByToken(hash)
	if kind == session.NoToken {
		var err error
		if s, kind, err = g.find(ctx, hash); err != nil {
			return session.Session{}, Refused{}, err
		}
	} else if err := g.cfg.Follower.Fresh(); err != nil {
		return session.Session{}, Refused{}, unavailable(err)
	}
	if kind != session.AccessToken || s.Venue != venue {
		return session.Session{}, Refused{Code: session.InvalidToken}, nil
	}
	now := g.now()
	if now >= s.AccessDeadline() {
		return session.Session{}, Refused{Code: session.ExpiredToken}, nil
	}
	g.noteUse(s, now)
	return s, Refused{}, nil
}

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

// Watch gives a channel that is closed when the session ends, wherever that happens. stop releases it.
func (g *Gate) Watch(id session.SessionID) (ended <-chan struct{}, stop func()) {
	return g.cfg.Sessions.Watch(id)
}

// useGrain is how finely use is recorded: in tenths of the shortest idle limit. An idle session can end up to this
// fraction of the limit early, and never late.
const useGrain = 10

// noteUse has the use of a session recorded, at most every tenth of its idle limit.
func (g *Gate) noteUse(s session.Session, now session.Instant) {
	idle := s.Idle
	if s.AccessIdle > 0 && (idle == 0 || s.AccessIdle < idle) {
		idle = s.AccessIdle
	}
	if idle == 0 || time.Duration(now-s.LastActive) < idle/useGrain {
		return
	}
	g.mu.Lock()
	_, busy := g.pending[s.ID]
	if !busy {
		g.pending[s.ID] = struct{}{}
	}
	g.mu.Unlock()
	if busy {
		return
	}
	select {
	case g.touches <- s:
	default: // more than 4096 wait: the next use tries again
		g.noted(s.ID)
	}
}

func (g *Gate) noted(id session.SessionID) {
	g.mu.Lock()
	delete(g.pending, id)
	g.mu.Unlock()
}

// Run records the use of sessions until ctx ends. It always returns ctx's error.
func (g *Gate) Run(ctx context.Context) error {
	const recorders = 16
	done := make(chan struct{})
	for range recorders {
		go func() {
			defer func() { done <- struct{}{} }()
			g.record(ctx)
		}()
	}
	for range recorders {
		<-done
	}
	return ctx.Err()
}

func (g *Gate) record(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-g.touches:
			// A use that cannot be recorded is recorded by the next one; the session only seems idle a little longer.
			if _, err := g.submit(ctx, s.User, &session.Touch{User: s.User, Session: s.ID}); err != nil && ctx.Err() == nil {
				g.cfg.Log.Warn("the use of a session could not be recorded", "session", s.ID, "err", err)
			}
			g.noted(s.ID)
		}
	}
}
