package session

import (
	"bytes"
	"slices"
)

// MaxExpired bounds how many sessions one Expire or PodLost ends, so that its events fit a page.
const MaxExpired = 1000

// Decide answers a command at the time now: with events, which the writer appends and then applies, or with a reply
// alone when nothing happens. It changes nothing. now must not be before [State.Clock].
//
// When there are events the reply is zero: what the one who asked is told comes from [State.Recall], so that the same
// command is answered alike when it is repeated, also after a fail-over.
func (s *State) Decide(cmd Command, now Instant) ([]Event, Reply) {
	switch c := cmd.(type) {
	case *Login:
		return s.decideLogin(c, now)
	case *Refresh:
		return s.decideRefresh(c, now)
	case *Logout:
		return s.decideLogout(c, now)
	case *Verify:
		return s.decideVerify(c, now)
	case *Touch:
		return s.decideTouch(c, now)
	case *Expire:
		return s.decideExpire(now)
	case *IssueOneTime:
		return s.decideIssue(c, now)
	case *Revoke:
		return s.decideRevoke(c, now)
	case *Register:
		return s.decideRegister(c, now)
	case *Disable:
		return s.decideDisable(c, now)
	case *Enable:
		return s.decideEnable(c, now)
	case *Unlock:
		return s.decideUnlock(c, now)
	case *ChangeCredential:
		return s.decideCredential(c, now)
	case *DefineResource:
		return s.decideDefine(c, now)
	case *RemoveResource:
		return s.decideRemove(c, now)
	case *SetLifetimes:
		return s.decideLifetimes(c, now)
	case *PodLost:
		return s.decidePodLost(c, now)
	}
	return refuse(InvalidCommand)
}

// maxClient and maxScopes bound what a client can make the book hold.
const (
	maxClient = 64
	maxScopes = 32
	maxScope  = 128
)

func (c *Login) valid() bool {
	if !c.User.Valid() || len(c.Client) > maxClient || len(c.Scopes) > maxScopes ||
		len(c.Origin) > maxOrigin || c.Verdict < Matched || c.Verdict > NoSuchUser {
		return false
	}
	for _, scope := range c.Scopes {
		if len(scope) > maxScope {
			return false
		}
	}
	return c.Session != (SessionID{}) && c.Access != (TokenHash{}) && c.Until >= 0
}

// decideLogin judges in this order: is the verdict up to date, is the account locked, was the credential right, is the
// account enabled, is there room. A locked account is refused before the verdict is looked at, so that guessing against
// it teaches nothing; a name nobody has is counted and locked like one somebody has.
func (s *State) decideLogin(c *Login, now Instant) ([]Event, Reply) {
	policy, known := s.policy(c.Venue)
	if !known || !c.valid() || (policy.Refreshable && c.Refresh == (TokenHash{})) {
		return refuse(InvalidCommand)
	}
	if c.Until != 0 && c.Until <= now {
		return refuse(ExpiredToken)
	}
	u := s.users[c.User]
	if u == nil {
		u = &user{}
	}
	if u.registered && c.Credential < u.credential {
		return refuse(StaleCredential)
	}
	rejected := &LoginRejected{Header: Header{now, c.User}, Venue: c.Venue, Verdict: c.Verdict, Client: c.Client,
		Origin: c.Origin}
	live := u.liveAt(c.Venue, now)
	switch {
	case now < u.lockedUntil:
		rejected.Refusal, rejected.RetryAt = Locked, u.lockedUntil
	case c.Verdict != Matched || !u.registered || s.nonces[c.Nonce] != 0:
		return s.countFailure(u, rejected), Reply{}
	case u.disabled:
		rejected.Refusal = Disabled
	case len(live) >= policy.limit() && !policy.EvictOldest:
		rejected.Refusal = TooManySessions
	case s.sessions[c.Session] != nil || s.ended[c.Session] != 0:
		return refuse(AlreadyExists)
	default:
		return s.startSession(c, policy, u, live, now), Reply{}
	}
	return []Event{rejected}, Reply{}
}

// countFailure makes the events of a wrong credential.
func (s *State) countFailure(u *user, rejected *LoginRejected) []Event {
	now := rejected.At
	rejected.Refusal = WrongCredentials
	rejected.Failures = u.failures + 1
	if u.lastFailure.Add(s.policies.Lockout.Forget) <= now {
		rejected.Failures = 1
	}
	events := []Event{rejected}
	if until := s.policies.Lockout.lockUntil(rejected.Failures, now); until != 0 {
		events = append(events, &UserLocked{Header: rejected.Header, Until: until, Failures: rejected.Failures})
	}
	return events
}

// startSession makes the events of an accepted login.
func (s *State) startSession(c *Login, policy Policy, u *user, live []*live, now Instant) []Event {
	var events []Event
	for len(live) >= policy.limit() {
		events = append(events, &SessionEnded{Header: Header{now, c.User}, Session: live[0].ID, Reason: Evicted})
		live = live[1:]
	}
	started := &SessionStarted{
		Header: Header{now, c.User}, Session: c.Session, Venue: c.Venue, Client: c.Client, Bound: c.Bound,
		Credential: c.Credential, Until: earliest(now.Add(policy.Absolute), c.Until), Idle: policy.Idle,
		Access: c.Access, AccessIdle: policy.AccessIdle,
		Failed: u.failures, Rejected: u.rejected, PreviousLogin: u.lastLogin, Scopes: c.Scopes,
		Nonce: c.Nonce, Origin: c.Origin,
	}
	if c.Bound {
		started.Pod = c.Pod
	}
	if policy.AccessLifetime > 0 {
		started.AccessUntil = now.Add(policy.AccessLifetime)
	}
	if policy.Refreshable {
		started.Refresh = c.Refresh
		if policy.RefreshLifetime > 0 {
			started.RefreshUntil = now.Add(policy.RefreshLifetime)
		}
	}
	return append(events, started)
}

