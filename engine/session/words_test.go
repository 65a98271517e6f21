package session

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNamesOfCodes: every stored number has a name of its own, which is what stands in configuration, logs and the feed;
// a number from a newer program is printed as a number.
func TestNamesOfCodes(t *testing.T) {
	var refusals []string
	for _, r := range Refusals() {
		refusals = append(refusals, r.String())
	}
	want := strings.Fields("wrong_credentials locked disabled too_many_sessions stale_credential invalid_token expired_token " +
		"reused_token unknown_session superseded unknown_user already_exists invalid_command unknown_resource not_permitted password_unset")
	if !slices.Equal(refusals[:min(len(want), len(refusals))], want) {
		t.Errorf("the refusals are %v", refusals)
	}
	var reasons []string
	for r := LoggedOut; r <= PodGone; r++ {
		reasons = append(reasons, r.String())
	}
	if got := strings.Join(reasons, " "); got != "logout expired revoked reuse evicted disabled credential_changed disconnected pod_gone" {
		t.Errorf("the reasons are %s", got)
	}
	for v := Genesis; v <= Nebula; v++ {
		if back, err := ParseVenue(v.String()); err != nil || back != v {
			t.Errorf("%s is read as %v: %v", v, back, err)
		}
	}
	for k := EventHandler; k <= DataServer; k++ {
		if back, err := ParseResourceKind(k.String()); err != nil || back != k {
			t.Errorf("%s is read as %v: %v", k, back, err)
		}
	}
	if old, err := ParseResourceKind("REQUESTSERVER"); err != nil || old != RequestServer {
		t.Errorf("the older spelling is read as %v: %v", old, err)
	}
	for _, unknown := range []string{"", "Genesis", "operator", "DATA"} {
		if v, err := ParseVenue(unknown); err == nil || v != NoVenue {
			t.Errorf("%q is the venue %v", unknown, v)
		}
		if k, err := ParseResourceKind(unknown); err == nil || k != 0 {
			t.Errorf("%q is the kind %v", unknown, k)
		}
	}
	got := []string{Venue(99).String(), Refusal(99).String(), EndReason(99).String(), ResourceKind(99).String()}
	if !slices.Equal(got, []string{"venue-99", "refusal-99", "reason-99", "kind-99"}) {
		t.Errorf("codes from the future print as %v", got)
	}
}

func TestIDs(t *testing.T) {
	const text = "00112233-4455-6677-8899-aabbccddeeff"
	id, err := ParseSessionID(text)
	if err != nil || id.String() != text || id[0] != 0x00 || id[5] != 0x55 || id[15] != 0xff {
		t.Errorf("%s is read as %s: %v", text, id, err)
	}
	handle, err := ParseHandle(strings.ToUpper(text))
	if err != nil || handle.String() != text || handle != Handle(id) {
		t.Errorf("upper case is read as %s: %v", handle, err)
	}
	for _, bad := range []string{"", text[1:], text + "0", strings.ReplaceAll(text, "-", ""), "g" + text[1:], strings.Replace(text, "-", "0", 1)} {
		if id, err := ParseSessionID(bad); err == nil || id != (SessionID{}) {
			t.Errorf("%q is read as %s", bad, id)
		}
		if h, err := ParseHandle(bad); err == nil || h != (Handle{}) {
			t.Errorf("%q is read as %s", bad, h)
		}
	}
	for user, valid := range map[UserID]bool{"a": true, "Az09-_": true, UserID(strings.Repeat("x", 64)): true, "": false,
		UserID(strings.Repeat("x", 65)): false, "a.b": false, "a b": false, "a*": false, "a>": false, "é": false} {
		if user.Valid() != valid {
			t.Errorf("%q valid: %v", user, !valid)
		}
	}
	// FIPS 180-4's example, and the same function for texts of every length round the buffer's.
	if got := HashToken("abc"); got[0] != 0xba || got[31] != 0xad {
		t.Errorf("SHA-256 of abc is %x", got)
	}
	seen := make(map[TokenHash]int)
	for n := range 300 {
		hash := HashToken(strings.Repeat("t", n))
		if other, twice := seen[hash]; twice {
			t.Errorf("tokens of %d and %d bytes have one hash", n, other)
		}
		seen[hash] = n
	}
}

func TestInstants(t *testing.T) {
	noon := time.Date(2026, 3, 4, 12, 0, 0, 1, time.FixedZone("", 3600))
	if got := At(noon).Time(); !got.Equal(noon) || got.Location() != time.UTC {
		t.Errorf("%s comes back as %s", noon, got)
	}
	for _, c := range []struct {
		from Instant
		d    time.Duration
		want Instant
	}{{10, 5, 15}, {10, -5, 5}, {Forever, 1, Forever}, {Forever - 1, 1, Forever}, {Forever - 1, 2, Forever}, {Forever, -1, Forever - 1}} {
		if got := c.from.Add(c.d); got != c.want {
			t.Errorf("%d and %d is %d", c.from, c.d, got)
		}
	}
	if earliest() != 0 || earliest(0, 7, 0, 3) != 3 || earliest(0, 0) != 0 {
		t.Error("zero is none, and never the earliest")
	}
}

