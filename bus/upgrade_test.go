package bus_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// TestWhatAnOlderProgramDidNotMake: what is missing is named, added on purpose, and nothing that is there is changed.
func TestWhatAnOlderProgramDidNotMake(t *testing.T) {
	b := created(t, 2)
	ctx := soon(t)
	missing := func(want ...string) {
		t.Helper()
		got, err := b.Missing(ctx)
		ok(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("missing are %v, and not %v", got, want)
		}
	}
	type made struct {
		at  time.Time
		cfg jetstream.StreamConfig
	}
	streams := func() map[string]made {
		t.Helper()
		all := map[string]made{}
		list := b.JetStream().ListStreams(ctx)
		for info := range list.Info() {
			info.Config.Metadata = nil // the server's own remarks
			all[info.Config.Name] = made{info.Created, info.Config}
		}
		return all
	}
	drop := func(names ...string) {
		t.Helper()
		for _, name := range names {
			ok(t, b.JetStream().DeleteStream(ctx, name))
		}
	}
	missing()
	appendPages(t, b.Book(1), 0, 3)

	// A setting of the operator's stays.
	ok(t, b.SetFeedRetention(ctx, bus.FeedRetention{MaxAge: time.Hour}))
	before := streams()
	drop("KV_WEBHOOKS", bus.StreamHistory, bus.StreamCheckpoints, "KV_KEYS")
	missing("KV_KEYS", bus.StreamCheckpoints, "KV_WEBHOOKS", bus.StreamHistory)
	if got, err := b.Missing(ctx, bus.StreamHistory, bus.StreamFeed); err != nil || !slices.Equal(got, []string{bus.StreamHistory}) {
		t.Errorf("of two streams %v are missing, %v", got, err)
	}
	added, err := b.AddMissing(ctx)
	ok(t, err)
	if !slices.Equal(added, []string{"KV_KEYS", bus.StreamCheckpoints, "KV_WEBHOOKS", bus.StreamHistory}) {
		t.Errorf("added are %v", added)
	}
	missing()
	if added, err = b.AddMissing(ctx); err != nil || len(added) != 0 {
		t.Errorf("added to what lacks nothing are %v, %v", added, err)
	}
	after := streams()
	if len(after) != len(before) {
		t.Errorf("there were %d streams, and are %d", len(before), len(after))
	}
	for name, was := range before {
		is := after[name]
		if again := slices.Contains([]string{"KV_KEYS", bus.StreamCheckpoints, "KV_WEBHOOKS", bus.StreamHistory}, name); again == is.at.Equal(was.at) {
			t.Errorf("%s was made at %s, and now at %s", name, was.at, is.at)
		}
		if is.cfg.MaxAge != was.cfg.MaxAge || is.cfg.Retention != was.cfg.Retention || is.cfg.Discard != was.cfg.Discard || is.cfg.DenyDelete != was.cfg.DenyDelete ||
			!slices.Equal(is.cfg.Subjects, was.cfg.Subjects) || is.cfg.Replicas != was.cfg.Replicas {
			t.Errorf("%s was %+v, and is %+v", name, was.cfg, is.cfg)
		}
	}

	// The embedded bus's own start makes what is missing by itself.
	drop(bus.StreamFeed, bus.StreamSnapshots)
	missing(bus.StreamSnapshots, bus.StreamFeed)
	_, err = b.Open(ctx)
	ok(t, err)
	missing()
}

// TestNothingIsAddedToNothing: without a book there is nothing to add to.
func TestNothingIsAddedToNothing(t *testing.T) {
	_, b := startBus(t, "")
	_, err := b.AddMissing(t.Context())
	want(t, err, bus.ErrNotCreated)
}
