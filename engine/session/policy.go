package session

import (
	"errors"
	"fmt"
	"time"
)

// MaxSessionsPerUser bounds the sessions one user may hold at one venue whatever the policy says, so that ending all
// of them, at all five venues, always fits one page: an end takes up to 97 bytes, with the longest user id.
const MaxSessionsPerUser = 500

// MaxOneTime is the longest that a one-time token may wait to be redeemed.
const MaxOneTime = 24 * time.Hour

// MaxOneTimeTokens bounds the open one-time tokens that one user may have at one venue whatever the policy says.
const MaxOneTimeTokens = 500

// Policy is every limit of a venue's sessions. It shapes new events only: what is in the book keeps the deadlines it
// was written with.
type Policy struct {
	// Absolute is how long a session lives at the most, however active. Required (NIST SP 800-63B-4, 2.1.3: an
	// overall timeout shall exist).
	Absolute time.Duration `json:"absolute"`
	// Idle ends a session this long after its last recorded activity. Zero: no idle limit.
	Idle time.Duration `json:"idle"`
	// AccessLifetime is how long an access token is good after it was issued. Zero: as long as its session.
	AccessLifetime time.Duration `json:"access_lifetime"`
	// AccessIdle refuses an access token this long after the session's last recorded activity; the session can still
	// be refreshed. Zero: no idle limit.
	AccessIdle time.Duration `json:"access_idle"`
	// RefreshLifetime is how long a refresh token is good after it was issued or last used. Zero: as long as its session.
	RefreshLifetime time.Duration `json:"refresh_lifetime"`
	// Refreshable says whether sessions get a refresh token at all.
	Refreshable bool `json:"refreshable"`
	// Rotate replaces the refresh token at each use (RFC 9700, 4.14.2). Without it the token stays the same.
	Rotate bool `json:"rotate"`
	// Grace is how long the holder of a just-replaced refresh token still gets the same successor, as long as the
	// successor has not been used. Zero: strict, any second use is reuse. At most a minute.
	Grace time.Duration `json:"grace"`
	// MaxSessions is how many live sessions one user may hold at this venue. Zero: [MaxSessionsPerUser].
	MaxSessions int `json:"max_sessions"`
	// EvictOldest ends the oldest session when the limit is reached; otherwise the login is refused.
	EvictOldest bool `json:"evict_oldest"`
	// OneTimeLifetime is how long a one-time token can be redeemed. Required.
	OneTimeLifetime time.Duration `json:"one_time_lifetime"`
	// OneTimeTokens is how many one-time tokens of this venue one user may have open: issued, not redeemed, not past
	// their deadline. One more takes the place of the oldest. Zero: 16; at most [MaxOneTimeTokens].
	OneTimeTokens int `json:"one_time_tokens"`
}

// Lockout limits guessing per account, at all venues together (NIST SP 800-63B-4, 3.2.2).
type Lockout struct {
	// Threshold is the number of consecutive failures from which on an account is locked for a while. Zero: 5.
	Threshold uint32 `json:"threshold"`
	// FirstDelay is the first lock's length; each further failure doubles it. Zero: 30 s.
	FirstDelay time.Duration `json:"first_delay"`
	// MaxDelay is the longest lock that opens by itself. Zero: 1 h; at most 24 h.
	MaxDelay time.Duration `json:"max_delay"`
	// Hard is the number of consecutive failures after which only an operator unlocks. Zero: 100.
	Hard uint32 `json:"hard"`
	// Forget drops the count this long after the last failure, unless only an operator unlocks. Zero: 24 h, which is
	// also the most.
	Forget time.Duration `json:"forget"`
}

// Policies is the whole rule book: one policy a venue, one lock-out for the account.
type Policies struct {
	Venues  map[Venue]Policy
	Lockout Lockout
}

