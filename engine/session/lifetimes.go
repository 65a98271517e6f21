package session

import "time"

// Lifetimes are the parts of a venue's policy that an operator changes while it runs. Zero: as the policy says.
type Lifetimes struct {
	Access  time.Duration // of an access token
	Refresh time.Duration // of a refresh token
	OneTime time.Duration // of a one-time token
}

func (l *Lifetimes) fields(c *coder) {
	c.duration(&l.Access)
	c.duration(&l.Refresh)
	c.duration(&l.OneTime)
}

// over gives l, with what is zero taken from the other.
func (l Lifetimes) over(other Lifetimes) Lifetimes {
	if l.Access == 0 {
		l.Access = other.Access
	}
	if l.Refresh == 0 {
		l.Refresh = other.Refresh
	}
	if l.OneTime == 0 {
		l.OneTime = other.OneTime
	}
	return l
}

// policy is the venue's, with the lifetimes that were set since.
func (s *State) policy(v Venue) (Policy, bool) {
	p, known := s.policies.Venues[v]
	l := s.lifetimes[v].over(Lifetimes{p.AccessLifetime, p.RefreshLifetime, p.OneTimeLifetime})
	p.AccessLifetime, p.RefreshLifetime, p.OneTimeLifetime = l.Access, l.Refresh, l.OneTime
	return p, known
}

// decideLifetimes takes lifetimes that make a valid policy: 0 < access < refresh <= 30 days where a venue has both.
func (s *State) decideLifetimes(c *SetLifetimes, now Instant) ([]Event, Reply) {
	old, known := s.policy(c.Venue)
	if !known {
		return refuse(InvalidCommand)
	}
	l := c.Lifetimes.over(Lifetimes{old.AccessLifetime, old.RefreshLifetime, old.OneTimeLifetime})
	changed := old
	changed.AccessLifetime, changed.RefreshLifetime, changed.OneTimeLifetime = l.Access, l.Refresh, l.OneTime
	const longest = 30 * 24 * time.Hour
	if changed.validate() != nil || l.Access > longest || l.Refresh > longest ||
		(l.Refresh > 0 && l.Access >= l.Refresh) || c.Lifetimes.Refresh > 0 && !old.Refreshable {
		return refuse(InvalidCommand)
	}
	if c.Lifetimes.over(s.lifetimes[c.Venue]) == s.lifetimes[c.Venue] {
		return nil, Reply{Lifetimes: l}
	}
	return []Event{&LifetimesSet{Header: Header{At: now}, Venue: c.Venue, Lifetimes: l}}, Reply{}
}
