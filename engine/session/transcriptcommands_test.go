package session

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// command reads one command of a transcript. What is left out takes the value a correct adapter would send: the tokens
// of session s1 are s1.a1 and s1.r1, and a refresh with s1.r1 brings s1.a2, s1.r2 and the handle s1.h2.
func (s *script) command(verb, first string) Command {
	switch Verb(verb) {
	case VerbLogin:
		return s.login(UserID(first))
	case VerbRefresh:
		return s.refresh(first)
	case VerbLogout:
		owner := s.owner(first)
		c := &Logout{User: owner.User, Session: s.names.session(first), Reason: LoggedOut,
			Generation: uint32(s.number("generation", 0))}
		for r, name := range reasonNames {
			if s.left["reason"] != nil && name == s.left["reason"][0] {
				c.Reason = EndReason(r)
				delete(s.left, "reason")
			}
		}
		return c
	case VerbTouch:
		return &Touch{User: s.owner(first).User, Session: s.names.session(first)}
	case VerbExpire:
		return &Expire{}
	case VerbIssueOneTime:
		return &IssueOneTime{User: UserID(s.text("user", "alice")), Venue: s.venue(s.text("venue", "genesis")),
			Session: s.names.session(s.text("session", "")), Token: s.names.token(first), Lifetime: s.duration("lifetime", 0)}
	case VerbVerify:
		return &Verify{User: UserID(s.text("user", "alice")), Venue: s.venue(s.text("venue", "genesis")),
			Token: s.names.token(first)}
	case VerbRevoke:
		return &Revoke{User: UserID(s.text("user", "")), Session: s.names.session(s.text("session", "")),
			Venue: s.venue(s.text("venue", "")), Client: s.text("client", ""), Before: s.instant("before"),
			All: s.text("all", "") == "yes"}
	case VerbRegister:
		return &Register{User: UserID(first), Credential: uint64(s.number("credential", 1))}
	case VerbDisable:
		return &Disable{UserID(first)}
	case VerbEnable:
		return &Enable{UserID(first)}
	case VerbUnlock:
		return &Unlock{UserID(first)}
	case VerbChangeCredential:
		return &ChangeCredential{User: UserID(first), Credential: uint64(s.number("credential", 1)), EndSessions: s.flag("end-sessions")}
	case VerbDefineResource:
		r := Resource{Name: ResourceName(first), Description: s.text("description", "")}
		r.Kind, s.err = ParseResourceKind(s.text("kind", ""))
		for _, name := range s.list("fields") {
			r.Fields = append(r.Fields, Field{Name: name, Type: "STRING"})
		}
		return &DefineResource{r}
	case VerbRemoveResource:
		return &RemoveResource{ResourceName(first)}
	}
	return nil
}

func (s *script) login(user UserID) *Login {
	name := s.text("session", "s1")
	c := &Login{User: user, Venue: s.venue(s.text("venue", "genesis")), Client: s.text("client", ""), Verdict: Matched,
		Credential: uint64(s.number("credential", 1)), Session: s.names.session(name), Access: s.names.token(name + ".a1"),
		Refresh: s.names.token(name + ".r1"), Bound: s.flag("bound"), Scopes: s.list("scopes")}
	switch {
	case s.flag("wrong"):
		c.Verdict = Mismatched
	case s.flag("no-such-user"):
		c.Verdict, c.Credential = NoSuchUser, 0
	case s.flag("no-verdict"):
		c.Verdict = 0
	}
	return c
}

func (s *script) refresh(name string) *Refresh {
	presented := s.text("with", "r1")
	n, err := strconv.Atoi(strings.TrimPrefix(presented, "r"))
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("with=%s: refresh tokens are called r1, r2, ...", presented)
	}
	n = s.number("as", n+1)
	owner := s.owner(name)
	return &Refresh{User: owner.User, Venue: owner.Venue, Session: s.names.session(name),
		Presented: s.names.token(name + "." + presented), Handle: Handle(s.names.session(fmt.Sprintf("%s.h%d", name, n))),
		Access: s.names.token(fmt.Sprintf("%s.a%d", name, n)), Refresh: s.names.token(fmt.Sprintf("%s.r%d", name, n))}
}

// owner is whose session it is, and where: as the arguments say, or else as the session's start said.
func (s *script) owner(name string) Session {
	found := Session{User: "alice", Venue: Genesis}
	for _, stored := range s.book {
		if e, err := DecodeEvent(stored); err == nil {
			if started, ok := e.(*SessionStarted); ok && started.Session == s.names.session(name) {
				found = started.Begin()
			}
		}
	}
	found.User = UserID(s.text("user", string(found.User)))
	found.Venue = s.venue(s.text("venue", found.Venue.String()))
	return found
}

func (s *script) has(key string) bool {
	_, ok := s.left[key]
	return ok
}

func (s *script) list(key string) []string {
	vals := s.left[key]
	delete(s.left, key)
	return vals
}

func (s *script) flag(key string) bool {
	given := s.has(key)
	delete(s.left, key)
	return given
}

func (s *script) text(key, otherwise string) string {
	if vals := s.list(key); len(vals) > 0 {
		return vals[0]
	}
	return otherwise
}

func (s *script) number(key string, otherwise int) int {
	n, err := strconv.Atoi(s.text(key, strconv.Itoa(otherwise)))
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %w", key, err)
	}
	return n
}

// duration reads 30s, or 30s-1ns.
func (s *script) duration(key string, otherwise time.Duration) time.Duration {
	if !s.has(key) {
		return otherwise
	}
	text := s.text(key, "")
	sum, less, found := strings.Cut(text, "-")
	d, err := time.ParseDuration(sum)
	if found && err == nil {
		var minus time.Duration
		minus, err = time.ParseDuration(less)
		d -= minus
	}
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s=%s: %w", key, text, err)
	}
	return d
}

// instant reads a time since the start, such as +30s.
func (s *script) instant(key string) Instant {
	if !s.has(key) {
		return 0
	}
	return begin.Add(s.duration(key, 0))
}

func (s *script) venue(name string) Venue {
	if name == "" {
		return NoVenue
	}
	v, err := ParseVenue(name)
	if err != nil && s.err == nil {
		s.err = err
	}
	return v
}
