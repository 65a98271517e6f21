// Package feed puts each event of the books on a subject of its own, for downstream consumers.
//
// A [Publisher] works where the partition's writer does. It reads how far the feed has come, follows the book from there
// and publishes the events in order, in atomic batches: as many at a time as wait, but a batch that is not full only some
// time after the last, and the next one is on its way to the server while the last is being stored. Each batch ends with
// the partition's marker, which says how far the feed has come, and follows the marker before it or is not stored at all.
//
// Invariants:
//   - Each event of the book is in the feed once, in the book's order, whoever publishes and however often they are
//     interrupted. That this process's writer writes is a hint; the fence is the marker's sequence.
//   - After any outcome but "stored" the publisher forgets what it held and asks how far the feed has come.
//   - The writer never waits for the feed. What ails the feed stops the feed alone, and is said in the log and the metrics.
//   - What stands in the feed are the bytes of the book.
package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Book is the log of one partition: *[bus.Book].
type Book interface {
	Partition() bus.Partition
	Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error
	Read(ctx context.Context, after, through uint64, fn func(bus.StoredPage) error) error
	End(ctx context.Context) (uint64, error)
	Announcements(fn func(bus.Announcement)) (stop func(), err error)
}

// Batch is a batch on its way: *[bus.FeedBatch]. Commit stores all of it after a marker, or nothing; a marker that is read
// names by ID the batch that it ended.
type Batch interface {
	ID() string
	Commit(ctx context.Context, after bus.FeedMarker) (bus.FeedMarker, error)
	Abandon()
}

// Feed is one partition's part of the feed; see [bus.Feed]. Begin sends events and does not wait.
type Feed interface {
	Marker(ctx context.Context) (bus.FeedMarker, error)
	State(ctx context.Context) (bus.FeedState, error)
	Begin(events []bus.FeedEvent, at bus.Position) (Batch, error)
}

// On is the feed of a partition on a bus.
func On(f *bus.Feed) Feed { return onBus{f} }

type onBus struct{ *bus.Feed }

func (f onBus) Begin(events []bus.FeedEvent, at bus.Position) (Batch, error) {
	b, err := f.Feed.Begin(events, at)
	if err != nil {
		return nil, err // and not a nil *bus.FeedBatch in an interface that is not nil
	}
	return b, nil
}

// Source is what a publisher needs to know of one partition. All fields are required.
type Source struct {
	Book Book
	Feed Feed
	// Writing says whether the writer of this process writes the partition.
	Writing func() bool
}

// Config is what a publisher stands on.
type Config struct {
	Sources []Source
	// Now is the clock for the lag. Nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

const (
	// openBatches is how many batches all partitions together have on their way; a server has room for 50 of a stream, and
	// other processes publish too.
	openBatches = 16
	// gatherFor is how long events gather from the beginning of one batch to that of the next, unless they fill it before. A
	// batch costs the server a file of its own and two syncs, beside those that the writer waits for, however small it is: one
	// after the other as fast as they were stored, they took two fifths of the rate that 64 clients had. The first event after a
	// quiet time does not wait.
	gatherFor = 25 * time.Millisecond
	// lookEvery is how often a publisher looks whether it is still its turn, and keepEvery whether the marker is about to
	// leave the stream with what was published long ago.
	lookEvery  = 100 * time.Millisecond
	keepEvery  = 5 * time.Second
	retryFirst = 50 * time.Millisecond
	retryLast  = 2 * time.Second
	// pagesAhead is how many pages wait to be published; of 256 KB at the most, and a few KB as a rule.
	pagesAhead = 16
)

// ErrAhead says that the feed has come further than the book goes: it is of another history. Keep what of it is needed and
// purge the stream; the feed begins again.
var ErrAhead = errors.New("the feed is ahead of the book")

// errNotWriting says that it is another process's turn.
var errNotWriting = errors.New("the writer of this process does not write")

// Publisher publishes the feed of the partitions that this process writes.
type Publisher struct {
	cfg   Config
	room  chan struct{} // one for each batch on its way
	parts []*part
}

// part is the publishing of one partition.
type part struct {
	*Publisher
	Source
	log *slog.Logger

	// Owned by run.
	most int    // events in a batch; halved when the server takes fewer
	told string // the trouble that the log says already

	progress progress
}

// NewPublisher makes a publisher; it starts nothing.
func NewPublisher(cfg Config) *Publisher {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Publisher{cfg: cfg, room: make(chan struct{}, openBatches)}
	for _, s := range cfg.Sources {
		p.parts = append(p.parts, &part{Publisher: p, Source: s, most: bus.MaxFeedBatch,
			log: cfg.Log.With("partition", s.Book.Partition())})
	}
	return p
}

// Run publishes until ctx ends, and returns ctx's error. It can be cut short anywhere: the marker says where to go on.
func (p *Publisher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, part := range p.parts {
		running.Go(func() { part.run(ctx) })
	}
	running.Wait()
	return ctx.Err()
}

// run publishes whenever it is this process's turn.
func (p *part) run(ctx context.Context) {
	stop, err := p.Book.Announcements(func(a bus.Announcement) { p.progress.announced(a.Last) })
	if err == nil {
		defer stop()
	}
	pause := retryFirst
	for ctx.Err() == nil {
		if !p.Writing() {
			p.progress.idle()
			_ = sleep(ctx, lookEvery)
			continue
		}
		before := p.progress.count()
		err := p.publish(ctx)
		if p.progress.count() > before {
			pause = retryFirst
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, errNotWriting):
			continue
		case errors.Is(err, bus.ErrFeedBatch):
			p.most = max(p.most/2, 1)
		}
		p.progress.failed()
		if text := err.Error(); text != p.told {
			p.told = text
			p.log.Error("the feed does not go on, trying again", "position", p.progress.position(), "err", err)
		}
		_ = sleep(ctx, pause)
		pause = min(2*pause, retryLast)
	}
	p.progress.idle()
}

