package history

import (
	"context"
	"errors"
	"iter"
	"sort"

	"rollbook/bus"
	"rollbook/engine/session"
)

// A question about a time needs the pages of that time, and the sessions that were live when it began: whose venue and client
// their later events do not repeat, and which of them a revocation ended. The pages are found by bisection, since a book's
// times never go back. The sessions are in the engine's newest snapshot from before them, and the pages in between; where
// there is none, as for a time that is long ago, the book is read from its first page.

// PageAt is the first of a book's pages through end whose time is not before an instant, end+1 where there is none. The events
// before the instant are on that page and before it; those after it are on that page and behind it. A handful of pages are
// read, however long the book is.
func PageAt(ctx context.Context, book Book, at session.Instant, end uint64) (uint64, error) {
	var failed error
	n := sort.Search(int(end), func(n int) bool {
		if failed != nil {
			return true
		}
		var p page
		p, failed = pageOf(ctx, book, uint64(n)+1)
		return p.time >= at
	})
	return uint64(n) + 1, failed
}

// within is what pages of a book have to be read for a time, and the state of the sessions before them; nil: before the first
// page. An instant of zero is no bound.
func (r *Reader) within(ctx context.Context, book Book, from, to session.Instant) (span, *session.State, error) {
	end, err := book.End(ctx)
	if err != nil || from == 0 && to == 0 || r.cfg.Scan {
		return span{0, end}, nil, err
	}
	through := end
	if to != 0 {
		if through, err = PageAt(ctx, book, to, end); err != nil {
			return span{}, nil, err
		}
		through = min(through, end)
	}
	if from == 0 {
		return span{0, through}, nil, nil
	}
	first, err := PageAt(ctx, book, from, end)
	if err != nil || first == 1 {
		return span{0, through}, nil, err
	}
	var state *session.State
	restored, _, err := book.RestoreThrough(ctx, session.SnapshotVersion, first-1, func(chunks iter.Seq2[[]byte, error]) (err error) {
		// The policies shape new events alone, and none is made here.
		state, err = session.ReadSnapshot(session.Policies{}, chunks)
		return err
	})
	switch {
	case err != nil && (ctx.Err() != nil || errors.Is(err, bus.ErrClosed)):
		return span{}, nil, err
	case err != nil || restored.Page == 0: // the book has it all
		return span{0, through}, nil, nil
	}
	return span{restored.Page, max(through, restored.Page)}, state, nil
}

// rollOf is the roll as a state has it. What began the sessions is not in it.
func rollOf(state *session.State) *Roll {
	r := NewRoll()
	if state == nil {
		return r
	}
	state.EachSession(func(s session.Session) { r.live[s.ID] = &seat{Session: s} })
	state.EachOneTime(func(e *session.OneTimeIssued) {
		if e.Session != (session.SessionID{}) {
			r.tokens[e.Token] = issued{e.Session, e.Until}
		}
	})
	r.sweep = max(r.sweep, 2*len(r.tokens))
	return r
}
