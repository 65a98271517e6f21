package engine

import (
	"context"
	"fmt"
	"iter"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Snapshots are the snapshots of one partition's book: *[bus.Book]. A snapshot spares the reading of the pages that are
// in it. It is never the truth: one that is missing or of no use is passed over, and costs time alone.
type Snapshots interface {
	// Snapshots lists them, the newest first.
	Snapshots(ctx context.Context) ([]bus.Snapshot, error)
	// Restore has the newest good one read; a zero Snapshot says that there is none.
	Restore(ctx context.Context, format uint64, read func(chunks iter.Seq2[[]byte, error]) error) (bus.Snapshot, bus.StoredPage, error)
	// WriteSnapshot stores one beside that which it was made from.
	WriteSnapshot(ctx context.Context, s, from bus.Snapshot, at bus.StoredPage, fill func(put func(chunk []byte) error) error) (bus.Snapshot, error)
}

// base is where a fold begins: a state, the snapshot that it comes from, and the page of that; or the empty state.
type base struct {
	state *session.State
	from  bus.Snapshot
	at    bus.StoredPage
}

// restore finds where to begin. snapshots may be nil. rest, called after each chunk, may hold it up; nil does not.
func restore(ctx context.Context, snapshots Snapshots, policies session.Policies, rest func() error) (b base, err error) {
	if snapshots != nil {
		b.from, b.at, err = snapshots.Restore(ctx, session.SnapshotVersion, func(chunks iter.Seq2[[]byte, error]) error {
			if rest != nil {
				chunks = heldUp(chunks, rest)
			}
			state, err := session.ReadSnapshot(policies, chunks)
			b.state = state
			return err
		})
	}
	if err == nil && b.from.Page == 0 {
		b.state = session.NewState(policies)
	}
	return b, err
}

// heldUp gives the same chunks, with a rest after each.
func heldUp(chunks iter.Seq2[[]byte, error], rest func() error) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for chunk, err := range chunks {
			if !yield(chunk, err) {
				return
			}
			if err := rest(); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// begin sets the start of the fold.
func (w *Writer) begin(ctx context.Context) error {
	w.answers = newAnswers()
	w.last, w.epoch, w.lastTime, w.read, w.source, w.noted = 0, 0, 0, 0, 0, commandsRead{}
	w.known.Store(0)
	b, err := restore(ctx, w.cfg.Snapshots, w.cfg.Policies, nil)
	if err != nil {
		return err
	}
	w.state = b.state
	w.events.Store(b.from.Events)
	w.began.Store(b.from.Events)
	if b.from.Page == 0 {
		w.clean = true
		return nil
	}
	page, err := bus.DecodePage(b.at.Data)
	if err != nil {
		return fmt.Errorf("page %d: %w", b.at.Seq, err)
	}
	if err := w.remember(ctx, b.at.Seq, page.Time); err != nil {
		return fmt.Errorf("read the latest answers: %w", err)
	}
	w.standAt(b.at.Seq, page)
	return nil
}

// remember fills the memory of answers from the pages before the fold's start. A snapshot holds no answers: they stand in
// the book, which is there to be asked, and half a minute of it is soon read. The steps back double, so that at most
// twice as much is read as counts; what is too old, settle forgets.
func (w *Writer) remember(ctx context.Context, last uint64, now int64) error {
	after := last
	for step := uint64(1); after > 0; step *= 2 {
		after -= min(step, after)
		if after == 0 {
			break
		}
		at, err := w.timeOf(ctx, after)
		if err != nil {
			return err
		}
		if now-at >= int64(answerMemory) {
			break
		}
	}
	return w.cfg.Book.Read(ctx, after, last, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return fmt.Errorf("page %d: %w", stored.Seq, err)
		}
		w.answers.settle(stored.Seq, page.Answers, page.Time)
		return nil
	})
}
