package main

import (
	"log/slog"
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestFirstPageAt: for every time round those of a book's pages, the page is the one that a look at all of them finds.
func TestFirstPageAt(t *testing.T) {
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	b, err := server.Connect(t.Context(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
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
			if got, err := firstPageAt(t.Context(), b.Book(0), session.Instant(at)); got != want || err != nil {
				t.Errorf("of %d pages, at %d: %d, %v; want %d", length, at, got, err, want)
			}
		}
	}
}
