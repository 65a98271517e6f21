package session

import (
	"container/heap"
	"maps"
	"slices"
	"time"
)

// What the state remembers for a while. It is memory, not truth: forgetting changes no session.
const (
	lately      = 10 * time.Minute // that a session existed after it ended, so that a second logout is answered like the first; that a nonce was used
	strangeness = 24 * time.Hour   // the failures of a name nobody has, after the last of them
)

// State is everything that decides commands in one partition, folded from its events. The zero value is not usable:
// see [NewState]. One goroutine owns it.
type State struct {
	policies Policies // shapes new events; never read by Apply

	clock     Instant // the latest event's time
	users     map[UserID]*user
	sessions  map[SessionID]*live
	deadlines deadlines // the live sessions, the first to expire on top
	oneTime   map[TokenHash]*oneTime
	lapses    lapses // the one-time tokens, the first to pass its deadline on top
	resources map[ResourceName]Resource
	defined   []ResourceName        // the keys of resources, as first defined
	lifetimes map[Venue]Lifetimes   // that were set; zero: as the policy says
	nonces    map[TokenHash]Instant // used, and when

	ended     map[SessionID]Instant // when: sessions that ended lately
	endings   []ending              // the keys of ended and whose they were, in order of time
	used      []TokenHash           // the keys of nonces, in order of time
	strangers []stranger            // unregistered users with failures, roughly in order of time
}

// user is what the book knows of a user, or of a decoy that stands for a name nobody has.
type user struct {
	registered  bool
	disabled    bool
	credential  uint64 // generation of the verifier that counts
	failures    uint32 // consecutive failed logins
	rejected    uint32 // refused for another reason since the last login
	lastFailure Instant
	lockedUntil Instant
	lastLogin   Instant
	sessions    []*live    // in order of their start
	open        []*oneTime // one-time tokens, in order of their issue
}

// live is a session that has not ended, and its place among the deadlines.
type live struct {
	Session
	place int
	older []TokenKey // the refresh tokens that rotations replaced before Spent, in order: the pods tell reuse by them
}

// ending is a session that ended lately, as a second logout names it.
type ending struct {
	id     SessionID
	handle Handle
	user   UserID
	venue  Venue
}

// stranger is an unregistered user, and when to think of forgetting it next, less [strangeness].
type stranger struct {
	user  UserID
	since Instant
}

// NewState is the state before the first event.
func NewState(policies Policies) *State {
	policies.Lockout = policies.Lockout.withDefaults()
	return &State{
		policies: policies, users: make(map[UserID]*user), sessions: make(map[SessionID]*live),
		oneTime: make(map[TokenHash]*oneTime), resources: make(map[ResourceName]Resource), ended: make(map[SessionID]Instant),
		lifetimes: make(map[Venue]Lifetimes), nonces: make(map[TokenHash]Instant),
	}
}

// Clock is the time of the latest event.
func (s *State) Clock() Instant { return s.clock }

// Sessions is the number of sessions that have not ended.
func (s *State) Sessions() int { return len(s.sessions) }

// NextDeadline is when the next session expires; zero when there is none.
func (s *State) NextDeadline() Instant {
	if len(s.deadlines) == 0 {
		return 0
	}
	return s.deadlines[0].Deadline()
}

