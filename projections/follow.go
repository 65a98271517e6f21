// Package projections is the follow loop that every read model shares.
//
// A [Follower] begins with the newest good snapshot of each partition, or with its first page. From there it reads the
// book page by page, decodes each page once, hands it to every model in the same order, and then, not before, moves its
// position. Whoever wrote something awaits its position; whoever must not miss anything asks for the barrier.
//
// Invariants:
//   - Pages are applied in order, without a gap, each once, by one goroutine a partition.
//   - A page that cannot be applied stops the follower with its position unmoved: stuck beats gapped.
//   - A position is visible to Await only after every model has applied its page.
//   - Fresh is true only while it is known that nothing older than the staleness limit is missing: a follower that
//     hears nothing, and one that hears but cannot keep up, both turn stale.
package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// ErrStale says that this process has lost touch with the book for longer than the staleness limit. Ask again later.
var ErrStale = errors.New("the view of the book is stale")

// Page is a page of the book as the models see it.
type Page struct {
	Partition bus.Partition
	Seq       uint64
	Time      session.Instant // of the book's clock
	Events    []session.Event
	Raw       []byte   // the page as stored, not to be changed; nil in Restore
	RawEvents [][]byte // the events as stored, slices of Raw
}

// Model is a read model. Apply folds one page; it is called from one goroutine a partition, and an error stops the
// follower for good. What Apply did is visible to the model's readers when it returns.
type Model interface {
	Name() string
	Apply(Page) error
}

// Restorer is a model that can begin with a state that was folded already, in place of the pages that led to it.
type Restorer interface {
	Model
	// Restore takes over the state of a partition after a page, which comes without its events. It is called at most once
	// a partition, before the first Apply of it, perhaps at the same time as for another. The state is the model's to read
	// until it returns.
	Restore(page Page, state *session.State) error
}

// Book is the log of one partition: *[bus.Book].
type Book interface {
	Partition() bus.Partition
	Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error
	End(ctx context.Context) (uint64, error)
	Announcements(fn func(bus.Announcement)) (stop func(), err error)
	// Restore has the newest good snapshot of the book read; a zero Snapshot says that there is none.
	Restore(ctx context.Context, format uint64, read func(chunks iter.Seq2[[]byte, error]) error) (bus.Snapshot, bus.StoredPage, error)
}

// Config is what a follower stands on.
type Config struct {
	Books  []Book  // one a partition, in order of the partitions
	Models []Model // each gets every page
	// Staleness is how long the follower may be out of touch before Fresh fails. Zero: 2 s.
	Staleness time.Duration
	// Now is the clock for staleness and age. Nil: time.Now.
	Now func() time.Time
	// Trust, unless nil, is asked by Fresh: its error is Fresh's, and says that the view, however new, is not to be trusted.
	Trust func() error
	// Trace notes pages in their traces. Nil: nothing is traced.
	Trace Tracer
	Log   *slog.Logger
}

// Follower keeps models up to date. Its methods are safe for concurrent use.
type Follower struct {
	cfg   Config
	parts []*part
	kick  chan struct{} // a barrier round is wanted

	mu   sync.Mutex
	next *round // guarded by mu: the barrier round that callers join; it has not begun
}

// part is the progress in one partition.
type part struct {
	book Book

	mu        sync.Mutex
	applied   uint64          // guarded by mu: the last page that all models have applied
	pageTime  session.Instant // guarded by mu: its time
	changed   chan struct{}   // guarded by mu: closed, and replaced, when applied moves
	announced uint64          // guarded by mu: the end of the book as last heard
	heard     time.Time       // guarded by mu: when it was heard
	current   time.Time       // guarded by mu: nothing that was stored before this moment is missing
	events    uint64          // guarded by mu: events applied since the start
	failed    bool            // guarded by mu: a page could not be applied
}

// round is one shared barrier: done is closed when err is set.
type round struct {
	done chan struct{}
	err  error
}

// NewFollower makes a follower before the beginning; it starts nothing.
func NewFollower(cfg Config) *Follower {
	if cfg.Staleness <= 0 {
		cfg.Staleness = 2 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Follower{cfg: cfg, kick: make(chan struct{}, 1)}
	for _, book := range cfg.Books {
		f.parts = append(f.parts, &part{book: book, changed: make(chan struct{})})
	}
	return f
}

// Run follows until ctx ends or a page cannot be applied. It always returns an error.
func (f *Follower) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, p := range f.parts {
		stop, err := p.book.Announcements(func(a bus.Announcement) { p.hear(a.Last, f.cfg.Now()) })
		if err != nil {
			cancel(err)
			break
		}
		defer stop()
		running.Go(func() { cancel(f.follow(ctx, p)) })
	}
	running.Go(func() { f.barriers(ctx) })
	running.Wait()
	return context.Cause(ctx)
}