// TestPoliciesAreChecked: each rule refuses what breaks it, by the name that stands in the configuration.
func TestPoliciesAreChecked(t *testing.T) {
	if err := DefaultPolicies().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := narrow().Validate(); err != nil {
		t.Errorf("the policies of the properties: %v", err)
	}
	for word, breaks := range map[string]func(*Policies, *Policy){
		"absolute":          func(_ *Policies, p *Policy) { p.Absolute = 0 },
		"one_time_lifetime": func(_ *Policies, p *Policy) { p.OneTimeLifetime = 0 },
		"idle":              func(_ *Policies, p *Policy) { p.Idle = -1 },
		"access_lifetime":   func(_ *Policies, p *Policy) { p.AccessLifetime = -1 },
		"access_idle":       func(_ *Policies, p *Policy) { p.AccessIdle = -1 },
		"refresh_lifetime":  func(_ *Policies, p *Policy) { p.RefreshLifetime = -1 },
		"grace":             func(_ *Policies, p *Policy) { p.Grace = -1 },
		"a minute":          func(_ *Policies, p *Policy) { p.Grace = time.Minute + 1 },
		"max_sessions":      func(_ *Policies, p *Policy) { p.MaxSessions = MaxSessionsPerUser + 1 },
		"between 0 and":     func(_ *Policies, p *Policy) { p.MaxSessions = -1 },
		"one_time_tokens":   func(_ *Policies, p *Policy) { p.OneTimeTokens = MaxOneTimeTokens + 1 },
		"and 500":           func(_ *Policies, p *Policy) { p.OneTimeTokens = -1 },
		"rotate":            func(_ *Policies, p *Policy) { p.Refreshable = false },
		"lockout":           func(all *Policies, _ *Policy) { all.Lockout.FirstDelay = -1 },
		"delay":             func(all *Policies, _ *Policy) { all.Lockout.MaxDelay = -1 },
		"negative":          func(all *Policies, _ *Policy) { all.Lockout.Forget = -1 },
	} {
		all := DefaultPolicies()
		p := all.Venues[TraderEvolution]
		breaks(&all, &p)
		all.Venues[TraderEvolution] = p
		if err := all.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("broken in %s: %v", word, err)
		}
	}
}

// TestLockGrows: the delays of a lock-out whose figures are all defaults.
func TestLockGrows(t *testing.T) {
	l := Lockout{}.withDefaults()
	if l != DefaultPolicies().Lockout {
		t.Errorf("what zero means is not the default: %+v", l)
	}
	for n, want := range map[uint32]time.Duration{1: 0, 4: 0, 5: 30 * time.Second, 6: time.Minute, 7: 2 * time.Minute, 11: 32 * time.Minute,
		12: time.Hour, 13: time.Hour, 99: time.Hour} {
		at := Instant(0)
		if want > 0 {
			at = begin.Add(want)
		}
		if got := l.lockUntil(n, begin); got != at {
			t.Errorf("after %d failures it is locked for %s, not %s", n, time.Duration(got-begin), want)
		}
	}
	for _, n := range []uint32{100, 101, 1 << 31} {
		if got := l.lockUntil(n, begin); got != Forever {
			t.Errorf("after %d failures it opens at %d", n, got)
		}
	}
}

