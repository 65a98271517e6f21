package session

import (
	"container/heap"
	"slices"
)

// oneTime is a one-time token that is open: not redeemed, not replaced, its session not ended. One that is past its
// deadline is dropped when the clock next moves; until then its deadline speaks against it.
type oneTime struct {
	token   TokenHash
	user    UserID
	session SessionID
	venue   Venue
	until   Instant
	place   int // among the lapses
}

// decideVerify redeems a one-time token. Unknown, expired and used are one answer.
func (s *State) decideVerify(c *Verify, now Instant) ([]Event, Reply) {
	t := s.oneTime[c.Token]
	if t == nil || t.user != c.User || t.venue != c.Venue || now >= t.until {
		return refuse(InvalidToken)
	}
	if t.session != (SessionID{}) {
		if l := s.sessions[t.session]; l == nil || now >= l.Deadline() {
			return refuse(InvalidToken)
		}
	}
	if u := s.users[t.user]; u == nil || !u.registered || u.disabled {
		return refuse(InvalidToken)
	}
	return []Event{&OneTimeRedeemed{Header: Header{now, t.user}, Venue: t.venue, Token: c.Token}}, Reply{}
}

func (s *State) decideIssue(c *IssueOneTime, now Instant) ([]Event, Reply) {
	policy, known := s.policy(c.Venue)
	if !known || c.Token == (TokenHash{}) || c.Lifetime < 0 || c.Lifetime > MaxOneTime {
		return refuse(InvalidCommand)
	}
	u := s.users[c.User]
	switch {
	case u == nil || !u.registered:
		return refuse(UnknownUser)
	case u.disabled:
		return refuse(Disabled)
	case s.oneTime[c.Token] != nil:
		return refuse(AlreadyExists)
	}
	if c.Session != (SessionID{}) {
		if l := s.sessions[c.Session]; l == nil || l.User != c.User || now >= l.Deadline() {
			return refuse(UnknownSession)
		}
	}
	lifetime := policy.OneTimeLifetime
	if c.Lifetime > 0 {
		lifetime = c.Lifetime
	}
	return []Event{&OneTimeIssued{Header: Header{now, c.User}, Venue: c.Venue, Session: c.Session, Token: c.Token,
		Until: now.Add(lifetime), Replaced: u.makeRoom(c.Venue, policy.oneTimeLimit(), now)}}, Reply{}
}

// maxReplaced bounds how many tokens one takes the place of, so that its event fits a page: more than there can be,
// unless the book is from before there was a limit, or the limit was lowered. Then each one issued takes away so many.
const maxReplaced = MaxOneTimeTokens

// makeRoom lists the oldest of the user's open tokens at the venue that have to go for one more.
func (u *user) makeRoom(v Venue, limit int, now Instant) []TokenHash {
	var open []TokenHash
	for _, t := range u.open {
		if t.venue == v && now < t.until {
			open = append(open, t.token)
		}
	}
	if len(open) < limit {
		return nil
	}
	return open[:min(len(open)-limit+1, maxReplaced)]
}

func (s *State) applyIssued(e *OneTimeIssued) {
	for _, token := range e.Replaced {
		s.close(token)
	}
	s.close(e.Token) // never open in a correct book
	t := &oneTime{token: e.Token, user: e.User, session: e.Session, venue: e.Venue, until: e.Until}
	s.oneTime[e.Token] = t
	heap.Push(&s.lapses, t)
	u := s.user(e.User)
	u.open = append(u.open, t)
}

// close takes a one-time token out of everything.
func (s *State) close(token TokenHash) {
	t := s.oneTime[token]
	if t == nil {
		return
	}
	delete(s.oneTime, token)
	heap.Remove(&s.lapses, t.place)
	u := s.users[t.user]
	u.open = slices.DeleteFunc(u.open, func(other *oneTime) bool { return other == t })
}

// lapses is a heap of open one-time tokens by deadline.
type lapses []*oneTime

func (l lapses) Len() int           { return len(l) }
func (l lapses) Less(i, j int) bool { return l[i].until < l[j].until }
func (l lapses) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place, l[j].place = i, j
}
func (l *lapses) Push(x any) {
	t := x.(*oneTime)
	t.place = len(*l)
	*l = append(*l, t)
}
func (l *lapses) Pop() any {
	old := *l
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	return t
}
