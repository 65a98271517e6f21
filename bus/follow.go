package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// liveBuffer is how many live pages wait for a follower. Beyond it they are
	// dropped, and read from the book: at 256 KB a page it bounds the memory.
	liveBuffer = 256
	// followSilence is how long a follower hears nothing before it asks the book.
	// A living writer announces its last page far more often.
	followSilence = time.Second
)

// Follow calls fn with every page after the given sequence, in order and without
// gaps, on the caller's goroutine, for ever. It returns fn's error as it is,
// ErrGap when the book itself has a gap, ErrClosed, or ctx's error.
//
// It reads what is stored by direct get and then takes the live pages as the
// server republishes them. A live page that does not follow the last one, an
// announcement of a page not seen, a restored connection and a second of silence
// all have it read the book again, so that nothing hangs on a message arriving.
func (k *Book) Follow(ctx context.Context, after uint64, fn func(StoredPage) error) error {
	g, err := k.newGetter()
	if err != nil {
		return fmt.Errorf("follow %s: %w", BookStream(k.p), err)
	}
	defer g.close()
	f := &follower{book: k, get: g, fn: fn, last: after, ch: make(chan *nats.Msg, liveBuffer)}
	nc := k.bus.nc
	for _, subject := range []string{LiveSubject(k.p), AnnounceSubject(k.p)} {
		sub, err := nc.ChanSubscribe(subject, f.ch)
		if err != nil {
			return fmt.Errorf("follow %s: %w", BookStream(k.p), closedOr(err))
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	status := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	// The subscriptions stand at the server before the getter's first request,
	// because both go over one connection in order: no page falls between.
	if err := f.catchUp(ctx, 0); err != nil {
		return err
	}
	return f.run(ctx, status)
}

// follower is one Follow; all of it is owned by the goroutine that called it.
type follower struct {
	book *Book
	get  *getter
	fn   func(StoredPage) error
	last uint64
	ch   chan *nats.Msg // live pages and announcements
}

func (f *follower) run(ctx context.Context, status <-chan nats.Status) error {
	silence := time.NewTimer(followSilence)
	defer silence.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-status:
			if s == nats.CLOSED {
				return fmt.Errorf("follow %s: %w", BookStream(f.book.p), ErrClosed)
			}
			err = f.catchUp(ctx, 0)
		case m := <-f.ch:
			err = f.heard(ctx, m)
		case <-silence.C:
			err = f.catchUp(ctx, 0)
		}
		if err != nil {
			return err
		}
		silence.Reset(followSilence)
	}
}

// heard takes a live page or an announcement.
func (f *follower) heard(ctx context.Context, m *nats.Msg) error {
	if m.Subject == AnnounceSubject(f.book.p) {
		a, err := decodeAnnouncement(m.Data)
		if err != nil || a.Last <= f.last {
			return nil // not readable, or nothing new: the silence timer asks anyway
		}
		return f.catchUp(ctx, a.Last)
	}
	page, ok := storedPage(m)
	if !ok || page.Seq <= f.last {
		return nil
	}
	if page.Seq > f.last+1 {
		return f.catchUp(ctx, page.Seq)
	}
	if err := f.fn(page); err != nil {
		return err
	}
	f.last = page.Seq
	return nil
}

// catchUp reads the book to its end, as the answering server knows it, and at
// least to atLeast: a page that was heard of is there, be it on another replica.
func (f *follower) catchUp(ctx context.Context, atLeast uint64) error {
	pause, failed := retryPauseFirst, false
	for {
		before := f.last
		pending, err := f.get.batch(ctx, &f.last, math.MaxUint64, f.fn)
		switch {
		case errors.Is(err, ErrClosed):
			return fmt.Errorf("follow %s: %w", BookStream(f.book.p), err)
		case err != nil && !errors.Is(err, errNoAnswer):
			return err
		case err == nil && pending == 0 && f.last >= atLeast:
			return nil
		case f.last > before:
			pause, failed = retryPauseFirst, false
			continue
		}
		if err != nil && !failed {
			failed = true
			f.book.bus.log.Warn("the book can not be read, trying on", "partition", f.book.p.String(), "after", f.last)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
}
