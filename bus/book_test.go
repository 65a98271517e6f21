package bus_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

func TestAppendOutcomes(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	seq, err := k.Append(t.Context(), 0, []byte("one"))
	ok(t, err)
	if seq != 1 {
		t.Fatalf("the first page is %d", seq)
	}
	for _, stale := range []uint64{0, 2, 99} {
		_, err = k.Append(t.Context(), stale, []byte("stale"))
		want(t, err, bus.ErrConflict)
	}
	_, err = b.Book(5).Append(t.Context(), 0, []byte("no such book"))
	want(t, err, bus.ErrOutcomeUnknown)
	_, err = k.Append(t.Context(), 1, make([]byte, 1<<20))
	want(t, err, bus.ErrNotStored)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = k.Append(ended, 1, []byte("not sent"))
	want(t, err, bus.ErrNotStored)
	if end, err := k.End(t.Context()); err != nil || end != 1 {
		t.Errorf("the book ends at %d, %v after refusals; want 1", end, err)
	}
	ok(t, b.Close())
	_, err = k.Append(t.Context(), 1, []byte("closed"))
	want(t, err, bus.ErrOutcomeUnknown)
	_, err = k.End(t.Context())
	want(t, err, bus.ErrClosed)
}

// TestAppendToAFullBook fills a book that an operator has bounded.
func TestAppendToAFullBook(t *testing.T) {
	b := created(t, 1)
	s, err := b.JetStream().Stream(t.Context(), bus.BookStream(0))
	ok(t, err)
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs = 2
	_, err = b.JetStream().UpdateStream(t.Context(), cfg)
	ok(t, err)
	_, err = b.Open(t.Context())
	ok(t, err)
	appendPages(t, b.Book(0), 0, 2)
	_, err = b.Book(0).Append(t.Context(), 2, []byte("one too many"))
	want(t, err, bus.ErrNotStored)
	if end, err := b.Book(0).End(t.Context()); err != nil || end != 2 {
		t.Errorf("the full book ends at %d, %v", end, err)
	}
}

// TestOneOfManyWriters races writers that all believe in the same end. Exactly
// one page a round is stored; the others are told so, with certainty.
func TestOneOfManyWriters(t *testing.T) {
	e, b := startBus(t, "")
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	books := []*bus.Book{b.Book(0)}
	for range 7 {
		books = append(books, connect(t, e).Book(0))
	}
	for last := range uint64(50) {
		var wg sync.WaitGroup
		errs := make([]error, len(books))
		for i, k := range books {
			wg.Go(func() { _, errs[i] = k.Append(t.Context(), last, []byte("mine")) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case errors.Is(err, bus.ErrConflict), errors.Is(err, bus.ErrInFlight):
			default:
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("%d writers appended after %d", won, last)
		}
	}
}

func TestRead(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 40)
	for _, c := range []struct{ after, through uint64 }{{0, 40}, {0, 1}, {39, 40}, {7, 23}, {5, 5}, {9, 2}} {
		next := c.after + 1
		ok(t, k.Read(t.Context(), c.after, c.through, func(p bus.StoredPage) error {
			page, err := bus.DecodePage(p.Data)
			if err != nil || p.Seq != next || page.CommandsRead != next || time.Since(p.Stored).Abs() > time.Minute {
				t.Fatalf("read %d (%+v) stored at %s, %v; want %d", p.Seq, page, p.Stored, err, next)
			}
			next++
			return nil
		}))
		if c.after < c.through && next != c.through+1 {
			t.Errorf("reading (%d, %d] ended before %d", c.after, c.through, next)
		}
	}
	stop := errors.New("stop")
	n := 0
	want(t, k.Read(t.Context(), 0, 40, func(bus.StoredPage) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	}), stop)
	if n != 3 {
		t.Errorf("%d pages were read by a reader that stopped at 3", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	want(t, k.Read(ctx, 0, 41, func(bus.StoredPage) error { return nil }), context.DeadlineExceeded)
}

// TestReadLargePages has batches end by size.
func TestReadLargePages(t *testing.T) {
	k := created(t, 1).Book(0)
	page := make([]byte, bus.MaxPage)
	var last uint64
	for range 40 {
		var err error
		last, err = k.Append(t.Context(), last, page)
		ok(t, err)
	}
	n := 0
	ok(t, k.Read(t.Context(), 0, last, func(p bus.StoredPage) error { n += len(p.Data); return nil }))
	if n != 40*bus.MaxPage {
		t.Errorf("%d bytes were read, want %d", n, 40*bus.MaxPage)
	}
}

// TestGap makes the gap that a book can not have, in a stream made by hand.
func TestGap(t *testing.T) {
	_, b := startBus(t, "")
	s, err := b.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: bus.BookStream(0), Subjects: []string{bus.BookSubject(0)}, AllowDirect: true})
	ok(t, err)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	ok(t, s.DeleteMsg(t.Context(), 3))
	n := 0
	count := func(bus.StoredPage) error { n++; return nil }
	want(t, k.Read(t.Context(), 0, 5, count), bus.ErrGap)
	want(t, k.Follow(t.Context(), 0, count), bus.ErrGap)
	if n != 4 {
		t.Errorf("%d pages were given out, want the two before the gap, twice", n)
	}
}