// publish goes on from the marker until something fails or it is another process's turn.
func (p *part) publish(ctx context.Context) error {
	marker, after, err := p.begin(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	pages := make(chan []bus.FeedEvent, pagesAhead)
	run := &run{part: p, pages: pages, marker: marker}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer run.drop()
	defer cancel(nil)
	reading.Go(func() {
		cancel(p.Book.Follow(ctx, after, func(stored bus.StoredPage) error { return p.read(ctx, stored, marker.At, pages) }))
	})
	err = run.loop(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// begin finds out how far the feed has come, and after which page to read on.
func (p *part) begin(ctx context.Context) (marker bus.FeedMarker, after uint64, err error) {
	marker, err = p.Feed.Marker(ctx)
	if err != nil {
		return marker, 0, err
	}
	if marker.Seq > 0 {
		// A book that was put back to an earlier page, beside a feed that was not.
		if end, err := p.Book.End(ctx); err != nil || marker.At.Page > end {
			return marker, 0, errors.Join(err, fmt.Errorf("%w: it stands at %s, and the book ends at page %d", ErrAhead, marker.At, end))
		}
		p.progress.begun(marker)
		return marker, marker.At.Page - 1, nil // the page of the marker is read again: there may be more in it
	}
	marker.At.Partition = p.Book.Partition()
	state, err := p.Feed.State(ctx)
	if err != nil || state.MaxAge == 0 {
		p.progress.begun(marker)
		return marker, 0, err
	}
	after, err = p.skip(ctx, state.Now.Add(-state.MaxAge))
	p.progress.begun(marker)
	return marker, after, err
}

// errFound ends a reading that has found its page.
var errFound = errors.New("found")

// skip finds the last page that was stored before a moment. A feed without a marker has never been, or is so long ago
// that it has left the stream by age, and with it all that was published of pages from before the moment: what is younger
// was not published, and what is older would leave at once.
func (p *part) skip(ctx context.Context, before time.Time) (after uint64, err error) {
	end, err := p.Book.End(ctx)
	if err != nil {
		return 0, err
	}
	err = p.Book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
		if !stored.Stored.Before(before) {
			return errFound
		}
		after = stored.Seq
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return 0, err
	}
	if after > 0 {
		p.log.Warn("the feed begins with the pages that its retention keeps: older ones are in the book alone", "page", after+1)
	}
	return after, nil
}

// read takes a page apart and hands over its events after a position. It waits while enough of them wait.
func (p *part) read(ctx context.Context, stored bus.StoredPage, after bus.Position, pages chan<- []bus.FeedEvent) error {
	page, err := bus.DecodePage(stored.Data)
	if err != nil {
		return fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	events := make([]bus.FeedEvent, 0, len(page.Events))
	for i, data := range page.Events {
		at := bus.Position{Partition: p.Book.Partition(), Page: stored.Seq, Index: uint32(i)}
		if after.Page == stored.Seq && after.AtLeast(at) {
			continue
		}
		e, err := session.ReadHeading(data)
		if err != nil {
			return fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
		events = append(events, bus.FeedEvent{User: string(e.User), Type: string(e.Type), At: at, Time: e.At.Time(), Data: data})
	}
	p.progress.read(stored.Seq, events)
	if len(events) == 0 {
		return nil
	}
	select {
	case pages <- events:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
