package session

import "reflect"

// The operator's commands. Asking for what already is so is accepted without an event.

func (s *State) decideRegister(c *Register, now Instant) ([]Event, Reply) {
	if !c.User.Valid() || c.Credential == 0 {
		return refuse(InvalidCommand)
	}
	if u := s.users[c.User]; u != nil && u.registered {
		return refuse(AlreadyExists)
	}
	return []Event{&UserRegistered{Header: Header{now, c.User}, Credential: c.Credential}}, Reply{}
}

func (s *State) decideDisable(c *Disable, now Instant) ([]Event, Reply) {
	u := s.users[c.User]
	switch {
	case u == nil || !u.registered:
		return refuse(UnknownUser)
	case u.disabled:
		return nil, Reply{}
	}
	return append([]Event{&UserDisabled{Header{now, c.User}}}, u.endAll(UserWasDisabled, &Revoke{}, now)...), Reply{}
}

func (s *State) decideEnable(c *Enable, now Instant) ([]Event, Reply) {
	u := s.users[c.User]
	switch {
	case u == nil || !u.registered:
		return refuse(UnknownUser)
	case !u.disabled:
		return nil, Reply{}
	}
	return []Event{&UserEnabled{Header{now, c.User}}}, Reply{}
}

func (s *State) decideUnlock(c *Unlock, now Instant) ([]Event, Reply) {
	u := s.users[c.User]
	switch {
	case u == nil || !u.registered:
		return refuse(UnknownUser)
	case u.failures == 0 && u.lockedUntil == 0:
		return nil, Reply{}
	}
	return []Event{&UserUnlocked{Header{now, c.User}}}, Reply{}
}

// decideCredential takes any newer generation: the directory is written first, and a login judged with the new verifier
// may have announced it already.
func (s *State) decideCredential(c *ChangeCredential, now Instant) ([]Event, Reply) {
	u := s.users[c.User]
	switch {
	case u == nil || !u.registered:
		return refuse(UnknownUser)
	case c.Credential < u.credential:
		return refuse(Superseded)
	}
	var events []Event
	if c.Credential > u.credential {
		events = append(events, &CredentialChanged{Header{now, c.User}, c.Credential})
	}
	if c.EndSessions {
		events = append(events, u.endAll(CredentialReset, &Revoke{}, now)...)
	}
	return events, Reply{}
}

func (s *State) decideRevoke(c *Revoke, now Instant) ([]Event, Reply) {
	if c.Session != (SessionID{}) {
		l := s.sessions[c.Session]
		switch {
		case l == nil && s.ended[c.Session] != 0:
			return nil, Reply{}
		case l == nil || (c.User != "" && l.User != c.User):
			return refuse(UnknownSession)
		}
		return []Event{&SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: Revoked}}, Reply{}
	}
	if c.User != "" {
		u := s.users[c.User]
		if u == nil || !u.registered {
			return refuse(UnknownUser)
		}
		return u.endAll(Revoked, c, now), Reply{}
	}
	if c.Venue == NoVenue && c.Client == "" && c.Before == 0 && !c.All {
		return refuse(InvalidCommand)
	}
	e := &SessionsRevoked{Header: Header{At: now}, Venue: c.Venue, Client: c.Client, Before: c.Before}
	for _, l := range s.sessions {
		if e.Covers(&l.Session) {
			e.Count++
		}
	}
	if e.Count == 0 {
		return nil, Reply{}
	}
	return []Event{e}, Reply{}
}

// endAll makes the end of each of the user's sessions that the revocation matches.
func (u *user) endAll(reason EndReason, which *Revoke, now Instant) []Event {
	match := SessionsRevoked{Venue: which.Venue, Client: which.Client, Before: which.Before}
	var events []Event
	for _, l := range u.sessions {
		if match.Covers(&l.Session) {
			events = append(events, &SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: reason})
		}
	}
	return events
}

func (s *State) decideDefine(c *DefineResource, now Instant) ([]Event, Reply) {
	if c.Resource.Validate() != nil {
		return refuse(InvalidCommand)
	}
	if old, exists := s.resources[c.Resource.Name]; exists && reflect.DeepEqual(old, c.Resource) {
		return nil, Reply{}
	}
	return []Event{&ResourceDefined{Header{At: now}, c.Resource}}, Reply{}
}

func (s *State) decideRemove(c *RemoveResource, now Instant) ([]Event, Reply) {
	if _, exists := s.resources[c.Name]; !exists {
		return refuse(UnknownResource)
	}
	return []Event{&ResourceRemoved{Header{At: now}, c.Name}}, Reply{}
}
