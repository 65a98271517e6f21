package main

import (
	"time"

	"rollbook/bus"
	"rollbook/engine"
	"rollbook/projections/feed"
)

// feedSettings say how long the feed keeps events. On a bus elsewhere, `init` sets it and its operator may change it.
type feedSettings struct {
	MaxAge   time.Duration `help:"How long the feed (the stream EVENTS) keeps an event; the book keeps all. With --bus, what init said stays. 0: for ever." default:"720h" placeholder:"TIME" env:"ROLLBOOK_FEED_MAX_AGE"`
	MaxBytes int64         `help:"How many bytes the feed keeps, the oldest events going first. With --bus, what init said stays. 0: no bound." default:"0" placeholder:"N" env:"ROLLBOOK_FEED_MAX_BYTES"`
}

// check refuses what no stream can be.
func (f feedSettings) check() error {
	switch {
	case f.MaxAge < 0 || f.MaxAge > 0 && f.MaxAge < time.Minute:
		return refuse("usage", "--feed-max-age %s: use 1m or more, or 0 for ever", f.MaxAge)
	case f.MaxBytes < 0 || f.MaxBytes > 0 && f.MaxBytes < 16<<20:
		return refuse("usage", "--feed-max-bytes %d: use %d or more, or 0 for no bound", f.MaxBytes, 16<<20)
	}
	return nil
}

func (f feedSettings) retention() bus.FeedRetention {
	return bus.FeedRetention{MaxAge: f.MaxAge, MaxBytes: f.MaxBytes}
}

// furnishFeed makes the publisher of what the writers write; it starts nothing.
func (h *house) furnishFeed() {
	var sources []feed.Source
	for i, w := range h.writers {
		p := bus.Partition(i)
		sources = append(sources, feed.Source{Book: h.bus.Book(p), Feed: feed.On(h.bus.Feed(p)),
			Writing: func() bool { return w.Role() == engine.Writing }})
	}
	h.feed = feed.NewPublisher(feed.Config{Sources: sources, Log: h.log})
	h.registry.MustRegister(h.feed)
}
