package bus_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

const format = 7

// pageAt is a page as it stands in the book.
func pageAt(t testing.TB, k *bus.Book, seq uint64) (page bus.StoredPage) {
	t.Helper()
	ok(t, k.Read(t.Context(), seq-1, seq, func(p bus.StoredPage) error { page = p; return nil }))
	return page
}

// takeSnapshot writes a snapshot of a page that consists of the given chunks.
func takeSnapshot(t testing.TB, k *bus.Book, page uint64, from bus.Snapshot, chunks ...string) bus.Snapshot {
	t.Helper()
	s, err := k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format, Events: page * 10, Written: time.Now()}, from, pageAt(t, k, page), putAll(chunks...))
	ok(t, err)
	return s
}

func putAll(chunks ...string) func(func([]byte) error) error {
	return func(put func([]byte) error) error {
		for _, chunk := range chunks {
			if err := put([]byte(chunk)); err != nil {
				return err
			}
		}
		return nil
	}
}

// restore gives what Restore finds: the content, and of which page; "" when there is nothing.
func restore(t testing.TB, k *bus.Book) (content string, page uint64) {
	t.Helper()
	s, at, err := k.Restore(t.Context(), format, func(chunks iter.Seq2[[]byte, error]) error {
		var got bytes.Buffer
		for chunk, err := range chunks {
			if err != nil {
				return err
			}
			got.Write(chunk)
		}
		content = got.String()
		return nil
	})
	ok(t, err)
	if s.Page == 0 {
		return "", 0
	}
	if at.Seq != s.Page || s.Events != s.Page*10 || s.Bytes != int64(len(content)) {
		t.Errorf("%+v with page %d and %d bytes", s, at.Seq, len(content))
	}
	return content, s.Page
}

func finds(t testing.TB, k *bus.Book, content string, page uint64) {
	t.Helper()
	if c, p := restore(t, k); c != content || p != page {
		t.Errorf("found %.40q of page %d, want %.40q of page %d", c, p, content, page)
	}
}

// TestSnapshots: the newest is found, of its own partition, and the one before it stays until the next is listed.
func TestSnapshots(t *testing.T) {
	b := created(t, 2)
	k := b.Book(1)
	appendPages(t, b.Book(0), 0, 3)
	appendPages(t, k, 0, 9)
	finds(t, k, "", 0)
	first := takeSnapshot(t, k, 2, bus.Snapshot{}, "one", "two", "three")
	finds(t, k, "onetwothree", 2)
	finds(t, b.Book(0), "", 0)
	second := takeSnapshot(t, k, 5, first, "four")
	finds(t, k, "four", 5)
	if first.Slot == second.Slot {
		t.Error("the second took the place of the first")
	}
	third := takeSnapshot(t, k, 7, second, "five", "six")
	finds(t, k, "fivesix", 7)
	list, err := k.Snapshots(t.Context())
	ok(t, err)
	if len(list) != 2 || list[0] != third || list[1] != second {
		t.Errorf("listed are %+v", list)
	}
	// As of an earlier page there is an earlier one, or none.
	for through, content := range map[uint64]string{9: "fivesix", 7: "fivesix", 6: "four", 5: "four", 4: ""} {
		got := ""
		s, _, err := k.RestoreThrough(t.Context(), format, through, func(chunks iter.Seq2[[]byte, error]) error {
			for chunk, err := range chunks {
				ok(t, err)
				got += string(chunk)
			}
			return nil
		})
		ok(t, err)
		if got != content || s.Page > through {
			t.Errorf("through page %d it finds %q of page %d", through, got, s.Page)
		}
	}
	// Who made one from a snapshot that is not there any more is late.
	_, err = k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format}, first, pageAt(t, k, 9), putAll("late"))
	want(t, err, bus.ErrConflict)
	finds(t, k, "fivesix", 7)
}

// TestSnapshotCutShort: a writer that is stopped anywhere leaves the snapshot that was there.
func TestSnapshotCutShort(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	first := takeSnapshot(t, k, 2, bus.Snapshot{}, "aa", "bb")
	second := takeSnapshot(t, k, 3, first, "cc", "dd")
	stop := errors.New("stop")
	for n := range 3 {
		_, err := k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format}, second, pageAt(t, k, 5), func(put func([]byte) error) error {
			for range n {
				ok(t, put([]byte("xx")))
			}
			return stop
		})
		want(t, err, stop)
		finds(t, k, "ccdd", 3)
	}
	// The one before was in the slot that is half written now: when the newest is damaged, it is not taken for good.
	ok(t, overwrite(b, bus.SnapshotChunkSubject(0, second.Slot, 0), []byte("CC")))
	finds(t, k, "", 0)
}

