package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// ErrOtherRestore: a restore was cut short here, and it was not this backup's. Finish that one, or take another place.
var ErrOtherRestore = errors.New("another backup's restore was begun here")

// RestoreConfig is what a restore stands on. All fields are required but those that say what they may be.
type RestoreConfig struct {
	Bus      *bus.Bus
	Summary  Summary // what Verify gave for the same file, and its Known were content with
	Replicas int     // how many servers keep each stream; 0: as in the backup
	// KeepSessions leaves the sessions and one-time tokens of the backup alive. Who has logged out since, or redeemed one, is
	// not known to it: their tokens would be good again.
	KeepSessions bool
	Now          func() time.Time
	// Progress is called with how much of the work is done: each page is written, and read back. nil: nobody asks.
	Progress func(done, of uint64)
}

// Restored is what a restore has done.
type Restored struct {
	Layout  bus.Layout
	Ended   int // sessions
	Used    int // one-time tokens that count as used
	Resumed bool
}

// Restore fills an empty place from a backup, which Verify has read before. ErrExists (of the bus) says that the place is
// not empty; nothing was changed then.
//
// A crash at any moment leaves nothing, or books that Open refuses; the same restore, repeated, goes on. Pages that are
// there already are not written again, but all are read back and compared with the backup's roots before the mark that
// keeps others out is taken away. Two restores of one backup at the same time do no harm: each page is fenced.
func Restore(ctx context.Context, cfg RestoreConfig, from io.Reader) (Restored, error) {
	r := &restorer{cfg: cfg, layout: cfg.Summary.Layout(), work: 2 * cfg.Summary.Pages()}
	if cfg.Replicas > 0 {
		r.layout.Replicas = cfg.Replicas
	}
	r.done.Layout = r.layout
	if err := cfg.Bus.BeginRestore(ctx, r.layout); err != nil {
		return r.done, err
	}
	if err := r.look(ctx); err != nil {
		return r.done, err
	}
	again, err := read(from, visitor{
		beside: func(m beside) error { return r.putBeside(ctx, m) },
		page:   func(p page, _ func() [32]byte) error { return r.putPage(ctx, p) },
	})
	if err == nil {
		err = same(cfg.Summary, again)
	}
	if err != nil {
		return r.done, err
	}
	for p := range bus.Partition(r.layout.Partitions) {
		if err := r.settle(ctx, p); err != nil {
			return r.done, err
		}
	}
	if err := cfg.Bus.MarkFeed(ctx, r.restores); err != nil {
		return r.done, err
	}
	return r.done, cfg.Bus.FinishRestore(ctx, r.layout)
}

// same refuses a file that was changed since it was verified.
func same(before, now Summary) error {
	if before.Head != now.Head || before.Beside != now.Beside {
		return fmt.Errorf("%w: it was replaced while it was read", ErrDamaged)
	}
	for p := range before.Parts {
		if before.Parts[p] != now.Parts[p] {
			return fmt.Errorf("%w: it was replaced while it was read", ErrDamaged)
		}
	}
	return nil
}

// restorer is one restore.
type restorer struct {
	cfg    RestoreConfig
	layout bus.Layout
	ends   []uint64 // of the books, as far as they are filled
	beside *bus.Refill
	work   uint64
	did    uint64
	done   Restored

	restores []string // in the past of the book, this one too: bus.MarkFeed
}

// look finds what an earlier attempt has left.
func (r *restorer) look(ctx context.Context) error {
	for p := range bus.Partition(r.layout.Partitions) {
		last, err := r.cfg.Bus.Book(p).End(ctx)
		if err != nil {
			return err
		}
		r.ends = append(r.ends, last)
		r.done.Resumed = r.done.Resumed || last > 0
	}
	var err error
	r.beside, err = r.cfg.Bus.Refill(ctx)
	return err
}

func (r *restorer) progress() {
	r.did++
	if r.cfg.Progress != nil {
		r.cfg.Progress(r.did, r.work)
	}
}

func (r *restorer) putBeside(ctx context.Context, m beside) error {
	return r.beside.Put(ctx, bus.Beside{Stream: m.Stream, Subject: m.Subject, Header: m.Header, Data: m.Data})
}

func (r *restorer) putPage(ctx context.Context, p page) error {
	defer r.progress()
	if p.Seq <= r.ends[p.Partition] {
		return nil // compared when it is read back
	}
	if err := r.append(ctx, bus.Partition(p.Partition), p.Seq-1, p.Data); err != nil {
		return err
	}
	r.ends[p.Partition] = p.Seq
	return nil
}

// appendTries bounds how often a page is tried whose outcome is not known; each takes up to 2 s.
const appendTries = 30

