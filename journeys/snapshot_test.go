package journeys

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestKillAmidSnapshots kills the process while it writes one snapshot after the other, and then damages the snapshots on
// the disk. After each start every acknowledged login is valid and every acknowledged logout has ended, and at the end the
// snapshot with the rest of the book gives what the book gives.
func TestKillAmidSnapshots(t *testing.T) {
	in := newInstance(t, "--genesis-max-sessions", "0", "--snapshot-events", "1", "--snapshot-pause", "1ms")
	in.start()
	in.run(resourceFile, "resource", "apply", "-")
	var clients []*client
	for n := range 4 {
		c := &client{in: in, name: fmt.Sprintf("trader%d", n), logins: new(atomic.Int64)}
		in.run(c.name+"-has-a-long-password\n", "user", "add", c.name)
		clients = append(clients, c)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(in.log.String(), "wrote a snapshot"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot was written:\n%s", in.log)
		}
	}
	verify := func() {
		in.start()
		for _, c := range clients {
			c.verify()
		}
	}
	for range 8 {
		clients[0].login() // something happens in each round, however slow the machine
		ctx, cancel := context.WithCancel(context.Background())
		var working sync.WaitGroup
		for _, c := range clients {
			working.Go(func() { c.work(ctx) })
		}
		time.Sleep(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		in.kill()
		cancel()
		working.Wait()
		verify()
	}
	if !strings.Contains(in.log.String(), "began with a snapshot") {
		t.Error("no start used a snapshot: nothing is proved")
	}
	in.stop()
	sameBothWays(t, in.data)

	damageFiles(t, filepath.Join(in.data, "jetstream"), bus.StreamSnapshots)
	in.args = []string{"--genesis-max-sessions", "0"} // and none is written again
	verify()
	in.stop()
	sameBothWays(t, in.data)
	logins := 0
	for _, c := range clients {
		logins += len(c.all)
	}
	if starts := nothingTwice(t, in.data); starts < logins || logins == 0 {
		t.Errorf("%d sessions were started, %d logins acknowledged", starts, logins)
	}
}

// damageFiles changes bytes all over the stored messages of a stream.
func damageFiles(t *testing.T, dir, stream string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".blk" || !strings.Contains(path, string(filepath.Separator)+stream+string(filepath.Separator)) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for at := rand.IntN(200); at < len(data); at += 100 + rand.IntN(400) {
			data[at] ^= 0x10
		}
		files++
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files of %s were damaged: %v", files, stream, err)
	}
}

// sameBothWays compares, on a stopped instance, the state by the newest good snapshot and the pages after it with the state
// by all pages.
func sameBothWays(t *testing.T, data string) {
	t.Helper()
	ctx := t.Context()
	b, stop := stoppedBus(t, data)
	defer stop()
	book := b.Book(0)
	var short *session.State
	from, _, err := book.Restore(ctx, session.SnapshotVersion, func(chunks iter.Seq2[[]byte, error]) (err error) {
		short, err = session.ReadSnapshot(session.Policies{}, chunks)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if from.Page == 0 {
		short = session.NewState(session.Policies{})
	}
	whole := session.NewState(session.Policies{})
	end := readBook(t, ctx, book, func(seq uint64, _ bus.Page, events []session.Event) {
		for _, e := range events {
			if whole.Apply(e); seq > from.Page {
				short.Apply(e)
			}
		}
	})
	if !bytes.Equal(stateBytes(t, whole), stateBytes(t, short)) {
		t.Errorf("the snapshot of page %d and the rest of %d pages give another state than the book", from.Page, end)
	}
	t.Logf("%d pages, the newest good snapshot is of page %d", end, from.Page)
}

func stateBytes(t *testing.T, s *session.State) []byte {
	t.Helper()
	var all []byte
	if err := s.Snapshot(func(chunk []byte) error { all = append(all, chunk...); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}
