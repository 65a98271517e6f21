package history

import (
	"context"
	"errors"
	"fmt"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Reach is the time that books cover, by their own clocks.
type Reach struct {
	First session.Instant // of the first event, or of the first page where that has none
	Last  session.Instant // of the last page; where there are several books, of the one that was written last
}

// Reach is what time the books cover: all, or the one that a user is in. Both ends are zero where nothing is written.
func (r *Reader) Reach(ctx context.Context, user session.UserID) (all Reach, err error) {
	for _, book := range r.books(user) {
		one, err := reachOf(ctx, book)
		if err != nil {
			return Reach{}, fmt.Errorf("partition %s: %w", book.Partition(), err)
		}
		if one.First != 0 && (all.First == 0 || one.First < all.First) {
			all.First = one.First
		}
		all.Last = max(all.Last, one.Last)
	}
	return all, nil
}

func reachOf(ctx context.Context, book Book) (reach Reach, err error) {
	end, err := book.End(ctx)
	if err != nil || end == 0 {
		return Reach{}, err
	}
	first, err := pageOf(ctx, book, 1)
	if err != nil {
		return Reach{}, err
	}
	reach.First = first.time
	if len(first.events) > 0 {
		e, err := first.event(0)
		if err != nil {
			return Reach{}, err
		}
		reach.First = min(reach.First, e.When())
	}
	last, err := pageOf(ctx, book, end)
	reach.Last = last.time
	return reach, err
}

// pageOf reads one page.
func pageOf(ctx context.Context, book Book, seq uint64) (p page, err error) {
	err = book.Read(ctx, seq-1, seq, func(stored bus.StoredPage) (err error) {
		p, err = open(stored)
		return err
	})
	return p, err
}

// Any says whether the book has anything that the query asks for. It reads no further than to the first of it.
func (r *Reader) Any(ctx context.Context, q Query) (found bool, err error) {
	err = r.Walk(ctx, q, func(Entry) error {
		found = true
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// Shown finds the session that its venue showed under another id, after a refresh; zero: there is none in the book, or none of
// the user, who may be empty.
func (r *Reader) Shown(ctx context.Context, user session.UserID, as session.Handle) (id session.SessionID, err error) {
	err = r.Walk(ctx, Query{User: user, Types: []session.EventType{(&session.SessionRefreshed{}).Type()}}, func(e Entry) error {
		if refreshed, is := e.Event.(*session.SessionRefreshed); is && refreshed.Handle == as {
			id = refreshed.Session
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return id, err
}

// books are those that a user is in: one; of nobody in particular, all.
func (r *Reader) books(user session.UserID) []Book {
	if user == "" {
		return r.cfg.Books
	}
	p := bus.PartitionOf(string(user), len(r.cfg.Books))
	return r.cfg.Books[p : p+1]
}
