package main

import (
	"context"
	"fmt"
	"sort"

	"rollbook/bus"
	"rollbook/engine/session"
)

// firstPageAt finds the first page of a book that was written at a time or later; behind the end when there is none. Pages stand
// in the order of their times, so that a handful are looked at, however long the book is.
func firstPageAt(ctx context.Context, book *bus.Book, at session.Instant) (page uint64, err error) {
	end, err := book.End(ctx)
	if err != nil {
		return 0, err
	}
	timeOf := func(n uint64) (t session.Instant) {
		if err == nil {
			err = book.Read(ctx, n-1, n, func(stored bus.StoredPage) error {
				page, err := bus.DecodePage(stored.Data)
				t = session.Instant(page.Time)
				return err
			})
		}
		return t
	}
	page = uint64(sort.Search(int(end), func(n int) bool { return timeOf(uint64(n)+1) >= at })) + 1
	if err != nil {
		return 0, fmt.Errorf("look for the page of a time: %w", err)
	}
	return page, nil
}
