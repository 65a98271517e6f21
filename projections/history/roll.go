package history

import (
	"cmp"
	"slices"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Roll is the sessions of one partition as the events so far have left them: what an event says of a session by its id
// alone is completed from it. It keeps what lives, and forgets the rest.
type Roll struct {
	live   map[session.SessionID]*seat
	tokens map[session.TokenHash]issued // one-time tokens of a session
	sweep  int                          // how many of them are kept before those that lapsed are looked for
}

// seat is a live session and the event that started it.
type seat struct {
	session.Session
	start    *session.SessionStarted
	position bus.Position
}

// issued is whose a one-time token is, and until when.
type issued struct {
	session session.SessionID
	until   session.Instant
}

// NewRoll is the roll before the first event.
func NewRoll() *Roll {
	return &Roll{live: map[session.SessionID]*seat{}, tokens: map[session.TokenHash]issued{}, sweep: 1024}
}

// Take folds an event in and gives it with what is known of its session.
func (r *Roll) Take(at bus.Position, event session.Event) Entry {
	entry := Entry{Position: at, Event: event}
	switch e := event.(type) {
	case *session.SessionStarted:
		r.live[e.Session] = &seat{e.Begin(), e, at}
		entry.of(e.Session, r.live[e.Session])
	case *session.SessionRefreshed:
		s := r.live[e.Session]
		if s != nil {
			e.Renew(&s.Session)
		}
		entry.of(e.Session, s)
	case *session.SessionTouched:
		s := r.live[e.Session]
		if s != nil {
			e.Note(&s.Session)
		}
		entry.of(e.Session, s)
	case *session.SessionEnded:
		entry.of(e.Session, r.live[e.Session])
		delete(r.live, e.Session)
	case *session.SessionsRevoked:
		entry.Venue, entry.Client = e.Venue, e.Client
		entry.Ended = r.revoke(e)
	case *session.LoginRejected:
		entry.Venue, entry.Client = e.Venue, e.Client
	case *session.OneTimeIssued:
		entry.of(e.Session, r.live[e.Session])
		entry.Venue = e.Venue
		r.issue(e)
	case *session.OneTimeRedeemed:
		id := r.tokens[e.Token].session
		delete(r.tokens, e.Token)
		entry.of(id, r.live[id])
		entry.Venue = e.Venue
	case *session.LifetimesSet:
		entry.Venue = e.Venue
	}
	return entry
}

// of completes the entry from its session, which may be unknown.
func (e *Entry) of(id session.SessionID, s *seat) {
	e.Session = id
	if s != nil {
		e.Venue, e.Client = s.Venue, s.Client
	}
}

// revoke takes out the sessions that a revocation covers, and gives them in order of their start.
func (r *Roll) revoke(e *session.SessionsRevoked) (ended []session.Session) {
	for id, s := range r.live {
		if e.Covers(&s.Session) {
			ended = append(ended, s.Session)
			delete(r.live, id)
		}
	}
	slices.SortFunc(ended, func(a, b session.Session) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	return ended
}

// issue remembers the token of a session, and forgets those that lapsed, once there are twice as many as last time.
func (r *Roll) issue(e *session.OneTimeIssued) {
	for _, token := range e.Replaced {
		delete(r.tokens, token)
	}
	if e.Session != (session.SessionID{}) {
		r.tokens[e.Token] = issued{e.Session, e.Until}
	}
	if len(r.tokens) < r.sweep {
		return
	}
	for token, t := range r.tokens {
		if t.until <= e.At {
			delete(r.tokens, token)
		}
	}
	r.sweep = max(1024, 2*len(r.tokens))
}
