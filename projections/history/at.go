package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Presence is a session that was live at a moment.
type Presence struct {
	session.Session                         // as of the moment
	Start           *session.SessionStarted // the event that began it
	Position        bus.Position            // of that event
	// Until is the first instant at which it was over: when it was ended, or its deadline, whichever came first. While
	// neither has come by the book's clock, Open is true and Until is the deadline as it stands, which use may yet move.
	Until  session.Instant
	Open   bool
	Reason session.EndReason // why it was over; zero while Open
}

// At is who was logged in at t, in order of the sessions' starts; user may be empty. A session counts from the instant of
// its SessionStarted, all events of the instant t included, and no more from its deadline on, also when the event that says
// so was written later: live is what started <= t and t < deadline, by the book's clock.
func (r *Reader) At(ctx context.Context, t session.Instant, user session.UserID) ([]Presence, error) {
	var all []Presence
	for _, book := range r.books(user) {
		present, err := r.at(ctx, book, t, user)
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", book.Partition(), err)
		}
		all = append(all, present...)
	}
	slices.SortFunc(all, func(a, b Presence) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	return all, nil
}

// at reads one book: to the moment for who is there, and on until all of them have left.
func (r *Reader) at(ctx context.Context, book Book, t session.Instant, user session.UserID) ([]Presence, error) {
	spans, err := r.plan(ctx, book, user)
	if err != nil {
		return nil, err
	}
	m := moment{at: t, user: user, roll: NewRoll()}
	if m.clock, err = clockOf(ctx, book); err != nil {
		return nil, err
	}
	err = r.pages(ctx, book, spans, func(p page) error {
		for i := range p.events {
			if mine, err := p.concerns(i, user); err != nil || !mine {
				if err != nil {
					return err
				}
				continue
			}
			e, err := p.event(i)
			if err != nil {
				return err
			}
			if m.take(bus.Position{Partition: book.Partition(), Page: p.seq, Index: uint32(i)}, e); m.past && len(m.open) == 0 {
				return errEnough
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return m.result(), nil
}

// clockOf is the time of a book's last page: its clock. The pages of one user may end long before.
func clockOf(ctx context.Context, book Book) (clock session.Instant, err error) {
	end, err := book.End(ctx)
	if err != nil || end == 0 {
		return 0, err
	}
	p, err := pageOf(ctx, book, end)
	return p.time, err
}

// moment is the reading of one book for who was there at an instant.
type moment struct {
	at    session.Instant
	user  session.UserID
	roll  *Roll           // through the moment
	past  bool            // the moment is over, and found is complete
	clock session.Instant // of the book
	found []*visit
	open  map[session.SessionID]*visit // of found: those that had not left yet
}

// visit is a presence, and the session as what came after the moment has left it.
type visit struct {
	Presence
	now session.Session
}

// take folds an event: before the moment into the roll, after it into those who were there.
func (m *moment) take(at bus.Position, e session.Event) {
	if !m.past && e.When() <= m.at {
		m.roll.Take(at, e)
		return
	}
	m.close()
	switch e := e.(type) {
	case *session.SessionRefreshed:
		m.changed(e.Session, e.At, e.Renew)
	case *session.SessionTouched:
		m.changed(e.Session, e.At, e.Note)
	case *session.SessionEnded:
		m.left(m.open[e.Session], e.At, e.Reason)
	case *session.SessionsRevoked:
		for _, v := range m.open {
			if e.Covers(&v.now) {
				m.left(v, e.At, session.Revoked)
			}
		}
	}
}

// close ends the moment: who is in the roll and within the deadline was there.
func (m *moment) close() {
	if m.past {
		return
	}
	m.past, m.open = true, map[session.SessionID]*visit{}
	for id, s := range m.roll.live {
		if m.at < s.Deadline() && (m.user == "" || s.User == m.user) {
			v := &visit{Presence: Presence{Session: s.Session, Start: s.start, Position: s.position}, now: s.Session}
			m.found, m.open[id] = append(m.found, v), v
		}
	}
}

// changed is a use of a session that was there: it moves the deadline, unless that has passed.
func (m *moment) changed(id session.SessionID, at session.Instant, change func(*session.Session)) {
	v := m.open[id]
	switch {
	case v == nil:
	case at >= v.now.Deadline():
		m.left(v, at, session.Expired)
	default:
		change(&v.now)
	}
}

// left ends a visit, at its deadline if that came first.
func (m *moment) left(v *visit, at session.Instant, why session.EndReason) {
	if v == nil {
		return
	}
	v.Until, v.Reason = at, why
	if deadline := v.now.Deadline(); deadline <= at {
		v.Until, v.Reason = deadline, session.Expired
	}
	delete(m.open, v.ID)
}

// result is all who were there; those whose end has not been read are open, or have expired by the book's clock.
func (m *moment) result() []Presence {
	m.close()
	all := make([]Presence, 0, len(m.found))
	for _, v := range m.found {
		if m.open[v.ID] == v {
			v.Until = v.now.Deadline()
			if v.Open = m.clock < v.Until; !v.Open {
				v.Reason = session.Expired
			}
		}
		all = append(all, v.Presence)
	}
	return all
}
