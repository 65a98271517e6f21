package feed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"rollbook/bus"
	"rollbook/bus/clustertest"
	"rollbook/engine/session"
	"rollbook/projections/feed"
)

func TestMain(m *testing.M) {
	ats.Register() // nats-server's shared clock: started here so that it is no test's own
	code := m.Run()
	ats.Unregister()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// embedded is a fresh book of n partitions in the test's own process.
func embedded(t testing.TB, n int) *bus.Bus {
	t.Helper()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(t.Context(), "test", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, b.Create(t.Context(), bus.Layout{Partitions: n, Replicas: 1}))
	return b
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

// script writes a book, page by page.
type script struct {
	t    testing.TB
	book *bus.Book
	end  uint64
	n    int
}

func write(t testing.TB, b *bus.Bus, p bus.Partition) *script {
	return &script{t: t, book: b.Book(p)}
}

// page appends a page of so many events.
func (s *script) page(events int) {
	s.t.Helper()
	page := bus.Page{Epoch: 1, Time: int64(s.n)}
	for range events {
		s.n++
		head := session.Header{At: session.Instant(time.Now().UnixNano()), User: session.UserID(fmt.Sprintf("u-%d", s.n%7))}
		var e session.Event = &session.SessionEnded{Header: head, Session: session.SessionID{15: byte(s.n)}, Reason: session.LoggedOut}
		if s.n%3 == 0 {
			e = &session.SessionTouched{Header: head, Session: session.SessionID{14: byte(s.n)}}
		}
		page.Events = append(page.Events, session.AppendEvent(nil, e))
	}
	data, err := bus.EncodePage(page)
	must(s.t, err)
	for {
		seq, err := s.book.Append(s.t.Context(), s.end, data)
		if errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine, or a cluster without a leader: the book knows
			end, err := s.book.End(s.t.Context())
			if err == nil && end > s.end {
				s.end = end
				return
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		must(s.t, err)
		s.end = seq
		return
	}
}

// publishing runs a publisher until stop is called.
func publishing(t testing.TB, sources ...feed.Source) (p *feed.Publisher, stop func()) {
	t.Helper()
	p = feed.NewPublisher(feed.Config{Sources: sources, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the publisher ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

func always() bool { return true }

func source(b *bus.Bus, p bus.Partition) feed.Source {
	return feed.Source{Book: b.Book(p), Feed: feed.On(b.Feed(p)), Writing: always}
}

// caughtUp returns when the marker stands at the end of what was written.
func (s *script) caughtUp(b *bus.Bus) {
	s.t.Helper()
	last := s.last()
	for end := time.Now().Add(patience); ; {
		m, err := b.Feed(s.book.Partition()).Marker(s.t.Context())
		if err == nil && m.At == last {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the feed stands at %+v, %v and the book ends at %s", m, err, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// events are those of the book.
func (s *script) events() (at []bus.Position, data [][]byte) {
	s.t.Helper()
	must(s.t, s.book.Read(s.t.Context(), 0, s.end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		for i, e := range page.Events {
			at = append(at, bus.Position{Partition: s.book.Partition(), Page: stored.Seq, Index: uint32(i)})
			data = append(data, e)
		}
		return err
	}))
	return at, data
}

func (s *script) last() bus.Position {
	s.t.Helper()
	at, _ := s.events()
	return at[len(at)-1]
}

// same compares the feed with the book: each event once, in order, with the bytes, the user and the type of the book.
func (s *script) same(b *bus.Bus) {
	s.t.Helper()
	at, data := s.events()
	stream, err := b.JetStream().Stream(s.t.Context(), bus.StreamFeed)
	must(s.t, err)
	state := stream.CachedInfo().State
	n := 0
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(s.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		must(s.t, err)
		p, err := bus.ParsePosition(m.Header.Get(bus.HeaderPosition))
		must(s.t, err)
		if p.Partition != s.book.Partition() || m.Subject == bus.FeedMarkerSubject(p.Partition) {
			continue
		}
		if n == len(at) || p != at[n] || !bytes.Equal(m.Data, data[n]) {
			s.t.Fatalf("event %d of the feed is %s %s; the book has %d", n, p, m.Subject, len(at))
		}
		e, err := session.DecodeEvent(m.Data)
		must(s.t, err)
		user := string(e.(interface{ Whose() session.UserID }).Whose())
		when, err := time.Parse(time.RFC3339Nano, m.Header.Get(bus.HeaderTime))
		if m.Subject != bus.FeedSubject(p.Partition, user, string(e.Type())) || err != nil || !when.Equal(e.When().Time()) {
			s.t.Errorf("%s stands at %s with the time %s", p, m.Subject, when)
		}
		n++
	}
	if n != len(at) {
		s.t.Fatalf("the feed has %d events, the book %d", n, len(at))
	}
}

// TestEachEventOnce publishes two partitions through restarts of the publisher: pages without events, pages larger than a
// batch, pages that end in the middle of one.
func TestEachEventOnce(t *testing.T) {
	b := embedded(t, 2)
	books := []*script{write(t, b, 0), write(t, b, 1)}
	for round, sizes := range [][]int{{1, 0, 1500}, {0, 3, 2100, 7}, {0}, {999, 1, 998}} {
		_, stop := publishing(t, source(b, 0), source(b, 1))
		for i, s := range books {
			for _, n := range sizes {
				s.page(n + i)
			}
		}
		if round%2 == 0 {
			stop() // in the middle, wherever that is
			_, stop = publishing(t, source(b, 0), source(b, 1))
		}
		for _, s := range books {
			s.caughtUp(b)
		}
		stop()
	}
	for _, s := range books {
		s.same(b)
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
				b := embedded(t, 1)
				s := write(t, b, 0)
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
				from := source(b, 0)
				from.Feed = f
				p, _ := publishing(t, from)
				for _, n := range []int{1, 1200, 5} {
					s.page(n)
				}
				s.caughtUp(b)
				s.page(2)
				s.caughtUp(b)
				s.same(b)
				if lag := p.Lags()[0]; injected.Load() == 0 || lag.Failures == 0 {
					t.Errorf("%d faults, %+v", injected.Load(), lag)
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
	s := write(t, b, 0)
	s.page(700)
	paused, reached, let := stopped(feed.On(b.Feed(0)), 2)
	t.Cleanup(let)
	first := source(b, 0)
	first.Feed = paused
	p, stop := publishing(t, first)
	s.caughtUp(b)
	s.page(1300)
	select {
	case <-reached:
	case <-time.After(patience):
		t.Fatal("the first publisher has not come to its second batch")
	}
	other, stopOther := publishing(t, source(b, 0))
	s.page(40)
	s.caughtUp(b)
	let() // its batch follows a marker that is no longer the last
	for end := time.Now().Add(patience); p.Lags()[0].Failures == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a batch of a publisher that was overtaken did not fail")
		}
	}
	// Now both believe to be the one.
	for range 30 {
		s.page(60)
	}
	s.caughtUp(b)
	stop()
	stopOther()
	if done := p.Lags()[0].Published + other.Lags()[0].Published; done > uint64(s.n) {
		t.Errorf("%d events were published, of %d", done, s.n)
	}
	s.same(b)
}

func TestFailOver(t *testing.T) { failOver(t, embedded(t, 1)) }

func TestFailOverOnACluster(t *testing.T) {
	c, b := clustered(t)
	failOver(t, b)
	// And with the server gone that leads the feed.
	s := write(t, b, 0)
	end, err := s.book.End(t.Context())
	must(t, err)
	s.end = end
	_, stop := publishing(t, source(b, 0))
	for range 5 {
		s.page(50)
	}
	if leader := c.LeaderOf(bus.StreamFeed); leader >= 0 {
		c.Stop(leader)
	}
	for range 5 {
		s.page(50)
	}
	s.caughtUp(b)
	stop()
	s.same(b)
}
