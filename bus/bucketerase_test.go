package bus_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// onDisk reports whether any file below the directory holds the text.
func onDisk(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, f os.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return nil // a file that went away meanwhile
		}
		data, err := os.ReadFile(path)
		found = found || err == nil && bytes.Contains(data, []byte(text))
		return nil
	}))
	return found
}

// TestDirectoryErases: what an update replaces, and what a purge removes, key and all, is in no file any more; what a crash
// has left between a write and its erasing goes with the next write of the key, or with the markers.
func TestDirectoryErases(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	b := connect(t, start(t, dir, ""))
	ok(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	kv, err := b.Directory(ctx)
	ok(t, err)
	plain, err := b.JetStream().KeyValue(ctx, bus.BucketDirectory) // which erases nothing, like a process that was killed
	ok(t, err)
	gone := func(when string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if onDisk(t, dir, text) {
				t.Errorf("after %s %q is still on the disk", when, text)
			}
		}
	}
	kept := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !onDisk(t, dir, text) {
				t.Errorf("%q is not found on the disk", text)
			}
		}
	}
	_, err = kv.Create(ctx, "user.neighbour", []byte("the neighbour's"))
	ok(t, err)
	first, err := kv.Create(ctx, "user.one", []byte("first of one"))
	ok(t, err)
	kept("first of one")
	second, err := kv.Update(ctx, "user.one", []byte("second of one"), first)
	ok(t, err)
	gone("an update", "first of one")
	if _, err := kv.Update(ctx, "user.one", []byte("never"), first); err == nil {
		t.Error("an update over an old revision is taken")
	}
	kept("second of one", "the neighbour's")

	third, err := plain.Update(ctx, "user.one", []byte("third of one"), second)
	ok(t, err)
	kept("second of one", "third of one")
	_, err = kv.Update(ctx, "user.one", []byte("fourth of one"), third)
	ok(t, err)
	gone("the update after a crash", "second of one", "third of one")

	claim, err := kv.Create(ctx, "name.abcdef0123", []byte("a claim"))
	ok(t, err)
	ok(t, kv.Purge(ctx, "name.abcdef0123", jetstream.LastRevision(claim)))
	gone("a purge", "a claim")
	kept("abcdef0123")
	if _, err := kv.Create(ctx, "name.again", []byte("another claim")); err != nil {
		t.Fatal(err)
	}
	ok(t, plain.Delete(ctx, "name.again"))
	last, err := plain.Get(ctx, "user.one")
	ok(t, err)
	_, err = plain.Update(ctx, "user.one", []byte("fifth of one"), last.Revision())
	ok(t, err)
	ok(t, kv.PurgeDeletes(ctx))
	gone("the markers went", "abcdef0123", "name.again", "another claim", "fourth of one")
	kept("fifth of one", "the neighbour's")
	if e, err := kv.Get(ctx, "user.one"); err != nil || string(e.Value()) != "fifth of one" {
		t.Errorf("the newest is %v, %v", e, err)
	}
}

// TestDirectoryFromBefore: a bucket that the client library made, whose server denies deletion, works as it did.
func TestDirectoryFromBefore(t *testing.T) {
	b, ctx := created(t, 1), t.Context()
	ok(t, b.JetStream().DeleteKeyValue(ctx, bus.BucketDirectory))
	_, err := b.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bus.BucketDirectory, History: 1, Storage: jetstream.FileStorage})
	ok(t, err)
	_, err = b.Open(ctx)
	ok(t, err)
	kv, err := b.Directory(ctx)
	ok(t, err)
	first, err := kv.Create(ctx, "user.one", []byte("first"))
	ok(t, err)
	_, err = kv.Update(ctx, "user.one", []byte("second"), first)
	ok(t, err)
	ok(t, kv.Purge(ctx, "user.one"))
	ok(t, kv.PurgeDeletes(ctx))
	if _, err := kv.Get(ctx, "user.one"); err == nil {
		t.Error("a purged key is there")
	}
}
