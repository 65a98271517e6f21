// Package feedtest writes books without an engine and checks the feed against them.
package feedtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/feed"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Patience is how long a test waits for what must happen.
const Patience = 2 * time.Minute

// Script writes a book, page by page.
type Script struct {
	t    testing.TB
	book *bus.Book
	end  uint64
	n    int
}

// Write begins at the end of a partition's book.
func Write(t testing.TB, b *bus.Bus, p bus.Partition) *Script {
	t.Helper()
	s := &Script{t: t, book: b.Book(p)}
	var err error
	s.end, err = s.book.End(t.Context())
	must(t, err)
	return s
}

// Page appends a page of so many events.
func (s *Script) Page(events int) {
	s.t.Helper()
	page := bus.Page{Epoch: 1, Time: int64(s.n)}
	for range events {
		s.n++
		head := session.Header{At: session.Instant(time.Now().UnixNano()), User: session.UserID(fmt.Sprintf("u-%d", s.n%7))}
		var e session.Event = &session.SessionEnded{Header: head, Session: session.SessionID{15: byte(s.n)}, Reason: session.LoggedOut}
		switch s.n % 3 {
		case 0:
			e = &session.SessionTouched{Header: head, Session: session.SessionID{14: byte(s.n)}}
		case 1:
			e = &session.SessionStarted{Header: head, Session: session.SessionID{15: byte(s.n)}, Venue: session.Venue(1 + s.n%5), Client: "desk"}
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

// Publishing runs a publisher until stop is called.
func Publishing(t testing.TB, sources ...feed.Source) (p *feed.Publisher, stop func()) {
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

// Source is a partition whose writer is always at work.
func Source(b *bus.Bus, p bus.Partition) feed.Source {
	return feed.Source{Book: b.Book(p), Feed: feed.On(b.Feed(p)), Writing: always}
}

// CaughtUp returns when the marker stands at the end of what was written.
func (s *Script) CaughtUp(b *bus.Bus) bus.FeedMarker {
	s.t.Helper()
	last := s.Last()
	for end := time.Now().Add(Patience); ; {
		m, err := b.Feed(s.book.Partition()).Marker(s.t.Context())
		if err == nil && m.At == last {
			return m
		}
		if time.Now().After(end) {
			s.t.Fatalf("the feed stands at %+v, %v and the book ends at %s", m, err, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Events are those of the book.
func (s *Script) Events() (at []bus.Position, data [][]byte) {
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

// Len is how many events were written by this script.
func (s *Script) Len() int { return s.n }

// Last is the position of the book's last event.
func (s *Script) Last() bus.Position {
	s.t.Helper()
	at, _ := s.Events()
	return at[len(at)-1]
}

// Same compares the feed with the book: each event once, in order, with the bytes, the user and the type of the book.
func (s *Script) Same(b *bus.Bus) {
	s.t.Helper()
	at, data := s.Events()
	stream, err := b.JetStream().Stream(s.t.Context(), bus.StreamFeed)
	must(s.t, err)
	marker := s.CaughtUp(b)
	n, patience := 0, time.Now().Add(Patience)
	for seq := uint64(1); seq <= marker.Seq; seq++ { // nothing leaves the feed in a test that compares it
		m, err := stream.GetMsg(s.t.Context(), seq)
		for err != nil && time.Now().Before(patience) { // a replica that lags does not have it yet
			time.Sleep(5 * time.Millisecond)
			m, err = stream.GetMsg(s.t.Context(), seq)
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
		user := string(e.Whose())
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