// decideRefresh renews a session. Where the venue rotates, the token replaced last still leads to the same successor
// for a grace period, as long as the successor has not been used; any other spent token is reuse, and ends the session.
// The adapter found the session by the presented hash, so a hash that is neither the current nor the last one is an
// older one of the same session.
func (s *State) decideRefresh(c *Refresh, now Instant) ([]Event, Reply) {
	policy, known := s.policy(c.Venue)
	none := TokenHash{}
	if !known || c.Session == (SessionID{}) || c.Presented == none || c.Access == none || c.Handle == (Handle{}) ||
		len(c.Origin) > maxOrigin || (policy.Rotate && (c.Refresh == none || c.Refresh == c.Presented)) {
		return refuse(InvalidCommand)
	}
	l := s.sessions[c.Session]
	if l == nil || l.User != c.User || l.Venue != c.Venue || l.Refresh == none {
		return refuse(InvalidToken)
	}
	if now >= l.Deadline() {
		return refuse(ExpiredToken)
	}
	switch {
	case c.Presented == l.Refresh:
		if now >= l.RefreshDeadline() {
			return refuse(ExpiredToken)
		}
		return []Event{l.renewal(c, policy, now)}, Reply{}
	case l.Spent == none:
		return refuse(InvalidToken)
	case c.Presented == l.Spent && now < l.SpentUntil:
		if c.Refresh != l.Refresh || c.Access != l.Access || c.Handle != l.Handle {
			return refuse(InvalidToken) // derived with another deployment key: not the same successor
		}
		return nil, Reply{Session: l.Session, Repeated: true}
	}
	switch {
	case Seeded("grace to any generation"):
		return nil, Reply{Session: l.Session, Repeated: true}
	case Seeded("reuse is not punished"):
		return refuse(ReusedToken)
	}
	return []Event{&SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: Reused}}, Reply{}
}

func (l *live) renewal(c *Refresh, policy Policy, now Instant) *SessionRefreshed {
	e := &SessionRefreshed{Header: Header{now, l.User}, Session: l.ID, Generation: l.Generation + 1,
		Handle: c.Handle, Access: c.Access, Pod: l.moved(c.Pod), Origin: c.Origin}
	if policy.AccessLifetime > 0 {
		e.AccessUntil = now.Add(policy.AccessLifetime)
	}
	if policy.RefreshLifetime > 0 {
		e.RefreshUntil = now.Add(policy.RefreshLifetime)
	}
	if policy.Rotate {
		e.Refresh = c.Refresh
		if policy.Grace > 0 {
			e.SpentUntil = now.Add(policy.Grace)
		}
	}
	return e
}

func (s *State) decideLogout(c *Logout, now Instant) ([]Event, Reply) {
	if c.Session == (SessionID{}) || (c.Reason != LoggedOut && c.Reason != Disconnected) {
		return refuse(InvalidCommand)
	}
	l := s.sessions[c.Session]
	switch {
	case l == nil && s.ended[c.Session] != 0:
		return nil, Reply{Session: Session{ID: c.Session, User: c.User}}
	case l == nil || l.User != c.User:
		return refuse(UnknownSession)
	case c.Generation != 0 && c.Generation != l.Generation:
		return refuse(Superseded)
	case Seeded("logout is not written"):
		return nil, Reply{Session: Session{ID: c.Session, User: c.User}}
	}
	return []Event{&SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: c.Reason}}, Reply{}
}

func (s *State) decideTouch(c *Touch, now Instant) ([]Event, Reply) {
	l := s.sessions[c.Session]
	switch {
	case l == nil || l.User != c.User:
		return refuse(UnknownSession)
	case now >= l.AccessDeadline():
		return refuse(ExpiredToken) // the use was in time, its record is not: the book's clock decides
	case now == l.LastActive && l.moved(c.Pod) == (PodID{}):
		return nil, Reply{Session: l.Session}
	}
	return []Event{&SessionTouched{Header: Header{now, l.User}, Session: l.ID, Pod: l.moved(c.Pod)}}, Reply{}
}

// moved is the pod that a bound session's client has come to; zero when it is where it was.
func (l *live) moved(to PodID) PodID {
	if !l.Bound || to == l.Pod {
		return PodID{}
	}
	return to
}

// decidePodLost ends what the pod leaves behind. It looks at all sessions: pods seldom die.
func (s *State) decidePodLost(c *PodLost, now Instant) ([]Event, Reply) {
	if c.Pod == (PodID{}) {
		return refuse(InvalidCommand)
	}
	var left []*live
	for _, l := range s.sessions {
		if l.Bound && l.Pod == c.Pod {
			left = append(left, l)
		}
	}
	slices.SortFunc(left, func(a, b *live) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var events []Event
	for _, l := range left[:min(len(left), MaxExpired)] {
		events = append(events, &SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: PodGone})
	}
	return events, Reply{}
}

func (s *State) decideExpire(now Instant) ([]Event, Reply) {
	var events []Event
	for _, l := range s.deadlines.due(now, MaxExpired) {
		events = append(events, &SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: Expired})
	}
	return events, Reply{}
}

func refuse(r Refusal) ([]Event, Reply) { return nil, Reply{Refusal: r} }

// liveAt lists the user's sessions at a venue whose deadline has not passed, the oldest first.
func (u *user) liveAt(v Venue, now Instant) []*live {
	var found []*live
	for _, l := range u.sessions {
		if l.Venue == v && now < l.Deadline() {
			found = append(found, l)
		}
	}
	return found
}
