package feed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/bus/clustertest"
	"rollbook/projections/feed"
	"rollbook/projections/feed/feedtest"
)

func TestMain(m *testing.M) { bustest.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clustered is a fresh book of one partition on three servers.
func clustered(t testing.TB) (*clustertest.Cluster, *bus.Bus) {
	t.Helper()
	c := clustertest.Start(t, 3)
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: c.URL()})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	must(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 3}))
	return c, b
}

// TestEachEventOnce publishes two partitions through restarts of the publisher: pages without events, pages larger than a
// batch, pages that end in the middle of one.
func TestEachEventOnce(t *testing.T) {
	b := bustest.Created(t, 2)
	books := []*feedtest.Script{feedtest.Write(t, b, 0), feedtest.Write(t, b, 1)}
	for round, sizes := range [][]int{{1, 0, 1500}, {0, 3, 2100, 7}, {0}, {999, 1, 998}} {
		_, stop := feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
		for i, s := range books {
			for _, n := range sizes {
				s.Page(n + i)
			}
		}
		if round%2 == 0 {
			stop() // in the middle, wherever that is
			_, stop = feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
		}
		for _, s := range books {
			s.CaughtUp(b)
		}
		stop()
	}
	for _, s := range books {
		s.Same(b)
	}
}

// faulty is a feed whose batches fail: fault decides about each commit by its number, from 1.
type faulty struct {
	feed.Feed
	n     atomic.Int64
	fault func(n int64, commit func() (bus.FeedMarker, error)) (bus.FeedMarker, error)
}

type faultyBatch struct {
	feed.Batch
	of *faulty
}

func (f *faulty) Begin(events []bus.FeedEvent, at bus.Position) (feed.Batch, error) {
	b, err := f.Feed.Begin(events, at)
	return faultyBatch{b, f}, err
}

func (b faultyBatch) Commit(ctx context.Context, after bus.FeedMarker) (bus.FeedMarker, error) {
	return b.of.fault(b.of.n.Add(1), func() (bus.FeedMarker, error) { return b.Batch.Commit(ctx, after) })
}

// TestBatchFaults lets every second batch, of the first ones, fail in each way: not stored, and stored though nobody was
// told.
func TestBatchFaults(t *testing.T) {
	for _, fault := range []error{bus.ErrConflict, bus.ErrNotStored, bus.ErrOutcomeUnknown, bus.ErrFeedBatch, context.DeadlineExceeded} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, stored %v", fault, stored), func(t *testing.T) {
				b := bustest.Created(t, 1)
				s := feedtest.Write(t, b, 0)
				injected := atomic.Int64{}
				f := &faulty{Feed: feed.On(b.Feed(0)), fault: func(n int64, commit func() (bus.FeedMarker, error)) (bus.FeedMarker, error) {
					if n%2 == 0 || n > 8 {
						return commit()
					}
					injected.Add(1)
					if stored {
						if _, err := commit(); err != nil {
							return bus.FeedMarker{}, err
						}
					}
					return bus.FeedMarker{}, fault
				}}
				from := feedtest.Source(b, 0)
				from.Feed = f
				p, _ := feedtest.Publishing(t, from)
				for _, n := range []int{1, 1200, 5} {
					s.Page(n)
				}
				s.CaughtUp(b)
				s.Page(2)
				s.CaughtUp(b)
				s.Same(b)
				if lag := p.Lags()[0]; injected.Load() == 0 || lag.Failures == 0 {
					t.Errorf("%d faults, %+v", injected.Load(), lag)
				}
				if stored && !errors.Is(fault, bus.ErrOutcomeUnknown) && !errors.Is(fault, context.DeadlineExceeded) {
					return // no server says so of what it has stored
				}
				for end := time.Now().Add(feedtest.Patience); p.Lags()[0].Published != uint64(s.Len()); time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%d events were published, and counted are %+v", s.Len(), p.Lags()[0])
					}
				}
			})
		}
	}
}

