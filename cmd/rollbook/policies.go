package main

import (
	"cmp"
	"time"

	"rollbook/engine/session"
)

// What a venue's sessions are bounded by: the parts of its [session.Policy] that its protocol has. The other parts are as
// [session.DefaultPolicies] has them.

// lockoutSettings are [session.Lockout].
type lockoutSettings struct {
	Threshold  uint32        `help:"Consecutive failed logins after which an account is locked for a while. 0: 5." default:"5" placeholder:"N" env:"ROLLBOOK_LOCKOUT_THRESHOLD"`
	FirstDelay time.Duration `help:"The first lock's length; each further failure doubles it. 0: 30s." default:"30s" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_FIRST_DELAY"`
	MaxDelay   time.Duration `help:"The longest lock that opens by itself. 0: 1h." default:"1h" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_MAX_DELAY"`
	Hard       uint32        `help:"Consecutive failed logins after which only an operator unlocks, 100 at the most. 0: 100." default:"100" placeholder:"N" env:"ROLLBOOK_LOCKOUT_HARD"`
	Forget     time.Duration `help:"How long after the last failed login the count is dropped. 0: 24h." default:"24h" placeholder:"TIME" env:"ROLLBOOK_LOCKOUT_FORGET"`
}

type genesisPolicy struct {
	Absolute    time.Duration `help:"How long a session lives at the most, however active. 0 is refused: there must be a limit." default:"720h" placeholder:"TIME" env:"ROLLBOOK_GENESIS_ABSOLUTE"`
	Idle        time.Duration `help:"How long after its last use a session ends; until then its refresh token is good. 0: no such limit." default:"120h" placeholder:"TIME" env:"ROLLBOOK_GENESIS_IDLE"`
	AccessIdle  time.Duration `help:"How long after its last use a session has to be refreshed. 0: no such limit." default:"30m" placeholder:"TIME" env:"ROLLBOOK_GENESIS_ACCESS_IDLE"`
	MaxSessions int           `help:"How many live sessions one user may have, at most 500. 0: 500." default:"5" placeholder:"N" env:"ROLLBOOK_GENESIS_MAX_SESSIONS"`
	EvictOldest bool          `help:"End the oldest session when there are too many. Default: no, the login is refused." env:"ROLLBOOK_GENESIS_EVICT_OLDEST"`
	Rotate      bool          `help:"Replace the refresh token at each use, and end the session when an old one comes back. Default: no, it stays the same, as the venue documents." env:"ROLLBOOK_GENESIS_ROTATE"`
	Grace       time.Duration `help:"With --genesis-rotate: how long the token replaced last still gets the same successor, at most 1m. 0: not at all." default:"0s" placeholder:"TIME" env:"ROLLBOOK_GENESIS_GRACE"`
}

type tePolicy struct {
	Absolute        time.Duration `help:"How long a session lives at the most, however active. 0 is refused: there must be a limit." default:"24h" placeholder:"TIME" env:"ROLLBOOK_TE_ABSOLUTE"`
	Idle            time.Duration `help:"How long after its last use a session ends. 0: no such limit." default:"0s" placeholder:"TIME" env:"ROLLBOOK_TE_IDLE"`
	AccessLifetime  time.Duration `help:"How long an access token is good, until an operator sets it by PATCH /connectors/settings. 0 is refused." default:"5m" placeholder:"TIME" env:"ROLLBOOK_TE_ACCESS_LIFETIME"`
	RefreshLifetime time.Duration `help:"How long a refresh token is good, until an operator sets it so; longer than an access token. 0 is refused." default:"1h" placeholder:"TIME" env:"ROLLBOOK_TE_REFRESH_LIFETIME"`
	Grace           time.Duration `help:"How long the refresh token replaced last still gets the same successor, at most 1m. 0: not at all, any second use ends the session." default:"10s" placeholder:"TIME" env:"ROLLBOOK_TE_GRACE"`
	MaxSessions     int           `help:"How many live sessions one user may have, at most 500. 0: 500." default:"0" placeholder:"N" env:"ROLLBOOK_TE_MAX_SESSIONS"`
	EvictOldest     bool          `help:"End the oldest session when there are too many. Default: no, the login is refused." env:"ROLLBOOK_TE_EVICT_OLDEST"`
	OneTimeLifetime time.Duration `help:"How long a one-time token can be redeemed, at most 24h, until an operator sets it so. 0 is refused." default:"30s" placeholder:"TIME" env:"ROLLBOOK_TE_ONE_TIME_LIFETIME"`
	OneTimeTokens   int           `help:"How many one-time tokens one user may have open, at most 500; one more takes the place of the oldest. 0: 16." default:"16" placeholder:"N" env:"ROLLBOOK_TE_ONE_TIME_TOKENS"`
}