// TestFollow starts in the middle and has pages arrive live, in bursts that the
// follower is too slow for.
func TestFollow(t *testing.T) {
	k := created(t, 1).Book(0)
	last := appendPages(t, k, 0, 10)
	const all = 700
	next := uint64(5)
	enough := errors.New("enough")
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-started
		appendPages(t, k, last, all-10)
	})
	err := k.Follow(soon(t), 4, func(p bus.StoredPage) error {
		if p.Seq != next {
			t.Errorf("page %d arrived, want %d", p.Seq, next)
			return enough
		}
		if next == 10 {
			close(started)
		}
		if next == 50 {
			time.Sleep(200 * time.Millisecond) // hundreds of pages are dropped meanwhile
		}
		if next++; next > all {
			return enough
		}
		return nil
	})
	wg.Wait()
	want(t, err, enough)
}

// TestFollowHearsOfWhatItMissed: a page stored without being republished is read
// once an announcement tells of it, long before the watchdog asks.
func TestFollowAnnouncement(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	s, err := b.JetStream().Stream(t.Context(), bus.BookStream(0))
	ok(t, err)
	cfg := s.CachedInfo().Config
	cfg.RePublish = nil
	_, err = b.JetStream().UpdateStream(t.Context(), cfg)
	ok(t, err)
	for name, announce := range map[string]bool{"announced": true, "by the watchdog": false} {
		t.Run(name, func(t *testing.T) {
			last, err := k.End(t.Context())
			ok(t, err)
			got := make(chan uint64, 10)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- k.Follow(ctx, 0, func(p bus.StoredPage) error { got <- p.Seq; return nil })
			}()
			for range last {
				<-got
			}
			last = appendPages(t, k, last, 1)
			deadline := time.After(30 * time.Second)
			for waiting := true; waiting; {
				if announce {
					ok(t, k.Announce(bus.Announcement{Last: last}))
				}
				select {
				case seq := <-got:
					waiting = false
					if seq != last {
						t.Errorf("page %d arrived, want %d", seq, last)
					}
				case <-time.After(10 * time.Millisecond):
				case <-deadline:
					t.Fatal("the page never arrived")
				}
			}
			cancel()
			want(t, <-done, context.Canceled)
		})
	}
}

// TestFollowAcrossARestart stops the server under a follower in "another
// process", appends while it is away, and brings the server back.
func TestFollowAcrossARestart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	listen := l.Addr().String()
	ok(t, l.Close())
	dir := t.TempDir()
	e := start(t, dir, listen)
	b := connect(t, e)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	last := appendPages(t, b.Book(0), 0, 3)

	far, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: "nats://" + listen, Creds: filepath.Join(dir, "operator.nk")})
	ok(t, err)
	got := make(chan uint64, 100)
	ctx, cancel := context.WithCancel(soon(t))
	done := make(chan error, 1)
	go func() {
		done <- far.Book(0).Follow(ctx, 0, func(p bus.StoredPage) error { got <- p.Seq; return nil })
	}()
	arrive := func(want uint64) {
		t.Helper()
		select {
		case seq := <-got:
			if seq != want {
				t.Fatalf("page %d arrived, want %d", seq, want)
			}
		case err := <-done:
			t.Fatalf("Follow ended: %v", err)
		}
	}
	for seq := range last {
		arrive(seq + 1)
	}
	e.Shutdown()
	_, err = far.Book(0).Append(t.Context(), last, []byte("nobody there"))
	want(t, err, bus.ErrOutcomeUnknown)
	hidden := start(t, dir, "") // the follower can not reach this one
	last = appendPages(t, connect(t, hidden).Book(0), last, 2)
	hidden.Shutdown()
	b = connect(t, start(t, dir, listen))
	last = appendPages(t, b.Book(0), last, 1)
	for seq := uint64(4); seq <= last; seq++ {
		arrive(seq)
	}
	cancel()
	want(t, <-done, context.Canceled)
	ok(t, far.Close())
}

func TestFollowEndsWithTheBus(t *testing.T) {
	b := created(t, 1)
	done := make(chan error, 1)
	go func() { done <- b.Book(0).Follow(t.Context(), 0, func(bus.StoredPage) error { return nil }) }()
	time.Sleep(20 * time.Millisecond)
	ok(t, b.Close())
	ok(t, b.Close())
	select {
	case err := <-done:
		want(t, err, bus.ErrClosed)
	case <-soon(t).Done():
		t.Fatal("Follow goes on after its bus was closed")
	}
}

// TestErrorsNameNoContent: what is carried never gets into an error text.
func TestErrorsNameNoContent(t *testing.T) {
	k := created(t, 1).Book(0)
	_, err := k.Append(t.Context(), 9, []byte("carried"))
	want(t, err, bus.ErrConflict)
	if strings.Contains(err.Error(), "carried") {
		t.Errorf("an error tells what is carried: %v", err)
	}
}
