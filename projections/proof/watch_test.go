package proof_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/proof"
)

// pod is a follower with a watch, of books that may have been changed on the way.
type pod struct {
	watch    *proof.Watch
	follower *projections.Follower
}

func (h *house) pod(t *testing.T, change func(*bus.StoredPage)) pod {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := proof.NewWatch(proof.WatchConfig{Key: h.key.Public(), Partitions: len(h.last), Store: h.bus, Every: 2 * time.Millisecond, Log: log})
	cfg := projections.Config{Models: []projections.Model{w}, Staleness: time.Hour, Trust: w.Err, Log: log}
	for _, p := range h.partitions() {
		cfg.Books = append(cfg.Books, &changedBook{h.bus.Book(p), change})
	}
	f := projections.NewFollower(cfg)
	running(t, f.Run)
	running(t, w.Run)
	return pod{w, f}
}

// changedBook is what a server with a damaged disk gives out.
type changedBook struct {
	*bus.Book
	change func(*bus.StoredPage)
}

func (b *changedBook) Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error {
	return b.Book.Follow(ctx, after, func(s bus.StoredPage) error {
		if b.change != nil {
			b.change(&s)
		}
		return fn(s)
	})
}

func (b *changedBook) Restore(ctx context.Context, format uint64, read func(iter.Seq2[[]byte, error]) error) (bus.Snapshot, bus.StoredPage, error) {
	return b.Book.Restore(ctx, format, read)
}

// barrier waits until the pod knows the end of the book.
func (p pod) barrier(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(t, p.follower.Barrier(ctx))
}

// TestRootsAgree: a pod that reads what was signed goes on saying yes, whether it began with the first page or a snapshot.
func TestRootsAgree(t *testing.T) {
	h := newHouse(t, 2)
	n, _ := h.notary(h.config())
	early := h.pod(t, nil)
	for range 10 {
		h.page(0, 3)
		h.page(1, 1)
	}
	h.signed(n)
	h.snapshot(0)
	late := h.pod(t, nil)
	late.barrier(t)
	for range 10 {
		h.page(0, 3)
		h.page(1, 1)
	}
	for _, p := range []pod{early, late} {
		until(t, "the roots are found to agree", func() bool {
			return p.watch.Agreed(0) == h.last[0] && p.watch.Agreed(1) == h.last[1]
		})
		p.barrier(t)
		if err := p.follower.Fresh(); err != nil {
			t.Error(err)
		}
	}
}

// refused counts the checkpoints that were not the notary's.
func (p pod) refused(t *testing.T) (n float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(p.watch)
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == "rollbook_checkpoints_refused_total" {
			n += f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return n
}

// snapshot stores a snapshot of the book as it stands, so that a pod begins there.
func (h *house) snapshot(p bus.Partition) {
	h.t.Helper()
	state := session.NewState(session.Policies{})
	book := h.bus.Book(p)
	var at bus.StoredPage
	must(h.t, book.Read(context.Background(), h.last[p]-1, h.last[p], func(page bus.StoredPage) error { at = page; return nil }))
	_, err := book.WriteSnapshot(context.Background(), bus.Snapshot{Format: session.SnapshotVersion, Written: time.Now()}, bus.Snapshot{}, at, state.Snapshot)
	must(h.t, err)
}

// TestDivergenceStopsTheYes: one event that reached this pod otherwise than it was signed, and it says yes no more, for good.
func TestDivergenceStopsTheYes(t *testing.T) {
	for name, from := range map[string]bool{"from the first page": false, "from a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 1)
			n, _ := h.notary(h.config())
			for range 5 {
				h.page(0, 3)
			}
			h.signed(n)
			var bad atomic.Uint64
			bad.Store(3)
			if from {
				h.snapshot(0)
				bad.Store(0)
			}
			p := h.pod(t, func(s *bus.StoredPage) {
				if s.Seq == bad.Load() {
					s.Data = rewrite(s.Data, func(page *bus.Page) {
						page.Events[1] = session.AppendEvent(nil, &session.UserDisabled{Header: session.Header{At: 1, User: "somebody else"}})
					})
				}
			})
			if from {
				until(t, "the roots agree before it", func() bool { h.page(0, 1); return p.watch.Agreed(0) > 0 })
				bad.Store(h.last[0] + 1)
				h.page(0, 3)
			}
			until(t, "the divergence is found", func() bool { return errors.Is(p.watch.Err(), proof.ErrDiverged) })
			h.page(0, 3)
			p.barrier(t)
			if err := p.follower.Fresh(); !errors.Is(err, proof.ErrDiverged) {
				t.Errorf("the follower is fresh: %v", err)
			}
		})
	}
}

// TestForgedCheckpointsAreNothing: a checkpoint that another key signed neither confirms nor condemns.
func TestForgedCheckpointsAreNothing(t *testing.T) {
	h := newHouse(t, 1)
	other, err := proof.NewKey(h.key.Public().Name())
	must(t, err)
	cfg := h.config()
	cfg.Key = other
	n, _ := h.notary(cfg)
	p := h.pod(t, nil)
	h.page(0, 3)
	h.signed(n)
	until(t, "the forged checkpoint is refused", func() bool { return p.refused(t) > 0 })
	p.barrier(t)
	if err := p.follower.Fresh(); err != nil || p.watch.Agreed(0) != 0 {
		t.Errorf("%v, agreed at %d", err, p.watch.Agreed(0))
	}
}