type advAuthPolicy struct {
	Absolute    time.Duration `help:"How long a token is good. 0 is refused: there must be a limit." default:"20s" placeholder:"TIME" env:"ROLLBOOK_ADVAUTH_ABSOLUTE"`
	MaxSessions int           `help:"How many live tokens one user may have, at most 500. 0: 500." default:"0" placeholder:"N" env:"ROLLBOOK_ADVAUTH_MAX_SESSIONS"`
	EvictOldest bool          `help:"End the oldest token when there are too many. Default: no, the login is refused." env:"ROLLBOOK_ADVAUTH_EVICT_OLDEST"`
}

type zenithPolicy struct {
	Absolute       time.Duration `help:"How long a session lives at the most, however active. 0 is refused: there must be a limit." default:"24h" placeholder:"TIME" env:"ROLLBOOK_ZENITH_ABSOLUTE"`
	Idle           time.Duration `help:"How long after its last use a session ends. 0: no such limit." default:"1h" placeholder:"TIME" env:"ROLLBOOK_ZENITH_IDLE"`
	AccessLifetime time.Duration `help:"How long an authentication lasts before the token has to be presented again. 0: as long as the session." default:"1h" placeholder:"TIME" env:"ROLLBOOK_ZENITH_ACCESS_LIFETIME"`
	MaxSessions    int           `help:"How many live sessions one user may have, at most 500. 0: 500." default:"0" placeholder:"N" env:"ROLLBOOK_ZENITH_MAX_SESSIONS"`
	EvictOldest    bool          `help:"End the oldest session when there are too many. Default: no, the login is refused." env:"ROLLBOOK_ZENITH_EVICT_OLDEST"`
}

type nebulaPolicy struct {
	Absolute    time.Duration `help:"How long a session and its token live, at most 44h: the pods know each other's keys for 48. 0 is refused: there must be a limit." default:"24h" placeholder:"TIME" env:"ROLLBOOK_NEBULA_ABSOLUTE"`
	MaxSessions int           `help:"How many live sessions one user may have, at most 500. 0: 500." default:"0" placeholder:"N" env:"ROLLBOOK_NEBULA_MAX_SESSIONS"`
	EvictOldest bool          `help:"End the oldest session when there are too many. Default: no, the login is refused." env:"ROLLBOOK_NEBULA_EVICT_OLDEST"`
}

// longestNebula is below the 48 h for which a key stays on the board by what it may have been there unrenewed: two of its
// 24 renewals, of which one may fail. A token that its key may not outlive is not signed.
const longestNebula = 44 * time.Hour

// policies are the defaults of every venue with this operator's changes.
func (s *serveSettings) policies() session.Policies {
	policies := session.DefaultPolicies()
	l := s.Lockout
	policies.Lockout = session.Lockout{Threshold: l.Threshold, FirstDelay: l.FirstDelay, MaxDelay: l.MaxDelay, Hard: l.Hard, Forget: l.Forget}
	for venue, set := range map[session.Venue]func(*session.Policy){
		session.Genesis:         s.Genesis.set,
		session.TraderEvolution: s.TE.set,
		session.AdvAuth:         s.AdvAuth.set,
		session.Zenith:          s.Zenith.set,
		session.Nebula:          s.Nebula.set,
	} {
		p := policies.Venues[venue]
		set(&p)
		policies.Venues[venue] = p
	}
	return policies
}

func (s *genesisPolicy) set(p *session.Policy) {
	p.Absolute, p.Idle, p.AccessIdle, p.MaxSessions, p.EvictOldest = s.Absolute, s.Idle, s.AccessIdle, s.MaxSessions, s.EvictOldest
	p.Rotate, p.Grace = s.Rotate, s.Grace
}

