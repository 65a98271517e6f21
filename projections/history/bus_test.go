package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine/session"
)

// startBook makes a book of one partition on an embedded bus.
func startBook(t testing.TB) *bus.Book {
	t.Helper()
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir(), Log: quiet})
	must(t, err)
	t.Cleanup(e.Shutdown)
	b, err := e.Connect(context.Background(), "test", quiet)
	must(t, err)
	must(t, b.Create(context.Background(), bus.Layout{Partitions: 1, Replicas: 1}))
	return b.Book(0)
}

// fill appends so many events of so many users, in pages of so many: logins, refreshes, and logouts of what is live.
func fill(t testing.TB, book *bus.Book, events, users, aPage int) {
	t.Helper()
	chance := rand.New(rand.NewPCG(1, 2))
	at, seq, n := base, uint64(0), 0
	live := make([]session.SessionID, users)
	var page bus.Page
	for n < events {
		page = bus.Page{Epoch: 1}
		for ; len(page.Events) < aPage && n < events; n++ {
			at += session.Instant(time.Millisecond)
			who := chance.IntN(users)
			head := session.Header{At: at, User: session.UserID(fmt.Sprintf("u-%026d", who))}
			token := session.HashToken(fmt.Sprint(n))
			var e session.Event
			switch id := live[who]; {
			case id == session.SessionID{}:
				live[who] = session.SessionID(token[:16])
				e = &session.SessionStarted{Header: head, Session: live[who], Venue: session.Genesis, Client: "desk", Credential: 1,
					Until: at.Add(720 * time.Hour), Idle: 120 * time.Hour, Access: token, Refresh: token}
			case chance.IntN(3) == 0:
				live[who] = session.SessionID{}
				e = &session.SessionEnded{Header: head, Session: id, Reason: session.LoggedOut}
			default:
				e = &session.SessionRefreshed{Header: head, Session: id, Generation: 2, Access: token}
			}
			page.Events = append(page.Events, session.AppendEvent(nil, e))
		}
		page.Time = int64(at)
		data, err := bus.EncodePage(page)
		must(t, err)
		seq, err = book.Append(context.Background(), seq, data)
		must(t, err)
	}
}

// snapshotAt stores the engine's snapshot of a page.
func snapshotAt(t testing.TB, book *bus.Book, seq uint64) {
	t.Helper()
	state, at := session.NewState(session.DefaultPolicies()), bus.StoredPage{}
	must(t, book.Read(t.Context(), 0, seq, func(stored bus.StoredPage) error {
		at = stored
		p, err := open(stored)
		for i := range p.events {
			var e session.Event
			if e, err = p.event(i); err != nil {
				break
			}
			state.Apply(e)
		}
		return err
	}))
	_, err := book.WriteSnapshot(t.Context(), bus.Snapshot{Format: session.SnapshotVersion, Sessions: uint64(state.Sessions())}, bus.Snapshot{}, at, state.Snapshot)
	must(t, err)
}

// TestRangeOnTheBus: a snapshot as the engine stores it spares the pages before it, and changes no answer.
func TestRangeOnTheBus(t *testing.T) {
	book := startBook(t)
	fill(t, book, 3000, 40, 10)
	snapshotAt(t, book, 200)
	for _, c := range []struct{ from, pages uint64 }{{2900, 100}, {2001, 100}, {1999, 300}, {0, 300}} {
		q := Query{From: base.Add(time.Duration(c.from) * time.Millisecond)}
		r := NewReader(ReaderConfig{Books: []Book{book}, Log: quiet})
		got, want := walked(t, r, q), walked(t, NewReader(ReaderConfig{Books: []Book{book}, Scan: true, Log: quiet}), q)
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Errorf("from event %d there are %d events:\n%s", c.from, len(got), diff)
		}
		if read, _ := r.Progress(); read != c.pages {
			t.Errorf("from event %d it reads %d pages, want %d", c.from, read, c.pages)
		}
	}
}

