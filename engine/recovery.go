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
	newest, err := w.timeOf(ctx, end) // answers older than the memory, counted back from here, need not be kept
	if err != nil {
		return err
	}
	return w.cfg.Book.Read(ctx, w.last, end, func(stored bus.StoredPage) error { return w.fold(stored, newest) })
}

// fold takes one stored page into the state. newest is the time of the newest page that is known.
func (w *Writer) fold(stored bus.StoredPage, newest int64) error {
	page, err := unfold(stored, func(e session.Event) {
		w.clean = false // until all of them are taken
		if session.Seeded("page is skipped") && stored.Seq%16 == 0 {
			return
		}
		w.state.Apply(e)
	})
	if err != nil {
		return err
	}
	w.events.Add(uint64(len(page.Events)))
	if newest-page.Time < int64(answerMemory) {
		w.answers.settle(stored.Seq, page.Answers, page.Time)
	}
	w.standAt(stored.Seq, page)
	return nil
}

// standAt notes that the state is that of the book through a page.
func (w *Writer) standAt(seq uint64, page bus.Page) {
	w.last, w.epoch, w.lastTime = seq, page.Epoch, page.Time
	w.read, w.source = page.CommandsRead, page.Incarnation
	w.noted = commandsRead{w.source, w.read}
	w.known.Store(w.epoch)
	w.clean = true
}

// unfold decodes a stored page and hands its events to take, in order.
func unfold(stored bus.StoredPage, take func(session.Event)) (bus.Page, error) {
	page, err := bus.DecodePage(stored.Data)
	if err != nil {
		return page, fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	for i, data := range page.Events {
		e, err := session.DecodeEvent(data)
		if err != nil {
			return page, fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
		take(e)
	}
	return page, nil
}

// timeOf is the time of a page.
func (w *Writer) timeOf(ctx context.Context, seq uint64) (at int64, err error) {
	err = w.cfg.Book.Read(ctx, seq-1, seq, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		at = page.Time
		return err
	})
	return at, err
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