// stopped is a feed whose n-th batch waits at its end until it is let go, as in a process that was paused.
func stopped(inner feed.Feed, at int64) (f *faulty, reached chan struct{}, let func()) {
	reached, going := make(chan struct{}), make(chan struct{})
	return &faulty{Feed: inner, fault: func(n int64, commit func() (bus.FeedMarker, error)) (bus.FeedMarker, error) {
		if n == at {
			close(reached)
			<-going
		}
		return commit()
	}}, reached, sync.OnceFunc(func() { close(going) })
}

// failOver pauses a publisher at the end of a batch, has another publish on, and lets the first go: neither a gap nor a
// double, whoever believes to be the writer.
func failOver(t *testing.T, b *bus.Bus) {
	s := feedtest.Write(t, b, 0)
	s.Page(700)
	paused, reached, let := stopped(feed.On(b.Feed(0)), 2)
	t.Cleanup(let)
	first := feedtest.Source(b, 0)
	first.Feed = paused
	p, stop := feedtest.Publishing(t, first)
	s.CaughtUp(b)
	s.Page(1300)
	select {
	case <-reached:
	case <-time.After(feedtest.Patience):
		t.Fatal("the first publisher has not come to its second batch")
	}
	other, stopOther := feedtest.Publishing(t, feedtest.Source(b, 0))
	s.Page(40)
	s.CaughtUp(b)
	let() // its batch follows a marker that is no longer the last
	for end := time.Now().Add(feedtest.Patience); p.Lags()[0].Failures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a batch of a publisher that was overtaken did not fail")
		}
	}
	// Now both believe to be the one.
	for range 30 {
		s.Page(60)
	}
	s.CaughtUp(b)
	stop()
	stopOther()
	if done := p.Lags()[0].Published + other.Lags()[0].Published; done > uint64(s.Len()) {
		t.Errorf("%d events were published, of %d", done, s.Len())
	}
	s.Same(b)
}

func TestFailOver(t *testing.T) { failOver(t, bustest.Created(t, 1)) }

func TestFailOverOnACluster(t *testing.T) {
	c, b := clustered(t)
	failOver(t, b)
	// And with the server gone that leads the feed.
	s := feedtest.Write(t, b, 0)
	_, stop := feedtest.Publishing(t, feedtest.Source(b, 0))
	for range 5 {
		s.Page(50)
	}
	if leader := c.LeaderOf(bus.StreamFeed); leader >= 0 {
		c.Stop(leader)
	}
	for range 5 {
		s.Page(50)
	}
	s.CaughtUp(b)
	stop()
	s.Same(b)
}

// TestAnotherHistory: a feed that is ahead of the book is not gone on with.
func TestAnotherHistory(t *testing.T) {
	b := bustest.Created(t, 1)
	s := feedtest.Write(t, b, 0)
	s.Page(2)
	batch, err := b.Feed(0).Begin([]bus.FeedEvent{{User: "u", Type: "SessionEnded", At: bus.Position{Page: 7}, Data: []byte{0x90}}}, bus.Position{Page: 7})
	must(t, err)
	_, err = batch.Commit(t.Context(), bus.FeedMarker{})
	must(t, err)
	p, stop := feedtest.Publishing(t, feedtest.Source(b, 0))
	for end := time.Now().Add(feedtest.Patience); p.Lags()[0].Failures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the feed goes on")
		}
	}
	stop()
	if lag := p.Lags()[0]; lag.Published != 0 {
		t.Errorf("%+v", lag)
	}
}

// TestTheMarkerStays: it is published again before retention takes it, and when it is gone nothing is published twice.
func TestTheMarkerStays(t *testing.T) {
	b := bustest.Created(t, 2)
	idle, busy := feedtest.Write(t, b, 0), feedtest.Write(t, b, 1)
	_, stop := feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
	idle.Page(3)
	idle.CaughtUp(b)
	before, err := b.Feed(0).Marker(t.Context())
	must(t, err)
	busy.Page(50)
	busy.CaughtUp(b)
	for end := time.Now().Add(feedtest.Patience); ; time.Sleep(20 * time.Millisecond) {
		now, err := b.Feed(0).Marker(t.Context())
		must(t, err)
		if now.Seq > before.Seq && now.At == before.At {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the marker is still %+v", now)
		}
	}
	idle.Page(4)
	idle.CaughtUp(b)
	stop()
	idle.Same(b)
	busy.Same(b)
}
