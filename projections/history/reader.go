package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"rollbook/bus"
	"rollbook/engine/session"
)

// ReaderConfig is what a reader stands on.
type ReaderConfig struct {
	Books []Book // one a partition, in order of the partitions
	// Scan has every page read, also where the lists or a snapshot would spare it: to hold one way against the other.
	Scan bool
	Log  *slog.Logger
}

// Reader answers questions about the past. Its methods may be used at the same time; each reads the book for itself, to its
// end as of the question.
type Reader struct {
	cfg         ReaderConfig
	read, total atomic.Uint64
}

// NewReader makes a reader; it reads nothing.
func NewReader(cfg ReaderConfig) *Reader { return &Reader{cfg: cfg} }

// Progress is how many pages have been read, of how many that are known to be needed: for a bar.
func (r *Reader) Progress() (read, of uint64) { return r.read.Load(), r.total.Load() }

// Walk calls fn with what the query asks for, in the order of the book's clock; where two partitions have the same instant
// the lower one comes first. It returns fn's error as it is. The book can be read while it grows: what is appended after the
// beginning is left out.
func (r *Reader) Walk(ctx context.Context, q Query, fn func(Entry) error) error {
	var streams []iter.Seq2[Entry, error]
	for _, book := range r.books(q.User) {
		spans, roll, err := r.planOf(ctx, book, q)
		if err != nil {
			return fmt.Errorf("partition %s: %w", book.Partition(), err)
		}
		streams = append(streams, r.entries(ctx, book, spans, roll, q))
	}
	return merge(streams, fn)
}

// errEnough ends the reading of a book.
var errEnough = errors.New("enough")

// planOf is which pages of a book have to be read for a query, and the roll before them.
func (r *Reader) planOf(ctx context.Context, book Book, q Query) ([]span, *Roll, error) {
	if q.User != "" {
		spans, err := r.plan(ctx, book, q.User)
		return spans, NewRoll(), err
	}
	pages, state, err := r.within(ctx, book, q.From, q.To)
	r.total.Add(pages.through - pages.after)
	return []span{pages}, rollOf(state), err
}

// entries are what a query asks for of one book's pages.
func (r *Reader) entries(ctx context.Context, book Book, spans []span, roll *Roll, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := r.pages(ctx, book, spans, func(p page) error {
			past := q.To != 0 && p.time >= q.To && len(p.events) > 0
			for i := range p.events {
				if mine, err := p.concerns(i, q.User); err != nil || !mine {
					if err != nil {
						return err
					}
					past = false
					continue
				}
				e, err := p.event(i)
				if err != nil {
					return err
				}
				past = past && e.When() >= q.To
				entry := roll.Take(bus.Position{Partition: book.Partition(), Page: p.seq, Index: uint32(i)}, e)
				if q.wants(&entry) && !yield(entry, nil) {
					return errEnough
				}
			}
			if past {
				return errEnough // the clock never runs backwards within a book
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Entry{}, fmt.Errorf("partition %s: %w", book.Partition(), err))
		}
	}
}

// concerns says whether an event has to be looked at for a user's history: the user's own, and those of nobody in
// particular, which may end sessions of all.
func (p *page) concerns(i int, user session.UserID) (bool, error) {
	if user == "" {
		return true, nil
	}
	owner, err := session.Whose(p.events[i])
	if err != nil {
		return false, fmt.Errorf("event %d of page %d: %w", i, p.seq, err)
	}
	return owner == user || owner == "", nil
}

// A page that is asked for alone costs a way to the server and back, and nothing else to speak of: several are on their way
// at a time. What is longer than a few pages is read as it comes, and not kept.
const (
	together = 8
	fewPages = 4
)

