package tokens

import (
	"rollbook/engine/session"
	"rollbook/projections"
)

// Apply implements [projections.Model].
func (x *Index) Apply(page projections.Page) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, event := range page.Events {
		switch e := event.(type) {
		case *session.SessionStarted:
			x.start(e)
		case *session.SessionRefreshed:
			x.refresh(e)
		case *session.SessionTouched:
			x.touch(e)
		case *session.SessionEnded:
			x.end(e.Session, e.At)
		case *session.SessionsRevoked:
			x.revoke(e)
		case *session.OneTimeIssued:
			x.issue(e)
		case *session.OneTimeRedeemed:
			delete(x.oneTime, e.Token)
		}
	}
	x.forget(page.Time)
	x.reached(page.Partition, page.Seq)
	return nil
}

func (x *Index) start(e *session.SessionStarted) {
	x.end(e.Session, e.At) // never live in a correct book
	s := e.Begin()
	x.add(&s)
}

// add takes a live session into every index, after the others of its user.
func (x *Index) add(s *session.Session) slot {
	at := x.slab.take()
	r := x.slab.at(at)
	*r = record{
		id: s.ID, handle: s.Handle, user: x.user(s.User), venue: s.Venue, client: x.clients.number(s.Client), bound: s.Bound,
		generation: s.Generation, started: s.Started, lastActive: s.LastActive, until: s.Until, idle: s.Idle,
		access: s.Access, accessUntil: s.AccessUntil, accessIdle: s.AccessIdle, refresh: s.Refresh, refreshUntil: s.RefreshUntil,
		spent: s.Spent, spentUntil: s.SpentUntil,
		failed: s.Failed, rejected: s.Rejected, previousLogin: s.PreviousLogin, scopes: x.scopes.number(s.Scopes),
	}
	x.ids[s.ID] = at
	x.access.put(&s.Access, x.live(r))
	if s.Refresh != (session.TokenHash{}) {
		x.tokens[keyOf(s.Refresh)] = placeOf(at, session.RefreshToken)
	}
	if r.handle != session.Handle(r.id) {
		x.handles[r.handle] = at
	}
	x.link(at, r)
	delete(x.ahead.expected, s.ID)
	return at
}

// noteSpent remembers a refresh token that a rotation replaced.
func (x *Index) noteSpent(at slot, k key) {
	x.tokens[k] = placeOf(at, session.SpentToken)
	x.spent[at] = append(x.spent[at], k)
}

func (x *Index) refresh(e *session.SessionRefreshed) {
	at := x.ids[e.Session]
	if at == 0 {
		return
	}
	r := x.slab.at(at)
	x.access.remove(&r.access)
	x.dropHandle(r)
	old := r.refresh
	s := x.session(r)
	e.Renew(&s)
	r.generation, r.lastActive, r.handle = s.Generation, s.LastActive, s.Handle
	r.access, r.accessUntil = s.Access, s.AccessUntil
	r.refresh, r.refreshUntil, r.spent, r.spentUntil = s.Refresh, s.RefreshUntil, s.Spent, s.SpentUntil
	x.access.put(&r.access, x.live(r))
	if old != r.refresh {
		x.noteSpent(at, keyOf(old))
		x.tokens[keyOf(r.refresh)] = placeOf(at, session.RefreshToken)
	}
	if r.handle != session.Handle(r.id) {
		x.handles[r.handle] = at
	}
}

func (x *Index) touch(e *session.SessionTouched) {
	at := x.ids[e.Session]
	if at == 0 {
		return
	}
	r := x.slab.at(at)
	r.lastActive = e.At
	x.access.put(&r.access, x.live(r))
}

// live is what the table of access tokens holds of a session. Its user is the interned string, not a copy.
func (x *Index) live(r *record) session.Live {
	s := x.session(r)
	return s.Live()
}

func (x *Index) revoke(e *session.SessionsRevoked) {
	for id, at := range x.ids {
		s := x.session(x.slab.at(at))
		if e.Covers(&s) {
			x.end(id, e.At)
		}
	}
}

// end takes a session out of every index and tells those who watch it.
func (x *Index) end(id session.SessionID, when session.Instant) {
	at := x.ids[id]
	if at == 0 {
		return
	}
	if session.Seeded("stale yes") {
		return
	}
	r := x.slab.at(at)
	delete(x.ids, id)
	x.access.remove(&r.access)
	delete(x.tokens, keyOf(r.refresh))
	for _, k := range x.spent[at] {
		delete(x.tokens, k)
	}
	delete(x.spent, at)
	x.dropHandle(r)
	x.ended[r.handle] = ended{session.Session{ID: id, Handle: r.handle, User: x.users.list[r.user], Venue: r.venue}, when}
	x.endings = append(x.endings, r.handle)
	x.unlink(at, r)
	x.slab.free(at)
	x.tell(id)
}

func (x *Index) dropHandle(r *record) {
	if r.handle != session.Handle(r.id) {
		delete(x.handles, r.handle)
	}
}

// forget drops what is only kept for a while.
func (x *Index) forget(now session.Instant) {
	for len(x.endings) > 0 && x.ended[x.endings[0]].at+lately <= now {
		delete(x.ended, x.endings[0])
		x.endings = x.endings[1:]
	}
	x.forgetOneTime(now)
}

// user is the number of a user, with a chain for their sessions.
func (x *Index) user(id session.UserID) uint32 {
	n := x.users.number(id)
	for int(n) >= len(x.ofUser) {
		x.ofUser = append(x.ofUser, chain{})
	}
	return n
}

// link puts a session at the end of its user's chain.
func (x *Index) link(at slot, r *record) {
	c := &x.ofUser[r.user]
	r.prev, r.next = c.last, 0
	if c.last != 0 {
		x.slab.at(c.last).next = at
	} else {
		c.first = at
	}
	c.last = at
}

// unlink takes it out.
func (x *Index) unlink(at slot, r *record) {
	c := &x.ofUser[r.user]
	if r.prev != 0 {
		x.slab.at(r.prev).next = r.next
	} else {
		c.first = r.next
	}
	if r.next != 0 {
		x.slab.at(r.next).prev = r.prev
	} else {
		c.last = r.prev
	}
}