// append puts a page after another. When it is not known whether that was done, the book says it: whatever stands there
// then is compared when it is read back.
func (r *restorer) append(ctx context.Context, p bus.Partition, after uint64, data []byte) error {
	book := r.cfg.Bus.Book(p)
	var err error
	for range appendTries {
		if _, err = book.Append(ctx, after, data); err == nil {
			return nil
		}
		if errors.Is(err, bus.ErrNotStored) || ctx.Err() != nil {
			break
		}
		last, failed := book.End(ctx)
		switch {
		case failed != nil:
			return failed
		case last > after:
			return nil
		case last < after:
			return fmt.Errorf("restore page %d of partition %s: %w: it ends at %d", after+1, p, bus.ErrGap, last)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("restore page %d of partition %s: %w", after+1, p, err)
}

// settle reads a filled partition back, compares it, and appends what says that it was restored.
func (r *restorer) settle(ctx context.Context, p bus.Partition) error {
	part, book := r.cfg.Summary.Parts[p], r.cfg.Bus.Book(p)
	end, err := book.End(ctx)
	if err != nil {
		return err
	}
	back := &readBack{p: p, part: part, state: session.NewState(session.Policies{})} // policies shape new events, and Retire has none
	err = book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
		if stored.Seq <= part.Pages {
			r.progress()
		}
		return back.take(stored)
	})
	if err != nil {
		return fmt.Errorf("read partition %s back: %w", p, err)
	}
	if back.tree.pages != part.Pages || back.tree.root() != part.Root {
		return fmt.Errorf("read partition %s back: %w: its pages are not the backup's", p, ErrOtherRestore)
	}
	r.restores = append(r.restores, back.restores...)
	return r.sign(ctx, p, end, back)
}

// readBack folds a restored book.
type readBack struct {
	p      bus.Partition
	part   Part
	tree   tree // of the restored pages
	state  *session.State
	last   bus.Page
	marked bool // a BookRestored of this backup stands after the restored pages

	restores []string // that the book names
}

func (b *readBack) take(stored bus.StoredPage) error {
	var err error
	if b.last, err = bus.DecodePage(stored.Data); err != nil {
		return fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	if stored.Seq <= b.part.Pages {
		b.tree.add(b.p, stored.Seq, b.last.Events, stored.Data)
	}
	for i, data := range b.last.Events {
		e, err := session.DecodeEvent(data)
		if err != nil {
			return fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
		b.state.Apply(e)
		mark, is := e.(*session.BookRestored)
		if !is {
			continue
		}
		b.restores = append(b.restores, restoreWord(b.p, mark.Page, data))
		if stored.Seq == b.part.Pages+1 && mark.Page == b.part.Pages && mark.Root == b.part.Root {
			b.marked = true
		}
	}
	if stored.Seq > b.part.Pages && !b.marked {
		return fmt.Errorf("page %d: %w", stored.Seq, ErrOtherRestore)
	}
	return nil
}

// restoreWord names a restore by the bytes of its BookRestored, whose time makes it one of a kind.
func restoreWord(p bus.Partition, page uint64, event []byte) string {
	sum := sha256.Sum256(event)
	return fmt.Sprintf("%s/%d/%x", p, page, sum[:8])
}

// signSize is when a page of endings is full, in bytes.
const signSize = bus.MaxPage / 2

// sign appends to a partition that it was restored, and the end of what may not be presented any more. What an earlier
// attempt has appended of that is in the state already.
func (r *restorer) sign(ctx context.Context, p bus.Partition, end uint64, b *readBack) error {
	now := max(session.At(r.cfg.Now()), session.Instant(b.last.Time), b.state.Clock()) // a book's clock never runs backwards
	var events []session.Event
	if !b.marked {
		events = append(events, &session.BookRestored{Header: session.Header{At: now}, Page: b.part.Pages, Root: b.part.Root,
			Made: session.Instant(r.cfg.Summary.Made), Kept: r.cfg.KeepSessions})
	}
	if !r.cfg.KeepSessions {
		events = append(events, b.state.Retire(now)...)
	}
	next := bus.Page{Epoch: b.last.Epoch + 1, Time: int64(now), Incarnation: b.last.Incarnation, CommandsRead: b.last.CommandsRead}
	for i, e := range events {
		next.Events = append(next.Events, session.AppendEvent(nil, e))
		switch e.(type) {
		case *session.BookRestored:
			r.restores = append(r.restores, restoreWord(p, b.part.Pages, next.Events[len(next.Events)-1]))
		case *session.SessionEnded:
			r.done.Ended++
		case *session.OneTimeRedeemed:
			r.done.Used++
		}
		if next.Size() < signSize && i < len(events)-1 {
			continue
		}
		data, err := bus.EncodePage(next)
		if err != nil {
			return err
		}
		if err := r.append(ctx, p, end, data); err != nil {
			return err
		}
		end, next.Events = end+1, nil
	}
	return nil
}