func (s *tePolicy) set(p *session.Policy) {
	p.Absolute, p.Idle, p.AccessLifetime, p.RefreshLifetime = s.Absolute, s.Idle, s.AccessLifetime, s.RefreshLifetime
	p.Grace, p.MaxSessions, p.EvictOldest = s.Grace, s.MaxSessions, s.EvictOldest
	p.OneTimeLifetime, p.OneTimeTokens = s.OneTimeLifetime, s.OneTimeTokens
}

func (s *advAuthPolicy) set(p *session.Policy) {
	p.Absolute, p.MaxSessions, p.EvictOldest = s.Absolute, s.MaxSessions, s.EvictOldest
}

func (s *zenithPolicy) set(p *session.Policy) {
	p.Absolute, p.Idle, p.AccessLifetime, p.MaxSessions, p.EvictOldest = s.Absolute, s.Idle, s.AccessLifetime, s.MaxSessions, s.EvictOldest
}

func (s *nebulaPolicy) set(p *session.Policy) {
	p.Absolute, p.MaxSessions, p.EvictOldest = s.Absolute, s.MaxSessions, s.EvictOldest
}

// checkPolicies refuses limits that the engine cannot keep, and those that no operator means: such as lock everybody out.
func (s *serveSettings) checkPolicies() error {
	g, te, z := s.Genesis, s.TE, s.Zenith
	for name, limit := range map[string]time.Duration{
		"genesis-absolute": g.Absolute, "genesis-idle": g.Idle, "genesis-access-idle": g.AccessIdle,
		"te-absolute": te.Absolute, "te-idle": te.Idle, "te-access-lifetime": te.AccessLifetime, "te-refresh-lifetime": te.RefreshLifetime,
		"te-one-time-lifetime": te.OneTimeLifetime, "advauth-absolute": s.AdvAuth.Absolute,
		"zenith-absolute": z.Absolute, "zenith-idle": z.Idle, "zenith-access-lifetime": z.AccessLifetime, "nebula-absolute": s.Nebula.Absolute,
	} {
		if limit > 0 && limit < time.Second {
			return refuse("usage", "--%s %s is less than a second: nobody could use such a session", name, limit)
		}
	}
	switch {
	case te.AccessLifetime == 0 || te.RefreshLifetime == 0:
		return refuse("usage", "--te-access-lifetime and --te-refresh-lifetime must be set: the venue's clients are told both")
	case te.AccessLifetime >= te.RefreshLifetime:
		return refuse("usage", "--te-access-lifetime %s must be less than --te-refresh-lifetime %s", te.AccessLifetime, te.RefreshLifetime)
	case s.Nebula.Absolute > longestNebula:
		return refuse("usage", "--nebula-absolute %s is longer than %s: pods could not know the keys of such tokens", s.Nebula.Absolute, longestNebula)
	}
	if err := s.checkLockout(); err != nil {
		return err
	}
	if err := s.policies().Validate(); err != nil {
		return refuse("usage", "%w", err)
	}
	return nil
}

// mostFailures is how many failed logins in a row may be allowed at most (NIST SP 800-63B-4, 3.2.2).
const mostFailures = 100

func (s *serveSettings) checkLockout() error {
	// Zero is the default here too.
	usual, l := session.DefaultPolicies().Lockout, s.Lockout
	threshold, hard := cmp.Or(l.Threshold, usual.Threshold), cmp.Or(l.Hard, usual.Hard)
	first, longest := cmp.Or(l.FirstDelay, usual.FirstDelay), cmp.Or(l.MaxDelay, usual.MaxDelay)
	switch {
	case hard < threshold:
		return refuse("usage", "--lockout-hard %d is below --lockout-threshold %d: every lock would be for an operator to undo", hard, threshold)
	case hard > mostFailures:
		return refuse("usage", "--lockout-hard %d: no more than %d failed logins in a row are allowed to anybody (NIST SP 800-63B, 3.2.2)", hard, mostFailures)
	case first > longest:
		return refuse("usage", "--lockout-first-delay %s is longer than --lockout-max-delay %s", first, longest)
	}
	return nil
}