// follow applies the pages of one partition for ever.
func (f *Follower) follow(ctx context.Context, p *part) error {
	err := f.restore(ctx, p)
	if err == nil {
		err = p.book.Follow(ctx, p.position(), func(stored bus.StoredPage) error { return f.apply(p, stored) })
	}
	if err != nil && ctx.Err() == nil {
		f.cfg.Log.Error("a projection is stuck", "partition", p.book.Partition(), "position", p.position(), "err", err)
		p.fail()
	}
	return err
}

// DecodePage is a stored page as models see it: all of it, or an error that says where it cannot be read.
func DecodePage(p bus.Partition, stored bus.StoredPage) (Page, error) {
	raw, err := bus.DecodePage(stored.Data)
	if err != nil {
		return Page{}, fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	page := Page{Partition: p, Seq: stored.Seq, Time: session.Instant(raw.Time),
		Events: make([]session.Event, len(raw.Events)), Raw: stored.Data, RawEvents: raw.Events}
	for i, data := range raw.Events {
		if page.Events[i], err = session.DecodeEvent(data); err != nil {
			return Page{}, fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
	}
	return page, nil
}

// fold decodes a page, hands it to the models, and then moves the position. A crash before the move costs nothing:
// models live in memory.
func (f *Follower) fold(p *part, stored bus.StoredPage) error {
	page, err := DecodePage(p.book.Partition(), stored)
	if err != nil {
		return err
	}
	for _, model := range f.cfg.Models {
		if err := model.Apply(page); err != nil {
			return fmt.Errorf("page %d: %s: %w", stored.Seq, model.Name(), err)
		}
	}
	p.move(page)
	return nil
}

// Await returns when the page of the position has been applied, or with ctx's error.
func (f *Follower) Await(ctx context.Context, at bus.Position) error {
	if int(at.Partition) >= len(f.parts) {
		return fmt.Errorf("await %s: this process follows %d partitions", at, len(f.parts))
	}
	p := f.parts[at.Partition]
	for {
		p.mu.Lock()
		applied, changed := p.applied, p.changed
		p.mu.Unlock()
		if applied >= at.Page {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("await %s, now at page %d: %w", at, applied, ctx.Err())
		}
	}
}

// Barrier returns when the view includes all that the book held when Barrier was called, as the leader of each
// partition's stream knows it. All who wait share one question. It needs Run to run.
func (f *Follower) Barrier(ctx context.Context) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &round{done: make(chan struct{})}
	}
	r := f.next
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default: // wanted already
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the book: %w", ctx.Err())
	}
}

// barriers serves barrier rounds, one after the other, until ctx ends.
func (f *Follower) barriers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
		}
		f.mu.Lock()
		r := f.next
		f.next = nil
		f.mu.Unlock()
		if r != nil {
			r.err = f.reachEnd(ctx)
			close(r.done)
		}
	}
}

// reachEnd asks each book for its end and awaits it. An end before what has been seen of the book already is an answer from the
// past, of a server that has not noticed that it leads no more: then the end is not known.
func (f *Follower) reachEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range f.parts {
		asked, seen := f.cfg.Now(), p.seen()
		end, err := p.book.End(ctx)
		if err != nil {
			return fmt.Errorf("find the end of the book: %w", err)
		}
		if end < seen {
			return fmt.Errorf("find the end of the book: %w: page %d of partition %s is there, and %d was called the last", ErrStale, seen, p.book.Partition(), end)
		}
		p.hear(end, asked)
		if err := f.Await(ctx, bus.Position{Partition: p.book.Partition(), Page: end}); err != nil {
			return err
		}
	}
	return nil
}

// Fresh is [ErrStale] when something older than the staleness limit may be missing, or the error of Config.Trust.
func (f *Follower) Fresh() error {
	if f.cfg.Trust != nil {
		if err := f.cfg.Trust(); err != nil {
			return err
		}
	}
	now := f.cfg.Now()
	for _, p := range f.parts {
		p.mu.Lock()
		current, failed := p.current, p.failed
		p.mu.Unlock()
		if failed || now.Sub(current) > f.cfg.Staleness {
			return ErrStale
		}
	}
	return nil
}

func (p *part) position() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.applied
}

// seen is the last page that is known to be in the book.
func (p *part) seen() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.applied, p.announced)
}

func (p *part) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

// move notes that a page has been applied.
func (p *part) move(page Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied, p.pageTime = page.Seq, page.Time
	p.events += uint64(len(page.Events))
	if p.applied >= p.announced && p.heard.After(p.current) {
		p.current = p.heard
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// hear notes that the book ended at last when it was heard at that moment.
func (p *part) hear(last uint64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last < p.announced && at.Before(p.heard) {
		return // older news
	}
	p.announced, p.heard = max(p.announced, last), at
	if p.applied >= p.announced && at.After(p.current) {
		p.current = at
	}
}