// TestOnTheBus: the lists go through a real stream, chunk by chunk as Run makes them, and a user's history by them is the
// scan's.
func TestOnTheBus(t *testing.T) {
	book := startBook(t)
	fill(t, book, 3000, 40, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	x := NewIndexer(IndexerConfig{Book: book, Writing: func() bool { return true }, Every: 700, Log: quiet})
	go func() { done <- x.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		// Four chunks of 700 events, or a little more, since pages are read some at a time.
		if m, err := goodMark(t.Context(), book); err == nil && m.through >= 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the lists do not grow")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	byLists := NewReader(ReaderConfig{Books: []Book{book}, Log: quiet})
	byScan := NewReader(ReaderConfig{Books: []Book{book}, Scan: true, Log: quiet})
	for n := range 40 {
		q := Query{User: session.UserID(fmt.Sprintf("u-%026d", n))}
		got, want := walked(t, byLists, q), walked(t, byScan, q)
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Fatalf("%s has %d events:\n%s", q.User, len(got), diff)
		}
	}
	if _, of := byLists.Progress(); of >= 40*300*3/4 {
		t.Errorf("the lists spare nothing: %d pages for 40 users", of)
	}
}

// TestIndexerWhileItWrites: lists are made while this process writes the partition and not else, a chunk that is not full
// waits, and an indexer that was refused goes on from the mark.
func TestIndexerWhileItWrites(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		book, writing := newMemory(0), atomic.Bool{}
		more := func(events int) {
			for range events {
				book.append(t, base, &session.UserEnabled{Header: session.Header{At: base, User: "jane"}})
			}
		}
		covered := func() uint64 {
			synctest.Wait()
			m, err := goodMark(t.Context(), book)
			if !errors.Is(err, errNoIndex) {
				must(t, err)
			}
			return m.through
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		x := NewIndexer(IndexerConfig{Book: book, Writing: writing.Load, Every: 50, Log: quiet})
		go func() { done <- x.Run(ctx) }()
		pass := func() { time.Sleep(5*indexLook + indexLook/2) }

		more(120)
		pass()
		if n := covered(); n != 0 {
			t.Errorf("without the partition it covers %d pages", n)
		}
		writing.Store(true)
		pass()
		if n := covered(); n != 120 { // an event each, 32 pages at a time: chunks of 64 and 56
			t.Errorf("it covers %d pages", n)
		}
		more(10)
		pass()
		if n := covered(); n != 120 {
			t.Errorf("with 10 events more it covers %d pages", n)
		}
		book.allow(3)
		more(50)
		pass()
		if n := covered(); n != 120 {
			t.Errorf("refused, it covers %d pages", n)
		}
		book.allow(-1)
		pass()
		if n := covered(); n != 180 {
			t.Errorf("not refused any more, it covers %d pages", n)
		}
		writing.Store(false)
		more(200)
		pass()
		if n := covered(); n != 180 {
			t.Errorf("when the partition has gone it covers %d pages", n)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}

// BenchmarkHistory is the time for one user's history in a book of a million events of 10,000 users, by the lists and by
// reading every page, and the rate at which all is replayed and counted.
func BenchmarkHistory(b *testing.B) {
	const events, users, aPage = 1_000_000, 10_000, 200
	book := startBook(b)
	fill(b, book, events, users, aPage)
	start := time.Now()
	must(b, NewIndexer(IndexerConfig{Book: book, Log: quiet}).Extend(b.Context()))
	indexed := time.Since(start)
	read := func(scan bool, q Query) (n int, took time.Duration) {
		start := time.Now()
		must(b, NewReader(ReaderConfig{Books: []Book{book}, Scan: scan, Log: quiet}).Walk(b.Context(), q, func(Entry) error { n++; return nil }))
		return n, time.Since(start)
	}
	var byLists, byScan, all, counting, atMoment time.Duration
	for i := 0; b.Loop(); i++ {
		q := Query{User: session.UserID(fmt.Sprintf("u-%026d", i%users))}
		n, took := read(false, q)
		byLists += took
		m, took := read(true, q)
		byScan += took
		if n != m || n == 0 {
			b.Fatalf("%d events by the lists, %d without", n, m)
		}
		n, took = read(true, Query{})
		all += took
		if n != events {
			b.Fatalf("%d events in all", n)
		}
		r := NewReader(ReaderConfig{Books: []Book{book}, Log: quiet})
		start := time.Now()
		_, err := r.Count(b.Context(), Counted{})
		must(b, err)
		counting += time.Since(start)
		start = time.Now()
		_, err = r.At(b.Context(), base.Add(events*time.Millisecond/2), "")
		must(b, err)
		atMoment += time.Since(start)
	}
	n := time.Duration(b.N)
	b.ReportMetric(float64((byLists / n).Milliseconds()), "ms/user")
	b.ReportMetric(float64((byScan / n).Milliseconds()), "ms/user-by-scan")
	b.ReportMetric(float64(byScan)/float64(byLists), "scan-to-lists")
	b.ReportMetric(float64(all)/float64(byLists), "replay-to-lists")
	b.ReportMetric(float64(b.N)*events/all.Seconds(), "replay-events/s")
	b.ReportMetric(float64(b.N)*events/counting.Seconds(), "count-events/s")
	b.ReportMetric(float64(b.N)*events/atMoment.Seconds(), "at-events/s")
	b.ReportMetric(indexed.Seconds(), "s-index")
}

// BenchmarkHistoryRange is, in such a book, the time for its last hundredth, without a snapshot and with one of a twentieth
// before the end, and for who was logged in at a moment: in the middle and at the end.
func BenchmarkHistoryRange(b *testing.B) {
	const events, users, aPage = 1_000_000, 10_000, 200
	book := startBook(b)
	fill(b, book, events, users, aPage)
	r := NewReader(ReaderConfig{Books: []Book{book}, Log: quiet})
	late := func() (took time.Duration) {
		start, n := time.Now(), 0
		must(b, r.Walk(b.Context(), Query{From: base.Add(events * time.Millisecond / 100 * 99)}, func(Entry) error { n++; return nil }))
		if n < events/100 || n > events/100+1 {
			b.Fatalf("%d events in the last hundredth", n)
		}
		return time.Since(start)
	}
	without := late()
	snapshotAt(b, book, events/aPage/100*95)
	var with, middle, end time.Duration
	at := func(when session.Instant) time.Duration {
		start := time.Now()
		there, err := r.At(b.Context(), when, "")
		must(b, err)
		if len(there) < users/4 {
			b.Fatalf("%d were there", len(there))
		}
		return time.Since(start)
	}
	for b.Loop() {
		with += late()
		middle += at(base.Add(events * time.Millisecond / 2))
		end += at(base.Add(events * time.Millisecond))
	}
	n := time.Duration(b.N)
	b.ReportMetric(float64(without.Milliseconds()), "ms/late-by-scan")
	b.ReportMetric(float64((with / n).Milliseconds()), "ms/late")
	b.ReportMetric(float64((middle / n).Milliseconds()), "ms/at-middle")
	b.ReportMetric(float64((end / n).Milliseconds()), "ms/at-end")
}