// Apply folds an event that happened into the state. It is total: an event that does not fit (which a correct writer
// never appends) changes as much as it can and breaks nothing.
func (s *State) Apply(event Event) {
	s.clock = max(s.clock, event.When())
	s.forget()
	switch e := event.(type) {
	case *UserRegistered:
		u := s.user(e.User)
		u.registered, u.credential = true, e.Credential
	case *UserDisabled:
		s.user(e.User).disabled = true
	case *UserEnabled:
		s.user(e.User).disabled = false
	case *UserUnlocked:
		u := s.user(e.User)
		u.failures, u.lockedUntil = 0, 0
	case *UserLocked:
		s.user(e.User).lockedUntil = e.Until
	case *CredentialChanged:
		s.user(e.User).credential = e.Credential
	case *LoginRejected:
		s.applyRejected(e)
	case *SessionStarted:
		s.applyStarted(e)
	case *SessionRefreshed:
		s.applyRefreshed(e)
	case *SessionTouched:
		if l := s.sessions[e.Session]; l != nil {
			e.Note(&l.Session)
			heap.Fix(&s.deadlines, l.place)
		}
	case *SessionEnded:
		s.end(e.Session)
	case *SessionsRevoked:
		for id, l := range s.sessions {
			if e.Covers(&l.Session) {
				s.end(id)
			}
		}
	case *OneTimeIssued:
		s.applyIssued(e)
	case *OneTimeRedeemed:
		if Seeded("redeemed again") {
			break
		}
		s.close(e.Token)
	case *ResourceDefined:
		if _, known := s.resources[e.Resource.Name]; !known {
			s.defined = append(s.defined, e.Resource.Name)
		}
		s.resources[e.Resource.Name] = e.Resource
	case *ResourceRemoved:
		delete(s.resources, e.Name)
		s.defined = slices.DeleteFunc(s.defined, func(n ResourceName) bool { return n == e.Name })
	case *LifetimesSet:
		s.lifetimes[e.Venue] = e.Lifetimes
	}
}

// Covers says whether the revocation ended the session.
func (e *SessionsRevoked) Covers(s *Session) bool {
	return (e.Venue == NoVenue || s.Venue == e.Venue) && (e.Client == "" || s.Client == e.Client) &&
		(e.Before == 0 || s.Started < e.Before)
}

// Begin is the session as this event started it.
func (e *SessionStarted) Begin() Session {
	return Session{
		ID: e.Session, Handle: Handle(e.Session), User: e.User, Venue: e.Venue, Client: e.Client, Bound: e.Bound,
		Pod: e.Pod, Generation: 1, Started: e.At, LastActive: e.At, Until: e.Until, Idle: e.Idle,
		Access: e.Access, AccessUntil: e.AccessUntil, AccessIdle: e.AccessIdle,
		Refresh: e.Refresh, RefreshUntil: e.RefreshUntil,
		Failed: e.Failed, Rejected: e.Rejected, PreviousLogin: e.PreviousLogin, Scopes: e.Scopes,
	}
}

// Note changes the session as this event did.
func (e *SessionTouched) Note(s *Session) {
	s.LastActive = e.At
	if e.Pod != (PodID{}) {
		s.Pod = e.Pod
	}
}

// Renew changes the session as this event did.
func (e *SessionRefreshed) Renew(s *Session) {
	if e.Pod != (PodID{}) {
		s.Pod = e.Pod
	}
	s.Generation, s.LastActive = e.Generation, e.At
	s.Handle, s.Access, s.AccessUntil = e.Handle, e.Access, e.AccessUntil
	s.RefreshUntil = e.RefreshUntil
	if e.Refresh != (TokenHash{}) {
		s.Spent, s.SpentUntil = s.Refresh, e.SpentUntil
		s.Refresh = e.Refresh
	}
}

func (s *State) applyRejected(e *LoginRejected) {
	u := s.user(e.User)
	if e.Refusal != WrongCredentials {
		u.rejected++
		return
	}
	if !u.registered && u.lastFailure == 0 {
		s.strangers = append(s.strangers, stranger{e.User, e.At})
	}
	u.failures, u.lastFailure = e.Failures, e.At
}

func (s *State) applyStarted(e *SessionStarted) {
	s.end(e.Session) // never live in a correct book
	u := s.user(e.User)
	u.failures, u.rejected, u.lockedUntil = 0, 0, 0
	u.lastLogin = e.At
	u.credential = max(u.credential, e.Credential)
	l := &live{Session: e.Begin()}
	s.sessions[e.Session] = l
	u.sessions = append(u.sessions, l)
	heap.Push(&s.deadlines, l)
	if e.Nonce != (TokenHash{}) {
		s.nonces[e.Nonce] = e.At
		s.used = append(s.used, e.Nonce)
	}
}

