package session

import (
	"slices"
	"testing"
	"time"
)

// TestPodLost: the death of a pod ends the bound sessions whose clients were on it last, and no others.
func TestPodLost(t *testing.T) {
	s, now := NewState(DefaultPolicies()), Instant(time.Hour)
	s.Apply(&UserRegistered{Header{now, "jane"}, 1})
	do := func(cmd Command) ([]Event, Reply) {
		now = now.Add(time.Second)
		events, reply := s.Decide(cmd, now)
		for _, e := range events {
			s.Apply(e)
		}
		if len(events) > 0 {
			reply = s.Recall(events)
		}
		return events, reply
	}
	one, other := PodID{1}, PodID{2}
	open := func(n byte, bound bool, pod PodID) {
		t.Helper()
		_, reply := do(&Login{User: "jane", Venue: Genesis, Verdict: Matched, Credential: 1, Session: SessionID{n}, Access: TokenHash{n}, Refresh: TokenHash{100 + n},
			Bound: bound, Pod: pod})
		if reply.Refusal != Accepted || bound != (reply.Session.Pod == pod) {
			t.Fatalf("session %d: %s, on pod %s", n, reply.Refusal, reply.Session.Pod)
		}
	}
	open(1, true, one)   // stays
	open(2, true, one)   // is used at the other pod
	open(3, true, one)   // is refreshed at the other pod
	open(4, false, one)  // is bound to no connection
	open(5, true, other) // comes from the other pod, and is not used there
	do(&Touch{User: "jane", Session: SessionID{2}, Pod: other})
	do(&Refresh{User: "jane", Venue: Genesis, Session: SessionID{3}, Presented: TokenHash{103}, Access: TokenHash{33}, Handle: Handle{33}, Refresh: TokenHash{103}, Pod: other})
	do(&Touch{User: "jane", Session: SessionID{4}, Pod: other})
	do(&Touch{User: "jane", Session: SessionID{5}, Pod: one})

	var ended []byte
	lose := func(pod PodID) uint64 {
		events, reply := do(&PodLost{Pod: pod})
		for _, e := range events {
			if e := e.(*SessionEnded); e.Reason == PodGone {
				ended = append(ended, e.Session[0])
			}
		}
		return reply.Count
	}
	if n := lose(one); n != 2 || !slices.Equal(ended, []byte{1, 5}) {
		t.Errorf("%d ended: %v", n, ended)
	}
	if n := lose(one); n != 0 {
		t.Errorf("%d more ended", n)
	}
	if n := lose(other); n != 2 || !slices.Equal(ended, []byte{1, 5, 2, 3}) {
		t.Errorf("%d ended: %v", n, ended)
	}
	if _, reply := s.Decide(&PodLost{}, now); reply.Refusal != InvalidCommand || s.Sessions() != 1 {
		t.Errorf("no pod at all: %s, %d sessions left", reply.Refusal, s.Sessions())
	}
}

// TestPodLostFitsAPage: however many clients a pod had, one command ends no more than a page takes.
func TestPodLostFitsAPage(t *testing.T) {
	s, now := NewState(DefaultPolicies()), Instant(time.Hour)
	for n := range 2*MaxExpired + 1 {
		id := SessionID{1, byte(n >> 8), byte(n)}
		s.Apply(&SessionStarted{Header: Header{now, "jane"}, Session: id, Venue: Genesis, Bound: true, Until: now.Add(time.Hour), Pod: PodID{1}})
	}
	for _, want := range []int{MaxExpired, MaxExpired, 1, 0} {
		events, _ := s.Decide(&PodLost{Pod: PodID{1}}, now)
		for _, e := range events {
			s.Apply(e)
		}
		if len(events) != want {
			t.Errorf("%d events, want %d", len(events), want)
		}
	}
}

// TestTouchMovesAtOnce: a client that comes to another pod in the very instant of its last use is known to be there.
func TestTouchMovesAtOnce(t *testing.T) {
	s, now := NewState(DefaultPolicies()), Instant(time.Hour)
	s.Apply(&SessionStarted{Header: Header{now, "jane"}, Session: SessionID{1}, Venue: Genesis, Bound: true, Until: now.Add(time.Hour), Pod: PodID{1}})
	for pod, want := range map[PodID]int{{1}: 0, {2}: 1, {}: 0} {
		if events, _ := s.Decide(&Touch{User: "jane", Session: SessionID{1}, Pod: pod}, now); len(events) != want {
			t.Errorf("to pod %s: %d events", pod, len(events))
		}
	}
}
