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

// EachSession calls fn for every session that has not ended, in no order.
func (s *State) EachSession(fn func(Session)) {
	for _, l := range s.sessions {
		fn(l.Session)
	}
}

// EachResource calls fn for every resource that is defined, in no order.
func (s *State) EachResource(fn func(Resource)) {
	for _, r := range s.resources {
		fn(r)
	}
}