func (s *State) applyRefreshed(e *SessionRefreshed) {
	if l := s.sessions[e.Session]; l != nil {
		if e.Refresh != (TokenHash{}) && l.Spent != (TokenHash{}) {
			l.older = append(l.older, l.Spent.Key())
		}
		e.Renew(&l.Session)
		heap.Fix(&s.deadlines, l.place)
	}
}

// end takes a session out of everything.
func (s *State) end(id SessionID) {
	l := s.sessions[id]
	if l == nil {
		return
	}
	delete(s.sessions, id)
	heap.Remove(&s.deadlines, l.place)
	u := s.users[l.User]
	for i, other := range u.sessions {
		if other == l {
			u.sessions = append(u.sessions[:i], u.sessions[i+1:]...)
			break
		}
	}
	for _, t := range slices.Clone(u.open) {
		if t.session == id {
			s.close(t.token)
		}
	}
	s.ended[id] = s.clock
	s.endings = append(s.endings, ending{id, l.Handle, l.User, l.Venue})
}

// forget drops what is only kept for a while. It runs by the book's clock, so every replay forgets alike.
func (s *State) forget() {
	for len(s.endings) > 0 && s.ended[s.endings[0].id].Add(lately) <= s.clock {
		delete(s.ended, s.endings[0].id)
		s.endings = s.endings[1:]
	}
	for len(s.used) > 0 && s.nonces[s.used[0]].Add(lately) <= s.clock {
		delete(s.nonces, s.used[0])
		s.used = s.used[1:]
	}
	for len(s.lapses) > 0 && s.lapses[0].until <= s.clock {
		s.close(s.lapses[0].token)
	}
	for len(s.strangers) > 0 && s.strangers[0].since.Add(strangeness) <= s.clock {
		next := s.strangers[0]
		s.strangers = s.strangers[1:]
		switch u := s.users[next.user]; {
		case u == nil || u.registered || u.lockedUntil == Forever || len(u.sessions)+len(u.open) > 0:
		case u.lastFailure.Add(strangeness) > s.clock:
			s.strangers = append(s.strangers, stranger{next.user, u.lastFailure})
		default:
			delete(s.users, next.user)
		}
	}
}

// user finds or makes the record.
func (s *State) user(id UserID) *user {
	u := s.users[id]
	if u == nil {
		u = &user{}
		s.users[id] = u
	}
	return u
}

// deadlines is a heap of live sessions by deadline, then id, so that equal deadlines expire in one order everywhere.
type deadlines []*live

func (d deadlines) Len() int { return len(d) }
func (d deadlines) Less(i, j int) bool {
	a, b := d[i].Deadline(), d[j].Deadline()
	return a < b || a == b && string(d[i].ID[:]) < string(d[j].ID[:])
}
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *deadlines) Push(x any) {
	l := x.(*live)
	l.place = len(*d)
	*d = append(*d, l)
}
func (d *deadlines) Pop() any {
	old := *d
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return l
}

// due collects up to limit sessions whose deadline is at or before now, without disturbing the heap: below a session
// that is not due, none is.
func (d deadlines) due(now Instant, limit int) []*live {
	var due []*live
	var visit func(i int)
	visit = func(i int) {
		if i >= len(d) || len(due) >= limit || d[i].Deadline() > now {
			return
		}
		due = append(due, d[i])
		visit(2*i + 1)
		visit(2*i + 2)
	}
	visit(0)
	return due
}

// Pods lists the pods that the clients of bound sessions are on.
func (s *State) Pods() []PodID {
	pods := map[PodID]bool{}
	for _, l := range s.sessions {
		if l.Bound && l.Pod != (PodID{}) {
			pods[l.Pod] = true
		}
	}
	return slices.Collect(maps.Keys(pods))
}
