package session

import (
	"testing"
	"time"
)

// TestUntilCapsTheSession: what a session was opened with ends it, never later and never before.
func TestUntilCapsTheSession(t *testing.T) {
	s, now := NewState(DefaultPolicies()), Instant(time.Hour)
	s.Apply(&UserRegistered{Header{now, "jane"}, 1})
	open := func(until Instant) (Session, Refusal) {
		cmd := &Login{User: "jane", Venue: Nebula, Verdict: Matched, Credential: 1, Session: SessionID{1}, Access: TokenHash{1}, Until: until}
		events, reply := s.Decide(cmd, now)
		if len(events) == 0 {
			return Session{}, reply.Refusal
		}
		return events[len(events)-1].(*SessionStarted).Begin(), reply.Refusal
	}
	if got, _ := open(now.Add(time.Minute)); got.Deadline() != now.Add(time.Minute) {
		t.Errorf("capped at a minute the session ends after %s", time.Duration(got.Deadline()-now))
	}
	if got, _ := open(now.Add(1000 * time.Hour)); got.Deadline() != now.Add(24*time.Hour) {
		t.Errorf("a later end lengthened the session to %s", time.Duration(got.Deadline()-now))
	}
	if got, _ := open(0); got.Deadline() != now.Add(24*time.Hour) {
		t.Errorf("without an end the session ends after %s", time.Duration(got.Deadline()-now))
	}
	for _, over := range []Instant{now, now - 1} {
		if _, refusal := open(over); refusal != ExpiredToken {
			t.Errorf("opened with something that is over: %s", refusal)
		}
	}
}