func overwrite(b *bus.Bus, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := b.JetStream().Publish(ctx, subject, data)
	return err
}

// TestDamagedSnapshots: whatever byte of a chunk or of the list is changed, what is found is what was written, then or
// before.
func TestDamagedSnapshots(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	first := takeSnapshot(t, k, 2, bus.Snapshot{}, "aa", "bb")
	second := takeSnapshot(t, k, 3, first, "cc", "dd")
	stream, err := b.JetStream().Stream(soon(t), bus.StreamSnapshots)
	ok(t, err)
	broken := func(subject string, change func([]byte) []byte, then func()) {
		t.Helper()
		m, err := stream.GetLastMsgForSubject(soon(t), subject)
		ok(t, err)
		ok(t, overwrite(b, subject, change(bytes.Clone(m.Data))))
		then()
		ok(t, overwrite(b, subject, m.Data))
	}
	for n := range 2 {
		for name, change := range map[string]func([]byte) []byte{
			"a bit":   func(d []byte) []byte { d[1] ^= 1; return d },
			"shorter": func(d []byte) []byte { return d[:1] },
			"longer":  func(d []byte) []byte { return append(d, 'x') },
			"empty":   func(d []byte) []byte { return nil },
		} {
			t.Run(fmt.Sprintf("chunk %d, %s", n, name), func(t *testing.T) {
				broken(bus.SnapshotChunkSubject(0, second.Slot, n), change, func() { finds(t, k, "aabb", 2) })
			})
		}
	}
	m, err := stream.GetLastMsgForSubject(soon(t), bus.SnapshotSubject(0))
	ok(t, err)
	for at := 0; at < len(m.Data); at += 5 {
		broken(bus.SnapshotSubject(0), func(d []byte) []byte { d[at] ^= 4; return d }, func() {
			content, page := restore(t, k)
			if page != 0 && (content != "ccdd" || page != 3) {
				t.Errorf("with byte %d of the list changed: %q of page %d", at, content, page)
			}
		})
	}
	finds(t, k, "ccdd", 3)
	// A damaged list is replaced.
	broken(bus.SnapshotSubject(0), func(d []byte) []byte { return d[:20] }, func() {
		takeSnapshot(t, k, 4, bus.Snapshot{}, "new")
		finds(t, k, "new", 4)
	})
}

// TestForeignSnapshots: a snapshot that does not belong to this book is passed over, and one of a newer program is not
// replaced.
func TestForeignSnapshots(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	take := func(s bus.Snapshot, at bus.StoredPage) {
		t.Helper()
		ok(t, b.JetStream().DeleteStream(soon(t), bus.StreamSnapshots))
		_, err := b.Open(t.Context()) // makes the stream again, as for a layout of an older program
		ok(t, err)
		_, err = k.WriteSnapshot(t.Context(), s, bus.Snapshot{}, at, putAll("content"))
		ok(t, err)
	}
	page := pageAt(t, k, 3)
	take(bus.Snapshot{Format: format, Events: 30}, page)
	finds(t, k, "content", 3)
	take(bus.Snapshot{Format: format}, bus.StoredPage{Seq: 6, Data: page.Data})
	finds(t, k, "", 0)
	take(bus.Snapshot{Format: format}, bus.StoredPage{Seq: 2, Data: page.Data})
	finds(t, k, "", 0)
	take(bus.Snapshot{Format: format - 1}, page)
	finds(t, k, "", 0)
	takeSnapshot(t, k, 4, bus.Snapshot{}, "replaced")
	finds(t, k, "replaced", 4)
	take(bus.Snapshot{Format: format + 1}, page)
	finds(t, k, "", 0)
	_, err := k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format}, bus.Snapshot{}, page, putAll("older"))
	want(t, err, bus.ErrNewerSnapshot)
}

