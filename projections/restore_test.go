package projections_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
)

// restoring is a model that can begin with a state; it remembers which users the state had.
type restoring struct {
	seen
	once     sync.Mutex
	restored []session.UserID
	at       session.Instant
	asked    []session.UserID // whom to look for in a state
}

func (m *restoring) Restore(page projections.Page, state *session.State) error {
	m.once.Lock()
	defer m.once.Unlock()
	m.at = page.Time
	for _, user := range m.asked {
		if _, known := state.User(user); known {
			m.restored = append(m.restored, user)
		}
	}
	return nil
}

// snapshot stores a snapshot of the book as it stands, with these users.
func (r *rig) snapshot(p bus.Partition, users ...session.UserID) bus.Snapshot {
	r.t.Helper()
	state := session.NewState(session.Policies{})
	for _, user := range users {
		state.Apply(&session.UserRegistered{Header: session.Header{At: 1, User: user}, Credential: 1})
	}
	book := r.bus.Book(p)
	var at bus.StoredPage
	must(r.t, book.Read(context.Background(), r.last[p]-1, r.last[p], func(page bus.StoredPage) error { at = page; return nil }))
	s, err := book.WriteSnapshot(context.Background(), bus.Snapshot{Format: session.SnapshotVersion, Written: time.Now()}, bus.Snapshot{}, at, state.Snapshot)
	must(r.t, err)
	return s
}

// TestBeginWithSnapshot: models that can begin with a snapshot see its state and the pages after it, and the position is
// the snapshot's from then on, not before.
func TestBeginWithSnapshot(t *testing.T) {
	r := newRig(t, 2)
	r.append(0, "first")
	at := r.append(0, "second")
	r.snapshot(0, "first", "second")
	tail := r.append(0, "third")
	other := r.append(1, "elsewhere")
	model := &restoring{asked: []session.UserID{"first", "second", "third", "elsewhere"}}
	f, _ := r.follow(model)
	must(t, f.Await(timeout(t), at))
	if len(model.restored) != 2 || model.at != 1 {
		t.Errorf("at its position the model had restored %v as of %d", model.restored, model.at)
	}
	must(t, f.Await(timeout(t), tail))
	must(t, f.Await(timeout(t), other))
	must(t, f.Barrier(timeout(t)))
	for user, want := range map[session.UserID]int{"first": 0, "second": 0, "third": 1, "elsewhere": 1} {
		if got := model.count(user); got != want {
			t.Errorf("the page of %s was applied %d times, want %d", user, got, want)
		}
	}
	if lags := f.Lags(); lags[0].Position != tail.Page || lags[0].Events != 1 || lags[0].Stuck {
		t.Errorf("%+v", lags[0])
	}
	must(t, f.Await(timeout(t), r.append(0, "fourth")))
	if model.count("fourth") != 1 {
		t.Error("a live page is missing")
	}
}

// TestNoUseOfSnapshot: with a model that cannot begin with a state, or with a damaged snapshot, all pages are read.
func TestNoUseOfSnapshot(t *testing.T) {
	r := newRig(t, 1)
	at := r.append(0, "first")
	s := r.snapshot(0, "first")
	plain, can := &seen{}, &restoring{asked: []session.UserID{"first"}}
	f, stop := r.follow(can, plain)
	must(t, f.Await(timeout(t), at))
	if can.count("first") != 1 || plain.count("first") != 1 || len(can.restored) > 0 {
		t.Error("beside a model that cannot, one began with the snapshot")
	}
	_ = stop()
	_, err := r.bus.JetStream().Publish(timeout(t), bus.SnapshotChunkSubject(0, s.Slot, 0), []byte("damaged"))
	must(t, err)
	alone := &restoring{asked: []session.UserID{"first"}}
	f, _ = r.follow(alone)
	must(t, f.Await(timeout(t), at))
	if alone.count("first") != 1 || len(alone.restored) > 0 {
		t.Error("a damaged snapshot was used")
	}
}

var _ projections.Restorer = (*restoring)(nil)
