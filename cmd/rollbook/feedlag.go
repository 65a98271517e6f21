package main

import (
	"context"
	"errors"
	"fmt"

	"rollbook/bus"
)

// feedLag says that the book of a partition has an event that its feed has not had.
type feedLag struct {
	partition bus.Partition
	page      uint64 // of the last event that was published; 0: none was, or it has left the feed
	end       uint64 // of the book
}

func (l feedLag) String() string {
	return fmt.Sprintf("partition %s up to page %d of %d", l.partition, l.page, l.end)
}

// lagTexts are the lags in words.
func lagTexts(lags []feedLag) (each []string) {
	for _, l := range lags {
		each = append(each, l.String())
	}
	return each
}

// feedLags finds the partitions whose feed is behind, each as the book and the marker were at one moment. A page without
// events, as a writer leaves it when it takes over, is nothing to publish: the pages after the marker are looked at, as
// far as the first event.
func feedLags(ctx context.Context, b *bus.Bus, partitions int) (list []feedLag, err error) {
	for p := range bus.Partition(partitions) {
		end, err := b.Book(p).End(ctx)
		if err != nil {
			return nil, err
		}
		marker, err := b.Feed(p).Marker(ctx)
		if err != nil {
			return nil, err
		}
		behind, err := eventAfter(ctx, b.Book(p), marker, end)
		if err != nil {
			return nil, err
		}
		if behind {
			list = append(list, feedLag{p, marker.At.Page, end})
		}
	}
	return list, nil
}

// errEvent ends a reading that has found an event.
var errEvent = errors.New("there is an event")

func eventAfter(ctx context.Context, book *bus.Book, marker bus.FeedMarker, end uint64) (bool, error) {
	if marker.At.Page > end {
		return false, nil // published since the end was asked for
	}
	err := book.Read(ctx, max(marker.At.Page, 1)-1, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return fmt.Errorf("page %d: %w", stored.Seq, err)
		}
		done := 0
		if stored.Seq == marker.At.Page {
			done = int(marker.At.Index) + 1
		}
		if len(page.Events) > done {
			return errEvent
		}
		return nil
	})
	if errors.Is(err, errEvent) {
		return true, nil
	}
	return false, err
}
