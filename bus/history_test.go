package bus_test

import (
	"errors"
	"fmt"
	"testing"

	"rollbook/bus"
)

// listsOf are the lists of a bucket.
func listsOf(t testing.TB, k *bus.Book, bucket int) (lists []string) {
	t.Helper()
	ok(t, k.History(t.Context(), bucket, func(list []byte) error { lists = append(lists, string(list)); return nil }))
	return lists
}

// TestHistoryLists: what is put into a bucket comes back in order, more than one batch of it, and of no other bucket or
// partition; the mark is the last one put.
func TestHistoryLists(t *testing.T) {
	_, b := startBus(t, "")
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	book, other := b.Book(0), b.Book(1)
	if mark, err := book.HistoryMark(t.Context()); err != nil || mark != nil {
		t.Errorf("before any was put the mark is %q, %v", mark, err)
	}
	if lists := listsOf(t, book, 3); len(lists) > 0 {
		t.Errorf("before any was put there are %q", lists)
	}
	const many = 1100 // a batch has 1,024
	for n := range many {
		if n%100 == 0 {
			ok(t, book.PutHistory(t.Context(), 4, []byte("of bucket 4")))
			ok(t, other.PutHistory(t.Context(), 3, []byte("of partition 1")))
			ok(t, book.PutHistoryMark(t.Context(), fmt.Appendf(nil, "mark %d", n)))
		}
		ok(t, book.PutHistory(t.Context(), 3, fmt.Append(nil, n)))
	}
	lists := listsOf(t, book, 3)
	for n, list := range lists {
		if list != fmt.Sprint(n) {
			t.Fatalf("list %d is %q", n, list)
		}
	}
	if len(lists) != many || len(listsOf(t, book, 4)) != 11 || len(listsOf(t, other, 3)) != 11 || len(listsOf(t, book, bus.HistoryBuckets-1)) != 0 {
		t.Errorf("%d lists in the bucket, and others", len(lists))
	}
	if mark, err := book.HistoryMark(t.Context()); err != nil || string(mark) != "mark 1000" {
		t.Errorf("the mark is %q, %v", mark, err)
	}
	enough := errors.New("enough")
	if err := book.History(t.Context(), 3, func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the reader's own error comes back as %v", err)
	}
}

// TestHistoryMissing: a stream that is not there is told apart from an empty one. An embedded server makes it when the
// book is opened.
func TestHistoryMissing(t *testing.T) {
	_, b := startBus(t, "")
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	ok(t, b.JetStream().DeleteStream(t.Context(), bus.StreamHistory))
	book := b.Book(0)
	if err := book.PutHistory(t.Context(), 0, []byte("x")); !errors.Is(err, bus.ErrNotCreated) {
		t.Errorf("put: %v", err)
	}
	if _, err := book.HistoryMark(t.Context()); !errors.Is(err, bus.ErrNotCreated) {
		t.Errorf("mark: %v", err)
	}
	_, err := b.Open(t.Context())
	ok(t, err)
	ok(t, book.PutHistory(t.Context(), 0, []byte("x")))
}
