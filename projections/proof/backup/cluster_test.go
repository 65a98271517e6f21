package backup

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/bus/clustertest"
)

// TestOntoACluster: a backup of one server is restored onto three. Halfway the server that leads a book is lost: the restore
// goes on with the other two, at once or when it is repeated. What it made is the book, and a backup of the cluster is one
// of it.
func TestOntoACluster(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(6)
	was := [][]bus.StoredPage{book(t, s.bus, 0), book(t, s.bus, 1)}
	file := backupOf(t, s)
	sum, err := Verify(bytes.NewReader(file))
	ok(t, err)

	c := clustertest.Start(t, 3)
	onto, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: c.URL()})
	ok(t, err)
	t.Cleanup(func() { _ = onto.Close() })
	cut := -1
	cfg := RestoreConfig{Bus: onto, Summary: sum, Replicas: 3, Now: time.Now, Progress: func(done, of uint64) {
		if cut < 0 && done > of/4 {
			if cut = c.LeaderOf(bus.BookStream(0)); cut >= 0 {
				c.Stop(cut)
			}
		}
	}}
	var done Restored
	for ctx := soon(t); ; {
		if done, err = Restore(ctx, cfg, bytes.NewReader(file)); err == nil {
			break
		}
		t.Logf("again, after: %v", err)
		if errors.Is(err, bus.ErrExists) || ctx.Err() != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if cut < 0 {
		t.Fatal("no server was lost: the test shows less than it should")
	}
	if want := (bus.Layout{Partitions: 2, Replicas: 3}); done.Layout != want {
		t.Errorf("the layout is %+v", done.Layout)
	}
	c.Restart(cut)

	same := func(b *bus.Bus) {
		for p := range bus.Partition(2) {
			comparePages(t, was[p], b, p)
			if n := folded(t, b, p).Sessions(); n != 0 {
				t.Errorf("%d sessions are alive in partition %s", n, p)
			}
		}
	}
	same(onto)
	var second bytes.Buffer
	_, err = Write(soon(t), WriteConfig{Bus: onto, Layout: done.Layout, Program: "test", Now: time.Now()}, &second)
	ok(t, err)
	sum, err = Verify(bytes.NewReader(second.Bytes()))
	ok(t, err)
	alone := bustest.Empty(t)
	_, err = Restore(soon(t), RestoreConfig{Bus: alone, Summary: sum, Replicas: 1, Now: time.Now}, bytes.NewReader(second.Bytes()))
	ok(t, err)
	same(alone)
	current(t, onto, done.Layout)
}

// current waits until every server has all of every stream, the one that was lost too. One that is stopped while it makes its
// streams leaves goroutines behind.
func current(t *testing.T, b *bus.Bus, l bus.Layout) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		behind := ""
		for _, name := range l.Streams() {
			s, err := b.JetStream().Stream(t.Context(), name)
			if err != nil {
				behind = name + ": " + err.Error()
				continue
			}
			replicas := s.CachedInfo().Cluster.Replicas
			for _, r := range replicas {
				if !r.Current || r.Offline {
					behind = name + " on " + r.Name
				}
			}
			if len(replicas) != l.Replicas-1 {
				behind = name
			}
		}
		if behind == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a server does not catch up: %s", behind)
		}
	}
}
