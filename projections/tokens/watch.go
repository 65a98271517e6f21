package tokens

import (
	"rollbook/bus"
	"rollbook/engine/session"
)

// A session can be granted before its start has reached this index: the pod lags, and answers all the same. Whoever
// watches it then must not be told that it has ended, because it is not here yet. So the gate has the index expect it,
// with the position of its start, and from then on until that page it is watched like a live one.

// maxExpected bounds the sessions that are expected at once: some 4 MB. There are many only while the pod is out of
// touch with the book and goes on granting. One more than that is taken for ended, and costs its client a new login.
const maxExpected = 1 << 16

// ahead is what is known of pages that have not been applied.
type ahead struct {
	applied  map[bus.Partition]uint64            // the last page
	expected map[session.SessionID]bus.Partition // whose starts are to come
	furthest map[bus.Partition]uint64            // the last page that an expected start stands in
}

func newAhead() ahead {
	return ahead{applied: make(map[bus.Partition]uint64), expected: make(map[session.SessionID]bus.Partition),
		furthest: make(map[bus.Partition]uint64)}
}

func (a *ahead) expects(id session.SessionID) bool {
	_, expected := a.expected[id]
	return expected
}

// Expect says that the session has been started by the page at a position, which may not have been applied here yet. Of
// a page that has been, the index knows better, and nothing is expected.
func (x *Index) Expect(id session.SessionID, at bus.Position) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := &x.ahead
	if a.applied[at.Partition] >= at.Page || len(a.expected) >= maxExpected {
		return
	}
	a.expected[id] = at.Partition
	a.furthest[at.Partition] = max(a.furthest[at.Partition], at.Page)
}

// reached notes that a page has been applied. When nothing more is to come in the partition, what is still expected there
// never began; in a correct book there is no such thing, and its watchers are told that it is over.
func (x *Index) reached(p bus.Partition, page uint64) {
	a := &x.ahead
	a.applied[p] = page
	if furthest, waiting := a.furthest[p]; !waiting || page < furthest {
		return
	}
	delete(a.furthest, p)
	for id, in := range a.expected {
		if in == p {
			delete(a.expected, id)
			x.tell(id)
		}
	}
}

// Watch gives a channel that is closed when the session ends: at once, when it is neither live nor expected ([Index.Expect]).
// stop releases it.
func (x *Index) Watch(id session.SessionID) (<-chan struct{}, func()) {
	ch := make(chan struct{})
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ids[id] == 0 && !x.ahead.expects(id) {
		close(ch)
		return ch, func() {}
	}
	x.watchers[id] = append(x.watchers[id], ch)
	return ch, func() { x.unwatch(id, ch) }
}

func (x *Index) unwatch(id session.SessionID, ch chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.watchers[id]
	for i, other := range list {
		if other == ch {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(x.watchers, id)
	} else {
		x.watchers[id] = list
	}
}

// tell closes the channels of all who watch the session.
func (x *Index) tell(id session.SessionID) {
	for _, ch := range x.watchers[id] {
		close(ch)
	}
	delete(x.watchers, id)
}
