package bus_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

func TestCreateOnce(t *testing.T) {
	_, b := startBus(t, "")
	_, err := b.Open(t.Context())
	want(t, err, bus.ErrNotCreated)
	for _, bad := range []bus.Layout{{}, {Partitions: bus.MaxPartitions + 1, Replicas: 1}, {Partitions: 1}, {Partitions: 1, Replicas: 9}} {
		if b.Create(t.Context(), bad) == nil {
			t.Errorf("%+v was created", bad)
		}
	}
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 3, Replicas: 1}))
	want(t, b.Create(t.Context(), bus.Layout{Partitions: 3, Replicas: 1}), bus.ErrExists)
	want(t, b.Create(t.Context(), bus.Layout{Partitions: 5, Replicas: 1}), bus.ErrExists)
	l, err := b.Open(t.Context())
	ok(t, err)
	if l.Partitions != 3 {
		t.Errorf("the layout has %d partitions after a second create", l.Partitions)
	}
}

// TestCreateAfterACrash leaves what a create leaves that was cut short.
func TestCreateAfterACrash(t *testing.T) {
	b := created(t, 3)
	ok(t, b.JetStream().DeleteStream(t.Context(), bus.BookStream(0)))
	l, err := b.Open(t.Context())
	want(t, err, bus.ErrUnfinished)
	if l != (bus.Layout{Partitions: 3, Replicas: 1}) {
		t.Errorf("the layout to go on with is %+v", l)
	}
	ok(t, b.Create(t.Context(), l))
	_, err = b.Open(t.Context())
	ok(t, err)

	// With pages in another book it is no unfinished create but a lost book.
	appendPages(t, b.Book(2), 0, 1)
	ok(t, b.JetStream().DeleteStream(t.Context(), bus.BookStream(0)))
	want(t, b.Create(t.Context(), bus.Layout{Partitions: 3, Replicas: 1}), bus.ErrExists)
	_, err = b.Open(t.Context())
	want(t, err, bus.ErrLayout)
}

func TestNothingLeavesABook(t *testing.T) {
	b := created(t, 1)
	appendPages(t, b.Book(0), 0, 3)
	s, err := b.JetStream().Stream(t.Context(), bus.BookStream(0))
	ok(t, err)
	if s.DeleteMsg(t.Context(), 2) == nil || s.SecureDeleteMsg(t.Context(), 2) == nil {
		t.Error("a page was deleted")
	}
	if s.Purge(t.Context()) == nil {
		t.Error("the book was purged")
	}
	cfg := s.CachedInfo().Config
	cfg.DenyDelete, cfg.DenyPurge = false, false
	if _, err := b.JetStream().UpdateStream(t.Context(), cfg); err == nil {
		t.Error("the deny flags were taken off")
	}
	n := 0
	ok(t, b.Book(0).Read(t.Context(), 0, 3, func(bus.StoredPage) error { n++; return nil }))
	if n != 3 {
		t.Errorf("%d pages are left of 3", n)
	}
}

// TestOpenRefusesWhatItMustNotWriteTo sets one thing wrong at a time.
func TestOpenRefusesWhatItMustNotWriteTo(t *testing.T) {
	_, b := startBus(t, "")
	ctx := t.Context()
	ok(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	js := b.JetStream()
	s, err := js.Stream(ctx, bus.BookStream(0))
	ok(t, err)
	good := s.CachedInfo().Config
	cases := map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string
	}{
		"memory":           {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "files"},
		"age":              {func(c *jetstream.StreamConfig) { c.MaxAge = 1e12 }, "age"},
		"drops old":        {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard"},
		"deletes":          {func(c *jetstream.StreamConfig) { c.DenyDelete = false }, "deleted"},
		"purges":           {func(c *jetstream.StreamConfig) { c.DenyPurge = false }, "purged"},
		"subjects":         {func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") }, "one subject"},
		"no republish":     {func(c *jetstream.StreamConfig) { c.RePublish = nil }, "republish"},
		"no direct get":    {func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "directly"},
		"async":            {func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, "async"},
		"foreign":          {func(c *jetstream.StreamConfig) { c.Metadata = nil }, "not made by rollbook"},
		"later layout":     {func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"rollbook-layout": "2"} }, "version 2"},
		"other partitions": {func(c *jetstream.StreamConfig) { c.Metadata["rollbook-partitions"] = "4" }, "4 partitions"},
		"no partitions":    {func(c *jetstream.StreamConfig) { c.Metadata["rollbook-partitions"] = "0" }, "partition count"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ok(t, js.DeleteStream(ctx, bus.BookStream(0)))
			cfg := good
			cfg.Metadata = map[string]string{"rollbook-layout": "1", "rollbook-partitions": "1"}
			c.change(&cfg)
			_, err := js.CreateStream(ctx, cfg)
			ok(t, err)
			_, err = b.Open(ctx)
			want(t, err, bus.ErrLayout)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error %q does not say %q", err, c.says)
			}
		})
	}
	ok(t, js.DeleteStream(ctx, bus.BookStream(0)))
	_, err = js.CreateStream(ctx, good)
	ok(t, err)
	if _, err := b.Open(ctx); err != nil {
		t.Errorf("what Create made is refused: %v", err)
	}
	ok(t, js.DeleteStream(ctx, "KV_"+bus.BucketDirectory))
	_, err = b.Open(ctx)
	want(t, err, bus.ErrLayout)
}

func TestOpenRefusesACommandsStreamThatDrops(t *testing.T) {
	b := created(t, 1)
	cfg := jetstream.StreamConfig{Name: bus.StreamCommands, Subjects: []string{"rollbook.command.*.*"}, Storage: jetstream.MemoryStorage, MaxMsgs: 10, MaxAge: 1e11}
	ok(t, b.JetStream().DeleteStream(t.Context(), bus.StreamCommands))
	_, err := b.JetStream().CreateStream(t.Context(), cfg)
	ok(t, err)
	_, err = b.Open(t.Context())
	want(t, err, bus.ErrLayout)
}
