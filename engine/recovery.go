package engine

import (
	"context"
	"fmt"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// load brings the state to the end of the book as of now. A state that is ahead of the book, or may be, is thrown away
// first, and the fold begins again: with the newest good snapshot, or the first page. The start, standing by, a take-over
// and the way out of a failed append are this one function.
func (w *Writer) load(ctx context.Context) error {
	start, whole := time.Now(), !w.clean
	if whole {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	from := w.last
	end, err := w.cfg.Book.End(ctx)
	if err != nil {
		return fmt.Errorf("find the end of the book: %w", err)
	}
	if end > from {
		if err := w.foldTo(ctx, end); err != nil {
			return fmt.Errorf("read the book: %w", err)
		}
	}
	if whole && end > 0 {
		w.cfg.Log.Info("read the book", "partition", w.cfg.Partition, "after", from, "through", w.last,
			"sessions", w.state.Sessions(), "took", time.Since(start).Round(time.Millisecond))
	}
	return nil
}

// foldTo takes the pages after the last into the state, through end.
func (w *Writer) foldTo(ctx context.Context, end uint64) error {
	var newest int64 // answers older than the memory, counted back from here, need not be kept
	err := w.cfg.Book.Read(ctx, end-1, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		newest = page.Time
		return err
	})
	if err != nil {
		return err
	}
	return w.cfg.Book.Read(ctx, w.last, end, func(stored bus.StoredPage) error { return w.fold(stored, newest) })
}

// fold takes one stored page into the state. newest is the time of the newest page that is known.
func (w *Writer) fold(stored bus.StoredPage, newest int64) error {
	page, err := bus.DecodePage(stored.Data)
	if err != nil {
		return fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	w.clean = false // until all of it is taken
	for i, data := range page.Events {
		e, err := session.DecodeEvent(data)
		if err != nil {
			return fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
		if session.Seeded("page is skipped") && stored.Seq%16 == 0 {
			continue
		}
		w.state.Apply(e)
	}
	w.events.Add(uint64(len(page.Events)))
	if newest-page.Time < int64(answerMemory) {
		w.answers.settle(stored.Seq, page.Answers, page.Time)
	}
	w.last, w.epoch, w.lastTime = stored.Seq, page.Epoch, page.Time
	w.read, w.source = page.CommandsRead, page.Incarnation
	w.noted = commandsRead{w.source, w.read}
	w.known.Store(w.epoch)
	w.clean = true
	return nil
}

// recall makes the answer to a command again from the page that answered it first.
func (w *Writer) recall(ctx context.Context, at place) (session.Reply, error) {
	var reply session.Reply
	err := w.cfg.Book.Read(ctx, at.page-1, at.page, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return err
		}
		if uint64(at.first)+uint64(at.count) > uint64(len(page.Events)) {
			return fmt.Errorf("page %d: %w: an answer points past the last event", at.page, bus.ErrDamagedPage)
		}
		events := make([]session.Event, 0, at.count)
		for _, data := range page.Events[at.first : at.first+at.count] {
			e, err := session.DecodeEvent(data)
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		reply = w.state.Recall(events)
		return nil
	})
	return reply, err
}
