package engine

import (
	"context"
	"fmt"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// load throws the state away and folds the book to its end as of now: from the newest good snapshot, or from its first
// page. The start, a take-over and the way out of a failed append are this one function.
func (w *Writer) load(ctx context.Context) error {
	start := time.Now()
	if err := w.begin(ctx); err != nil {
		return err
	}
	end, err := w.cfg.Book.End(ctx)
	if err != nil {
		return fmt.Errorf("find the end of the book: %w", err)
	}
	if end == 0 {
		return nil
	}
	var newest int64 // answers older than the memory, counted back from here, need not be kept
	err = w.cfg.Book.Read(ctx, end-1, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		newest = page.Time
		return err
	})
	from := w.last
	if err == nil {
		err = w.cfg.Book.Read(ctx, w.last, end, func(stored bus.StoredPage) error { return w.fold(stored, newest) })
	}
	if err != nil {
		return fmt.Errorf("read the book: %w", err)
	}
	w.cfg.Log.Info("read the book", "partition", w.cfg.Partition, "after", from, "through", w.last,
		"sessions", w.state.Sessions(), "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// fold takes one stored page into the state.
func (w *Writer) fold(stored bus.StoredPage, newest int64) error {
	page, err := bus.DecodePage(stored.Data)
	if err != nil {
		return fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	for i, data := range page.Events {
		e, err := session.DecodeEvent(data)
		if err != nil {
			return fmt.Errorf("event %d of page %d: %w", i, stored.Seq, err)
		}
		w.state.Apply(e)
	}
	w.events.Add(uint64(len(page.Events)))
	if newest-page.Time < int64(answerMemory) {
		w.answers.settle(stored.Seq, page.Answers, page.Time)
	}
	w.last, w.epoch, w.lastTime = stored.Seq, page.Epoch, page.Time
	w.read, w.source = page.CommandsRead, page.Incarnation
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
