package zenith

import (
	"fmt"
	"strings"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// identity is who a socket's client is.
type identity struct {
	session session.Session // as it was granted last: the generation that a departure ends
	token   string          // what the client restores the connection with
	ended   <-chan struct{} // closed when the session ends, wherever that happens
	stop    func()          // of the watch
	until   session.Instant // its deadline when last looked up
	expired bool            // the client has been told
}

// authority is the payload of all answers of the controller Auth, in the order of the venue's table. ExpiresIn is not
// documented; the vendor's client renews by it.
type authority struct {
	Result      string    `json:"Result"`
	AccessToken string    `json:"AccessToken,omitempty"`
	DisplayName string    `json:"DisplayName,omitempty"`
	UserID      string    `json:"UserID,omitempty"`
	ExpiryDate  string    `json:"ExpiryDate,omitempty"`
	ExpiresIn   string    `json:"ExpiresIn,omitempty"`
	Scope       *[]string `json:"Scope,omitempty"`
}

// The values of Result. The vendor's client looks for the last.
const (
	success = "Success"
	no      = "Reject"
	noToo   = "Rejected"
)

// assume makes the session that was granted the socket's own. Another one that the socket had before ends: a socket has
// one session. Its caller holds mu.
func (s *socket) assume(grant adapters.Grant) {
	defer s.nudge()
	if s.who != nil && s.who.session.ID == grant.Session.ID {
		s.who.session, s.who.token, s.who.expired = grant.Session, grant.Refresh, false
		s.who.until = grant.Session.AccessDeadline()
		s.h.linger.Renew(grant.Session)
		return
	}
	s.leave(min(s.h.cfg.Linger, 0))
	s.h.linger.Arrive(grant.Session)
	s.who = &identity{session: grant.Session, token: grant.Refresh, until: grant.Session.AccessDeadline()}
	s.who.ended, s.who.stop = s.h.gate.Watch(grant.Session.ID)
}

// leave parts from the session, which ends after linger unless its client comes back. Its caller holds mu.
func (s *socket) leave(linger time.Duration) {
	if s.who == nil {
		return
	}
	s.who.stop()
	s.h.linger.Depart(s.who.session.ID, linger)
	s.who = nil
}

// deadline is when the socket's authentication expires: as this pod knows the session now, for its use has been recorded
// meanwhile. Its caller holds mu, and there is an identity.
func (s *socket) deadline() session.Instant {
	if now, live := s.h.gate.Session(s.who.session.ID); live && now.Generation >= s.who.session.Generation {
		s.who.until = now.AccessDeadline()
	}
	return s.who.until
}

// authenticated reports whether the socket's client is somebody now. Its caller holds mu.
func (s *socket) authenticated() bool {
	return s.who != nil && session.At(s.h.cfg.Now()) < s.deadline()
}

// whoami is the payload for the socket's client. Its caller holds mu.
func (s *socket) whoami() authority {
	if !s.authenticated() {
		return authority{Result: no}
	}
	until := s.deadline()
	profile := s.h.gate.Profile(s.who.session.User)
	name := strings.TrimSpace(profile.First + " " + profile.Last)
	if name == "" && len(profile.Names) > 0 {
		name = profile.Names[0]
	}
	// What was granted, as far as the user still has it.
	scopes := []string{}
	if len(s.who.session.Scopes) > 0 {
		scopes = grantScopes(s.who.session.Scopes, s.h.rights(profile.Scopes, s.secure))
	}
	return authority{
		Result: success, AccessToken: s.who.token, DisplayName: name, UserID: string(s.who.session.User),
		ExpiryDate: until.Time().Format("2006-01-02T15:04:05Z"), ExpiresIn: timeLeft(until.Time().Sub(s.h.cfg.Now())), Scope: &scopes,
	}
}

// timeLeft is a Time without days, because the vendor's client knows none: at most 99 hours, with a fraction always.
func timeLeft(d time.Duration) string {
	d = max(0, min(d, 100*time.Hour-1))
	return fmt.Sprintf("%02d:%02d:%02d.%07d", d/time.Hour, d/time.Minute%60, d/time.Second%60, d%time.Second/100)
}