// DefaultPolicies follows each venue's documents; docs/design.md argues the figures.
func DefaultPolicies() Policies {
	return Policies{
		Lockout: Lockout{Threshold: 5, FirstDelay: 30 * time.Second, MaxDelay: time.Hour, Hard: 100, Forget: 24 * time.Hour},
		Venues: map[Venue]Policy{
			// auth-preferences: sessionTimeoutMins 30, refreshTokenExpirationMins 7200, maxSimultaneousUserLogins 5.
			Genesis: {Absolute: 30 * 24 * time.Hour, Idle: 7200 * time.Minute, AccessIdle: 30 * time.Minute,
				Refreshable: true, MaxSessions: 5, OneTimeLifetime: 30 * time.Second},
			TraderEvolution: {Absolute: 24 * time.Hour, AccessLifetime: 5 * time.Minute, RefreshLifetime: time.Hour,
				Refreshable: true, Rotate: true, Grace: 10 * time.Second, OneTimeLifetime: 30 * time.Second, OneTimeTokens: 16},
			AdvAuth: {Absolute: 20 * time.Second, OneTimeLifetime: 30 * time.Second},
			Zenith: {Absolute: 24 * time.Hour, Idle: time.Hour, AccessLifetime: time.Hour,
				Refreshable: true, OneTimeLifetime: 30 * time.Second},
			Nebula: {Absolute: 24 * time.Hour, OneTimeLifetime: 30 * time.Second},
		},
	}
}

// Validate says in one sentence what is wrong with the policies; nil when nothing is.
func (p Policies) Validate() error {
	if p.Lockout.FirstDelay < 0 || p.Lockout.MaxDelay < 0 || p.Lockout.Forget < 0 {
		return errors.New("lockout: a delay is negative")
	}
	if p.Lockout.Forget > strangeness || p.Lockout.MaxDelay > strangeness {
		return fmt.Errorf("lockout: forget and max_delay are at most %s: a name nobody has is forgotten then, and would be told by it", strangeness)
	}
	for v, policy := range p.Venues {
		if err := policy.validate(); err != nil {
			return fmt.Errorf("policy of %s: %w", v, err)
		}
	}
	return nil
}

func (p Policy) validate() error {
	for name, d := range map[string]time.Duration{"idle": p.Idle, "access_lifetime": p.AccessLifetime,
		"access_idle": p.AccessIdle, "refresh_lifetime": p.RefreshLifetime, "grace": p.Grace} {
		if d < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	switch {
	case p.Absolute <= 0:
		return errors.New("absolute must be set: a session without an overall limit is not allowed")
	case p.OneTimeLifetime <= 0 || p.OneTimeLifetime > MaxOneTime:
		return fmt.Errorf("one_time_lifetime must be set, to at most %s", MaxOneTime)
	case p.OneTimeTokens < 0 || p.OneTimeTokens > MaxOneTimeTokens:
		return fmt.Errorf("one_time_tokens must be between 0 and %d", MaxOneTimeTokens)
	case p.Grace > time.Minute:
		return errors.New("grace is longer than a minute")
	case p.MaxSessions < 0 || p.MaxSessions > MaxSessionsPerUser:
		return fmt.Errorf("max_sessions must be between 0 and %d", MaxSessionsPerUser)
	case p.Rotate && !p.Refreshable:
		return errors.New("rotate without refreshable")
	}
	return nil
}

// limit is the policy's session limit with the zero value resolved.
func (p Policy) limit() int {
	if p.MaxSessions == 0 {
		return MaxSessionsPerUser
	}
	return p.MaxSessions
}

// oneTimeLimit is the policy's limit of open one-time tokens with the zero value resolved.
func (p Policy) oneTimeLimit() int {
	if p.OneTimeTokens == 0 {
		return 16
	}
	return p.OneTimeTokens
}

// withDefaults resolves the zero values.
func (l Lockout) withDefaults() Lockout {
	if l.Threshold == 0 {
		l.Threshold = 5
	}
	if l.FirstDelay == 0 {
		l.FirstDelay = 30 * time.Second
	}
	if l.MaxDelay == 0 {
		l.MaxDelay = time.Hour
	}
	if l.Hard == 0 {
		l.Hard = 100
	}
	if l.Forget == 0 {
		l.Forget = 24 * time.Hour
	}
	return l
}

// lockUntil is when an account opens again after its n-th consecutive failure at now; zero: it is not locked.
func (l Lockout) lockUntil(n uint32, now Instant) Instant {
	switch {
	case n >= l.Hard:
		return Forever
	case n < l.Threshold:
		return 0
	}
	delay := l.FirstDelay
	for i := l.Threshold; i < n && delay < l.MaxDelay; i++ {
		delay *= 2
	}
	return now.Add(min(delay, l.MaxDelay))
}
