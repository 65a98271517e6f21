package session

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// pageRoom is what the events of one command may take, in bytes, so that a page with their lengths and the answer stays
// under 256 KiB.
const pageRoom = 240 << 10

// TestOneCommandFitsOnePage: the events of each command that leads to many are measured at their largest.
func TestOneCommandFitsOnePage(t *testing.T) {
	longest := UserID(strings.Repeat("u", 64))
	crowded := func() *State {
		policies := DefaultPolicies()
		for v, p := range policies.Venues {
			p.MaxSessions, p.Absolute, p.Idle = MaxSessionsPerUser, 24*time.Hour, 0
			policies.Venues[v] = p
		}
		s := NewState(policies)
		fill(t, s, &Register{User: longest, Credential: 1})
		for n := range uint64(5 * MaxSessionsPerUser) {
			fill(t, s, crowd(longest, Venue(1+n%5), n))
		}
		return s
	}
	s := crowded()
	if s.Sessions() != 5*MaxSessionsPerUser {
		t.Fatalf("the user has %d sessions", s.Sessions())
	}
	if events, _ := s.Decide(crowd(longest, Genesis, 1<<40), begin); len(events) != 1 || events[0].Type() != "LoginRejected" {
		t.Fatalf("one session more leads to %v", events)
	}
	for _, cmd := range []Command{
		&Disable{longest},
		&ChangeCredential{User: longest, Credential: 1 << 63, EndSessions: true},
		&Revoke{User: longest},
		&Revoke{All: true},
	} {
		measure(t, s, cmd, begin)
	}
	measure(t, s, &Expire{}, begin.Add(48*time.Hour))

	// A limit that was lowered from the highest to one evicts all but one.
	narrowed := DefaultPolicies()
	narrowed.Venues[Zenith] = Policy{Absolute: time.Hour, OneTimeLifetime: time.Second, MaxSessions: 1, EvictOldest: true}
	s.policies = narrowed
	login := crowd(longest, Zenith, 1<<41)
	login.Client = strings.Repeat("c", maxClient)
	login.Origin = bytes.Repeat([]byte{0xFF}, maxOrigin)
	for range maxScopes {
		login.Scopes = append(login.Scopes, strings.Repeat("s", maxScope))
	}
	if events := measure(t, s, login, begin); len(events) != MaxSessionsPerUser+1 {
		t.Errorf("the login led to %d events", len(events))
	}
	login.Scopes = append(login.Scopes, "one more")
	if _, reply := s.Decide(login, begin); reply.Refusal != InvalidCommand {
		t.Errorf("more scopes than fit: %s", reply.Refusal)
	}
}

// TestManyTokensFitOnePage: a book from before there was a limit of open one-time tokens comes down to it step by step.
func TestManyTokensFitOnePage(t *testing.T) {
	s := NewState(DefaultPolicies())
	longest := UserID(strings.Repeat("u", 64))
	fill(t, s, &Register{User: longest, Credential: 1})
	const before = 3*MaxOneTimeTokens + 7
	token := func(n uint64) (hash TokenHash) {
		binary.BigEndian.PutUint64(hash[:], n+1)
		return hash
	}
	for n := range uint64(before) {
		s.Apply(&OneTimeIssued{Header: Header{begin, longest}, Venue: Genesis, Token: token(n), Until: begin.Add(time.Hour)})
	}
	for n := uint64(before); n < before+20; n++ {
		events := measure(t, s, &IssueOneTime{User: longest, Venue: Genesis, Token: token(n), Lifetime: time.Hour}, begin)
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		s.Apply(events[0])
		if found := broken(s); found != "" {
			t.Fatal(found)
		}
	}
	if _, known := s.oneTime[token(before+3)]; len(s.oneTime) != 16 || known {
		t.Errorf("%d open tokens are left, an old one among them: %t", len(s.oneTime), known)
	}
}

// TestLargestResourceFitsOnePage grows definitions in every direction until they are refused.
func TestLargestResourceFitsOnePage(t *testing.T) {
	s := NewState(DefaultPolicies())
	for name, grow := range map[string]func(r *Resource, n int){
		"description":        func(r *Resource, n int) { r.Description = strings.Repeat("d", n) },
		"empty valid values": func(r *Resource, n int) { r.Fields[0].ValidValues = make([]string, n) },
		"field labels": func(r *Resource, n int) {
			for i := range r.Fields {
				r.Fields[i].Label = strings.Repeat("l", n/len(r.Fields))
			}
		},
	} {
		accepted, refused := 0, false
		for n := 1; n < 1<<20 && !refused; n *= 2 {
			r := Resource{Name: "R", Kind: DataServer}
			for i := range MaxFields {
				r.Fields = append(r.Fields, Field{Name: "F" + string(rune('A'+i%26)) + strings.Repeat("x", i/26), Type: "ENUM"})
			}
			grow(&r, n)
			if r.Validate() != nil {
				refused = true
				continue
			}
			accepted++
			measure(t, s, &DefineResource{r}, begin)
		}
		if accepted < 10 || !refused {
			t.Errorf("%s: %d sizes accepted, the largest refused: %v", name, accepted, refused)
		}
	}
}

// measure decides without applying, and fails when the events do not fit.
func measure(t *testing.T, s *State, cmd Command, now Instant) []Event {
	t.Helper()
	events, reply := s.Decide(cmd, now)
	size := 0
	for _, e := range events {
		size += len(AppendEvent(nil, e))
	}
	if len(events) == 0 {
		t.Errorf("%s leads to nothing: %s", cmd.Verb(), reply.Refusal)
	}
	if size > pageRoom {
		t.Errorf("%s leads to %d events of %d bytes together", cmd.Verb(), len(events), size)
	}
	return events
}

// fill decides and applies.
func fill(t testing.TB, s *State, cmd Command) {
	t.Helper()
	events, reply := s.Decide(cmd, begin)
	if reply.Refusal != Accepted {
		t.Fatalf("%s: %s", cmd.Verb(), reply.Refusal)
	}
	for _, e := range events {
		s.Apply(e)
	}
}

// crowd is the n-th login of many.
func crowd(user UserID, venue Venue, n uint64) *Login {
	c := &Login{User: user, Venue: venue, Verdict: Matched, Credential: 1}
	binary.BigEndian.PutUint64(c.Session[:], n+1)
	binary.BigEndian.PutUint64(c.Access[:], n+1)
	binary.BigEndian.PutUint64(c.Refresh[8:], n+1)
	return c
}
