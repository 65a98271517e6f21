package history_test

import (
	"testing"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine/session"
	"rollbook/projections/history"
)

// TestPageAt: for every time round those of a book's pages, the page is the one that a look at all of them finds.
func TestPageAt(t *testing.T) {
	b := bustest.Created(t, 1)
	times := []int64{10, 10, 10, 20, 21, 21, 40}
	for length := range len(times) + 1 {
		if length > 0 {
			data, err := bus.EncodePage(bus.Page{Epoch: 1, Time: times[length-1]})
			if err != nil {
				t.Fatal(err)
			}
			for end := uint64(0); end < uint64(length); { // a busy machine may not say whether it was stored: the book does
				_, _ = b.Book(0).Append(t.Context(), uint64(length-1), data)
				if end, err = b.Book(0).End(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for at := int64(9); at <= 41; at++ {
			want := uint64(1)
			for want <= uint64(length) && times[want-1] < at {
				want++
			}
			if got, err := history.PageAt(t.Context(), b.Book(0), session.Instant(at), uint64(length)); got != want || err != nil {
				t.Errorf("of %d pages, at %d: %d, %v; want %d", length, at, got, err, want)
			}
		}
	}
}
