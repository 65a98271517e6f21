package session

// Standing is what the book knows of one user.
type Standing struct {
	Disabled    bool
	LockedUntil Instant // zero or past: not locked; [Forever]: until an operator unlocks
	Failures    uint32  // consecutive failed logins
	LastLogin   Instant
	Credential  uint64 // generation of the verifier that counts
	Sessions    int    // that have not ended
}

// User is the standing of a registered user.
func (s *State) User(id UserID) (Standing, bool) {
	u := s.users[id]
	if u == nil || !u.registered {
		return Standing{}, false
	}
	return Standing{Disabled: u.disabled, LockedUntil: u.lockedUntil, Failures: u.failures, LastLogin: u.lastLogin,
		Credential: u.credential, Sessions: len(u.sessions)}, true
}

// Session is the session of that id, if it has not ended.
func (s *State) Session(id SessionID) (Session, bool) {
	l := s.sessions[id]
	if l == nil {
		return Session{}, false
	}
	return l.Session, true
}

// EachSession calls fn for every session that has not ended: those of one user together, in order of their start.
func (s *State) EachSession(fn func(Session)) {
	for _, u := range s.users {
		for _, l := range u.sessions {
			fn(l.Session)
		}
	}
}

// OlderSpent lists the refresh tokens that rotations of a live session replaced before the one in [Session.Spent], in
// order. The slice is the state's: read only.
func (s *State) OlderSpent(id SessionID) []TokenKey {
	if l := s.sessions[id]; l != nil {
		return l.older
	}
	return nil
}

// EachEnded calls fn for every session that the state remembers to have ended, in order of time: of the session, its ID,
// Handle, User and Venue alone.
func (s *State) EachEnded(fn func(ended Session, at Instant)) {
	for _, e := range s.endings {
		fn(Session{ID: e.id, Handle: e.handle, User: e.user, Venue: e.venue}, s.ended[e.id])
	}
}

// EachOneTime calls fn for every one-time token that is open, those of one user in the order of their issue, as the event
// that issued it, without its time and what it replaced.
func (s *State) EachOneTime(fn func(*OneTimeIssued)) {
	for _, u := range s.users {
		for _, t := range u.open {
			fn(&OneTimeIssued{Header: Header{User: t.user}, Venue: t.venue, Session: t.session, Token: t.token, Until: t.until})
		}
	}
}

// EachResource calls fn for every resource that is defined, in the order in which they were first defined.
func (s *State) EachResource(fn func(Resource)) {
	for _, name := range s.defined {
		fn(s.resources[name])
	}
}