// TestUnreadableSnapshot: when what reads a snapshot has no use for it, or does not read to its end, the one before is
// tried, and then none.
func TestUnreadableSnapshot(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	takeSnapshot(t, k, 3, takeSnapshot(t, k, 2, bus.Snapshot{}, "aa", "bb"), "cc", "dd")
	for name, read := range map[string]func(iter.Seq2[[]byte, error]) error{
		"an error": func(iter.Seq2[[]byte, error]) error { return io.ErrUnexpectedEOF },
		"one chunk": func(chunks iter.Seq2[[]byte, error]) error {
			for _, err := range chunks {
				return err
			}
			return nil
		},
	} {
		calls := 0
		s, _, err := k.Restore(t.Context(), format, func(chunks iter.Seq2[[]byte, error]) error {
			calls++
			return read(chunks)
		})
		ok(t, err)
		if s.Page != 0 || calls != 2 {
			t.Errorf("%s: %d snapshots were tried, and the one of page %d taken", name, calls, s.Page)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := k.Restore(ctx, format, func(iter.Seq2[[]byte, error]) error { cancel(); return ctx.Err() })
	want(t, err, context.Canceled)
}

// TestSnapshotDamagedAtRest: after an orderly stop a bit flips in the sequence number of a stored chunk. The server would count
// up to that number when it reads the chunk; it drops what is damaged instead, and serves.
func TestSnapshotDamagedAtRest(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "")
	b := connect(t, e)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	appendPages(t, b.Book(0), 0, 5)
	takeSnapshot(t, b.Book(0), 3, bus.Snapshot{}, "aa", "bb", "cc")
	e.Shutdown()

	files, err := filepath.Glob(filepath.Join(dir, "*", "jetstream", "*", "streams", bus.StreamSnapshots, "msgs", "*.blk"))
	ok(t, err)
	if len(files) != 1 {
		t.Fatalf("the stream has the files %q", files)
	}
	data, err := os.ReadFile(files[0])
	ok(t, err)
	second := binary.LittleEndian.Uint32(data) &^ (1 << 31) // a record begins with its length, of which one bit is a flag, and its number
	data[second+4+7] ^= 0x10
	ok(t, os.WriteFile(files[0], data, 0o600))

	b = connect(t, start(t, dir, ""))
	_, err = b.Open(t.Context())
	ok(t, err)
	finds(t, b.Book(0), "", 0)
	if got := pageAt(t, b.Book(0), 5); got.Seq != 5 {
		t.Errorf("page 5 reads as %d", got.Seq)
	}
	takeSnapshot(t, b.Book(0), 4, bus.Snapshot{}, "dd")
	finds(t, b.Book(0), "dd", 4)
}

// TestTwoSnapshotWriters: of two who started from the same one, one is listed.
func TestTwoSnapshotWriters(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 5)
	first := takeSnapshot(t, k, 2, bus.Snapshot{}, "first")
	_, err := k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format}, first, pageAt(t, k, 4), func(put func([]byte) error) error {
		ok(t, put([]byte("slow")))
		takeSnapshot(t, k, 3, first, "quick")
		return nil
	})
	want(t, err, bus.ErrConflict)
	finds(t, k, "quick", 3)
}

// TestNoSnapshotStream: on a bus without the stream, the start goes on without, and nothing is written.
func TestNoSnapshotStream(t *testing.T) {
	b := created(t, 1)
	k := b.Book(0)
	appendPages(t, k, 0, 2)
	ok(t, b.JetStream().DeleteStream(soon(t), bus.StreamSnapshots))
	finds(t, k, "", 0)
	_, err := k.Snapshots(t.Context())
	want(t, err, bus.ErrNotCreated)
	_, err = k.WriteSnapshot(t.Context(), bus.Snapshot{Format: format}, bus.Snapshot{}, pageAt(t, k, 2), putAll("x"))
	want(t, err, bus.ErrNotCreated)
}

// TestPodsHaveSnapshots: with the rights of an adapter they are read, by direct get alone, and with those of an engine
// written; the others can do neither or the one.
func TestPodsHaveSnapshots(t *testing.T) {
	l := startLocked(t)
	engine := l.as(bus.RoleEngine).Book(0)
	appendPages(t, engine, 0, 2)
	s := takeSnapshot(t, engine, 2, bus.Snapshot{}, "aa", "bb")
	for _, role := range []bus.Role{bus.RoleEngine, bus.RoleService, bus.RoleAdapter, bus.RoleOperator} {
		finds(t, l.as(role).Book(0), "aabb", 2)
	}
	for _, role := range []bus.Role{bus.RoleAdapter, bus.RoleOperator} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // the server says nothing to who may not publish
		_, err := l.as(role).Book(0).WriteSnapshot(ctx, bus.Snapshot{Format: format}, s, pageAt(t, engine, 2), putAll("cc"))
		cancel()
		if err == nil {
			t.Errorf("the %s wrote a snapshot", role)
		}
	}
	finds(t, engine, "aabb", 2)
}

// TestSnapshotStream: of every chunk the newest is kept, on disk.
func TestSnapshotStream(t *testing.T) {
	b := created(t, 1)
	stream, err := b.JetStream().Stream(soon(t), bus.StreamSnapshots)
	ok(t, err)
	if cfg := stream.CachedInfo().Config; cfg.Storage != jetstream.FileStorage || cfg.MaxMsgsPerSubject != 1 || !cfg.AllowDirect {
		t.Errorf("%+v", cfg)
	}
}