// pages reads spans of a book, in order, and counts them off.
func (r *Reader) pages(ctx context.Context, book Book, spans []span, fn func(page) error) error {
	take := func(stored bus.StoredPage) error {
		p, err := open(stored)
		if err == nil {
			err = fn(p)
		}
		r.read.Add(1)
		return err
	}
	for len(spans) > 0 {
		n := 0
		for n < min(together, len(spans)) && spans[n].through-spans[n].after <= fewPages {
			n++
		}
		if n < 2 {
			if err := book.Read(ctx, spans[0].after, spans[0].through, take); err != nil {
				return err
			}
			spans = spans[1:]
			continue
		}
		found, err := fetch(ctx, book, spans[:n])
		if err != nil {
			return err
		}
		for _, stored := range found {
			if err := take(stored); err != nil {
				return err
			}
		}
		spans = spans[n:]
	}
	return nil
}

// fetch reads short spans at the same time, and gives their pages in order.
func fetch(ctx context.Context, book Book, spans []span) ([]bus.StoredPage, error) {
	parts := make([][]bus.StoredPage, len(spans))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range spans {
		g.Go(func() error {
			return book.Read(ctx, s.after, s.through, func(stored bus.StoredPage) error {
				parts[i] = append(parts[i], stored)
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(parts...), nil
}

// merge gives the entries of several books in the order of their instants.
func merge(streams []iter.Seq2[Entry, error], fn func(Entry) error) error {
	if len(streams) == 1 { // the usual case, and no need to switch to and fro
		for entry, err := range streams[0] {
			if err == nil {
				err = fn(entry)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	type head struct {
		entry Entry
		more  bool
		next  func() (Entry, error, bool)
	}
	heads := make([]head, len(streams))
	advance := func(h *head) (err error) {
		h.entry, err, h.more = h.next()
		return err
	}
	for i, stream := range streams {
		next, stop := iter.Pull2(stream)
		defer stop()
		heads[i].next = next
		if err := advance(&heads[i]); err != nil {
			return err
		}
	}
	for {
		var first *head
		for i := range heads {
			if h := &heads[i]; h.more && (first == nil || h.entry.Event.When() < first.entry.Event.When()) {
				first = h
			}
		}
		if first == nil {
			return nil
		}
		if err := fn(first.entry); err != nil {
			return err
		}
		if err := advance(first); err != nil {
			return err
		}
	}
}

// plan is which pages of a book have to be read, for a user or (empty) for all.
func (r *Reader) plan(ctx context.Context, book Book, user session.UserID) ([]span, error) {
	end, err := book.End(ctx)
	if err != nil {
		return nil, err
	}
	spans := []span{{0, end}}
	if user != "" && !r.cfg.Scan {
		listed, err := r.listed(ctx, book, user, end)
		switch {
		case err == nil:
			spans = listed
		case ctx.Err() != nil || errors.Is(err, bus.ErrClosed):
			return nil, err
		default:
			// Whatever is the matter with the lists, the book has it all.
			r.cfg.Log.Info("the whole book is read: the history index is of no use", "partition", book.Partition(), "err", err)
		}
	}
	for _, s := range spans {
		r.total.Add(s.through - s.after)
	}
	return spans, nil
}

// listed is the pages that a user is in, or that concern everybody, by the lists; and those that no list covers.
func (r *Reader) listed(ctx context.Context, book Book, user session.UserID, end uint64) ([]span, error) {
	m, err := goodMark(ctx, book)
	if err != nil {
		return nil, err
	}
	var spans []span
	for _, key := range []userKey{keyOf(user), keyOf("")} {
		var runs []span
		err := book.History(ctx, key.bucket(), func(data []byte) error {
			l, err := decodeList(data, key)
			if err != nil || l.gen != m.gen {
				return nil // its run counts as not covered
			}
			// What lies beyond the mark may be of a future that was restored away.
			runs = append(runs, span{min(l.run.after, m.through), min(l.run.through, m.through)})
			for _, seq := range l.pages[key] {
				if seq <= min(m.through, end) {
					spans = append(spans, span{seq - 1, seq})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		spans = append(spans, uncovered(runs, end)...)
	}
	return joined(spans), nil
}
