package bus_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// eachOf is what a backup takes of a stream, by subject.
func eachOf(t *testing.T, b *bus.Bus, stream string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ok(t, b.EachBeside(t.Context(), stream, func(m bus.Beside) error {
		if _, twice := all[m.Subject]; twice {
			t.Errorf("%s comes twice", m.Subject)
		}
		all[m.Subject] = fmt.Sprintf("%s %v", m.Data, m.Header)
		return nil
	}))
	return all
}

// TestEachBeside: of a bucket the newest values and nothing that was replaced or deleted, also when a crash has left it
// there; of another stream every message, with its sender's headers and no others.
func TestEachBeside(t *testing.T) {
	b := created(t, 1)
	put := func(subject, data string, header nats.Header) {
		t.Helper()
		_, err := b.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte(data), Header: header})
		ok(t, err)
	}
	put("$KV.DIRECTORY.user.ann", "old", nil) // as a crash between a write and the erasure leaves it
	put("$KV.DIRECTORY.user.bob", "bob", nil)
	put("$KV.DIRECTORY.user.ann", "new", nil)
	put("$KV.DIRECTORY.user.cid", "erased", nil)
	put("$KV.DIRECTORY.user.cid", "", nats.Header{"KV-Operation": {"DEL"}})
	if got := eachOf(t, b, "KV_DIRECTORY"); !maps.Equal(got, map[string]string{"$KV.DIRECTORY.user.ann": "new map[]", "$KV.DIRECTORY.user.bob": "bob map[]"}) {
		t.Errorf("of the directory %v", got)
	}
	put("rollbook.checkpoint.0", "signed", nats.Header{"Rollbook-Page": {"7"}, "Nats-Msg-Id": {"x"}})
	if got := eachOf(t, b, "CHECKPOINTS"); !maps.Equal(got, map[string]string{"rollbook.checkpoint.0": "signed map[Rollbook-Page:[7]]"}) {
		t.Errorf("of the checkpoints %v", got)
	}
	want(t, b.EachBeside(t.Context(), "NOTHING", func(bus.Beside) error { return nil }), bus.ErrNotCreated)
}

// TestRefill: what was put twice, as after a crash, stands there once, and nothing goes where it does not belong.
func TestRefill(t *testing.T) {
	_, b := startBus(t, "")
	ok(t, b.BeginRestore(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	for range 2 {
		r, err := b.Refill(t.Context())
		ok(t, err)
		for i := range 3 {
			ok(t, r.Put(t.Context(), bus.Beside{Stream: "KV_DIRECTORY", Subject: fmt.Sprintf("$KV.DIRECTORY.user.%d", i), Data: []byte("x")}))
			ok(t, r.Put(t.Context(), bus.Beside{Stream: "CHECKPOINTS", Subject: "rollbook.checkpoint.0", Data: fmt.Append(nil, i), Header: map[string][]string{"Rollbook-Page": {"1"}}}))
		}
		for _, bad := range []bus.Beside{{Stream: "BOOK_0", Subject: "rollbook.book.0"}, {Stream: "CHECKPOINTS", Subject: "rollbook.book.0", Data: []byte("x")},
			{Stream: "KV_DIRECTORY", Subject: "$KV.WEBHOOKS.at.x"}, {Stream: "KV_WEBHOOKS", Subject: "rollbook.book.1"}} {
			r, err := b.Refill(t.Context())
			ok(t, err)
			for range 4 { // what is there is passed over
				err = r.Put(t.Context(), bad)
			}
			if err == nil {
				t.Errorf("%s takes %s", bad.Stream, bad.Subject)
			}
		}
	}
	for stream, n := range map[string]uint64{"KV_DIRECTORY": 3, "CHECKPOINTS": 3, "BOOK_0": 0, "BOOK_1": 0} {
		s, err := b.JetStream().Stream(t.Context(), stream)
		ok(t, err)
		if got := s.CachedInfo().State.LastSeq; got != n {
			t.Errorf("%s ends at %d, not %d", stream, got, n)
		}
	}
	_, err := b.Open(t.Context())
	want(t, err, bus.ErrRestoring)
	want(t, b.BeginRestore(t.Context(), bus.Layout{Partitions: 3, Replicas: 1}), bus.ErrExists)
	ok(t, b.FinishRestore(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	_, err = b.Open(t.Context())
	ok(t, err)
	want(t, b.BeginRestore(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}), bus.ErrExists)
}

// TestNothingBesideAnother: where a stream beside a book has something of one, neither a book is made nor one restored; the
// feed names the restores of its book until it is deleted, and an open changes nothing of that.
func TestNothingBesideAnother(t *testing.T) {
	_, b := startBus(t, "")
	layout := bus.Layout{Partitions: 1, Replicas: 1}
	ok(t, b.BeginRestore(t.Context(), layout))
	ok(t, b.MarkFeed(t.Context(), []string{"0/3/aa", "0/7/bb"}))
	ok(t, b.BeginRestore(t.Context(), layout)) // as after a crash
	ok(t, b.MarkFeed(t.Context(), []string{"0/3/aa", "0/7/bb"}))
	ok(t, b.FinishRestore(t.Context(), layout))
	ok(t, b.SetFeedRetention(t.Context(), bus.FeedRetention{MaxAge: time.Hour}))
	_, err := b.Open(t.Context())
	ok(t, err)
	s, err := b.JetStream().Stream(t.Context(), bus.StreamFeed)
	ok(t, err)
	if got := s.CachedInfo().Config.Metadata["rollbook-restored"]; got != "0/3/aa 0/7/bb" {
		t.Errorf("the feed is said to be restored %q", got)
	}

	_, err = b.JetStream().PublishMsg(t.Context(), &nats.Msg{Subject: "rollbook.checkpoint.0", Data: []byte("signed")})
	ok(t, err)
	ok(t, b.JetStream().DeleteStream(t.Context(), "BOOK_0"))
	want(t, b.Create(t.Context(), layout), bus.ErrExists)
	want(t, b.BeginRestore(t.Context(), layout), bus.ErrExists)
	ok(t, b.JetStream().DeleteStream(t.Context(), "CHECKPOINTS"))
	ok(t, b.BeginRestore(t.Context(), layout))
}

// TestRestoreOntoUsers is refused: a directory without a book belongs to somebody.
func TestRestoreOntoUsers(t *testing.T) {
	_, b := startBus(t, "")
	_, err := b.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "DIRECTORY"})
	ok(t, err)
	kv, err := b.JetStream().KeyValue(t.Context(), "DIRECTORY")
	ok(t, err)
	_, err = kv.Put(t.Context(), "user.ann", []byte("x"))
	ok(t, err)
	want(t, b.BeginRestore(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}), bus.ErrExists)
}