func TestResourcesAreChecked(t *testing.T) {
	sound := func() Resource {
		return Resource{Name: "ALL_TRADES", Kind: DataServer, Fields: []Field{{Name: "A", Type: "STRING"}, {Name: "B", Type: "INT"}}}
	}
	if r := sound(); r.Validate() != nil {
		t.Fatal(r.Validate())
	}
	for word, breaks := range map[string]func(*Resource){
		"resource name":     func(r *Resource) { r.Name = "" },
		"128 characters":    func(r *Resource) { r.Name = ResourceName(strings.Repeat("x", 129)) },
		"A-Z":               func(r *Resource) { r.Name = "A B" },
		"no kind":           func(r *Resource) { r.Kind = 4 },
		"request and reply": func(r *Resource) { r.Kind = RequestServer },
		"only a request":    func(r *Resource) { r.Reply = r.Fields },
		"no name":           func(r *Resource) { r.Fields[1].Name = "" },
		"no type":           func(r *Resource) { r.Fields[1].Type = "" },
		"twice":             func(r *Resource) { r.Fields[1].Name = "A" },
		"more than 500": func(r *Resource) {
			for n := range MaxFields {
				r.Fields = append(r.Fields, Field{Name: strings.Repeat("n", n+2), Type: "T"})
			}
		},
		"128 KiB": func(r *Resource) { r.Description = strings.Repeat("d", 128<<10) },
	} {
		r := sound()
		breaks(&r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
		if _, reply := NewState(Policies{}).Decide(&DefineResource{r}, begin); reply.Refusal != InvalidCommand {
			t.Errorf("%s: defined, %s", word, reply.Refusal)
		}
	}
}

// stranded is a command of no kind the state knows.
type stranded struct{ Command }

// TestInvalidCommands: what no correct adapter sends is refused without an event, one missing thing at a time.
func TestInvalidCommands(t *testing.T) {
	s := NewState(DefaultPolicies())
	fill(t, s, &Register{User: "alice", Credential: 1})
	fill(t, s, crowd("alice", TraderEvolution, 1))
	login := func(breaks func(*Login)) Command {
		c := crowd("alice", TraderEvolution, 2)
		breaks(c)
		return c
	}
	started := crowd("alice", TraderEvolution, 1)
	refresh := func(breaks func(*Refresh)) Command {
		c := &Refresh{User: "alice", Venue: TraderEvolution, Session: started.Session, Presented: started.Refresh, Handle: Handle{1},
			Access: TokenHash{1}, Refresh: TokenHash{2}}
		breaks(c)
		return c
	}
	if events, _ := s.Decide(login(func(*Login) {}), begin); len(events) != 1 {
		t.Error("the unbroken login is refused")
	}
	if events, _ := s.Decide(refresh(func(*Refresh) {}), begin); len(events) != 1 {
		t.Error("the unbroken refresh is refused")
	}
	for name, cmd := range map[string]Command{
		"login, user":           login(func(c *Login) { c.User = "a.b" }),
		"login, venue":          login(func(c *Login) { c.Venue = NoVenue }),
		"login, client":         login(func(c *Login) { c.Client = strings.Repeat("c", 65) }),
		"login, verdict":        login(func(c *Login) { c.Verdict = 4 }),
		"login, session":        login(func(c *Login) { c.Session = SessionID{} }),
		"login, access":         login(func(c *Login) { c.Access = TokenHash{} }),
		"login, refresh":        login(func(c *Login) { c.Refresh = TokenHash{} }),
		"login, scope":          login(func(c *Login) { c.Scopes = []string{strings.Repeat("s", 129)} }),
		"login, scopes":         login(func(c *Login) { c.Scopes = make([]string, 33) }),
		"refresh, venue":        refresh(func(c *Refresh) { c.Venue = NoVenue }),
		"refresh, session":      refresh(func(c *Refresh) { c.Session = SessionID{} }),
		"refresh, presented":    refresh(func(c *Refresh) { c.Presented = TokenHash{} }),
		"refresh, handle":       refresh(func(c *Refresh) { c.Handle = Handle{} }),
		"refresh, access":       refresh(func(c *Refresh) { c.Access = TokenHash{} }),
		"refresh, successor":    refresh(func(c *Refresh) { c.Refresh = TokenHash{} }),
		"refresh, itself":       refresh(func(c *Refresh) { c.Refresh = c.Presented }),
		"logout, session":       &Logout{User: "alice", Reason: LoggedOut},
		"logout, reason":        &Logout{User: "alice", Session: started.Session},
		"one-time, venue":       &IssueOneTime{User: "alice", Token: TokenHash{1}},
		"one-time, token":       &IssueOneTime{User: "alice", Venue: Genesis},
		"register, credential":  &Register{User: "bob"},
		"a command of no kind":  stranded{},
		"a resource of no kind": &DefineResource{Resource{Name: "R"}},
	} {
		if events, reply := s.Decide(cmd, begin); len(events) != 0 || reply.Refusal != InvalidCommand {
			t.Errorf("%s: %v, %s", name, events, reply.Refusal)
		}
	}
}

// TestStrangersAreForgotten: the failures of names nobody has do not pile up, but a lock that only an operator opens stays,
// and so does one whose last failure is younger.
func TestStrangersAreForgotten(t *testing.T) {
	policies := DefaultPolicies()
	policies.Lockout.Hard = 3
	s := NewState(policies)
	at := begin
	fail := func(user UserID, times int) {
		for range times {
			events, _ := s.Decide(&Login{User: user, Venue: Nebula, Verdict: NoSuchUser, Session: SessionID{1}, Access: TokenHash{1}}, at)
			for _, e := range events {
				s.Apply(e)
			}
		}
	}
	fail("once", 1)
	fail("again", 1)
	fail("locked", 3)
	at = at.Add(time.Hour)
	fail("again", 1)
	known := func() (names []string) {
		for id := range s.users {
			names = append(names, string(id))
		}
		slices.Sort(names)
		return names
	}
	tick := func(now Instant) { s.Apply(&ResourceRemoved{Header{At: now}, "none"}) }
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{24*time.Hour - 1, "again locked once"}, {24 * time.Hour, "again locked"}, {25*time.Hour - 1, "again locked"}, {25 * time.Hour, "locked"},
		{1000 * time.Hour, "locked"}} {
		tick(begin.Add(c.at))
		if got := strings.Join(known(), " "); got != c.want {
			t.Errorf("after %s it remembers %q, not %q", c.at, got, c.want)
		}
	}
	if len(s.strangers) != 0 {
		t.Errorf("%d strangers are still looked at", len(s.strangers))
	}
}
