package tokens_test

import (
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/tokens"
)

// waiting watches a session, and says whether its end has been told.
func waiting(t *testing.T, index *tokens.Index, id session.SessionID) (told func() bool) {
	ended, stop := index.Watch(id)
	t.Cleanup(stop)
	return func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
}

// TestWatchBeforeArrival: a session that the pod has granted and not seen yet is watched from its arrival on; of one that
// the pod has seen, and one that nobody granted, what the index holds counts.
func TestWatchBeforeArrival(t *testing.T) {
	index, seq := tokens.New(), uint64(0)
	apply := func(events ...session.Event) {
		t.Helper()
		seq++
		if err := index.Apply(projections.Page{Seq: seq, Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(page uint64) bus.Position { return bus.Position{Page: page} }
	ends := func(n int) session.Event {
		return &session.SessionEnded{Session: sessionID(n), Reason: session.LoggedOut}
	}
	apply(started(1))
	apply(ends(1), started(2))
	index.Expect(sessionID(1), at(1)) // it came, and went
	index.Expect(sessionID(2), at(2)) // it is here
	index.Expect(sessionID(3), at(4))
	index.Expect(sessionID(4), at(4))
	index.Expect(sessionID(5), at(5))
	index.Expect(sessionID(6), at(6)) // never comes, which no correct book does
	index.Expect(sessionID(7), bus.Position{Partition: 1, Page: 1})
	if !waiting(t, index, sessionID(1))() || !waiting(t, index, sessionID(8))() {
		t.Error("a session that ended, or that nobody granted, is waited for")
	}
	told := map[int]func() bool{}
	for n := 2; n <= 7; n++ {
		told[n] = waiting(t, index, sessionID(n))
	}
	are := func(when string, want ...int) {
		t.Helper()
		over := map[int]bool{}
		for _, n := range want {
			over[n] = true
		}
		for n, ended := range told {
			if ended() != over[n] {
				t.Errorf("%s: session %d has ended: %t", when, n, ended())
			}
		}
	}
	are("before they arrive")
	apply()
	are("a page before")
	apply(started(3), started(4), ends(4))
	are("after the page of two", 4)
	if !waiting(t, index, sessionID(4))() || waiting(t, index, sessionID(3))() {
		t.Error("what arrived is looked upon as if it had not")
	}
	apply(started(5))
	apply(ends(3))
	are("after the last page that is waited for", 3, 4, 6)
	if waiting(t, index, sessionID(7))() || !waiting(t, index, sessionID(6))() {
		t.Error("the pages of one partition speak for another")
	}
	apply(ends(2), ends(5))
	are("at the end", 2, 3, 4, 5, 6)
	if err := index.Apply(projections.Page{Partition: 1, Seq: 1, Events: []session.Event{started(7)}}); err != nil {
		t.Fatal(err)
	}
	are("after the other partition's page", 2, 3, 4, 5, 6)
}

// TestExpectedAreBounded: a pod that goes on granting while it sees nothing does not fill its memory.
func TestExpectedAreBounded(t *testing.T) {
	index := tokens.New()
	const many, perPage = 1<<16 + 10, 1 << 13
	for n := range many {
		index.Expect(sessionID(n), bus.Position{Page: uint64(n/perPage + 1)})
	}
	if waiting(t, index, sessionID(0))() || waiting(t, index, sessionID(1<<16-1))() || !waiting(t, index, sessionID(1<<16))() {
		t.Error("another number of sessions is expected")
	}
	const pages = many/perPage + 1
	for page := range pages {
		var events []session.Event
		for n := page * perPage; n < min(many, (page+1)*perPage); n++ {
			events = append(events, started(n))
		}
		if err := index.Apply(projections.Page{Seq: uint64(page + 1), Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	index.Expect(sessionID(many), bus.Position{Page: pages + 1})
	if waiting(t, index, sessionID(many))() || waiting(t, index, sessionID(1<<16))() {
		t.Error("the room is not given back")
	}
}
