package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/projections/feed/feedtest"
	"rollbook/projections/feed/subscribe"
)

// lines is a log that a test looks at while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// instance runs a bus on a data directory, which listens on a port that it is given anew each time.
func instance(t *testing.T, dir string) (*bus.Embedded, *bus.Bus) {
	t.Helper()
	return bustest.Start(t, bus.EmbeddedConfig{DataDir: dir, Listen: "127.0.0.1:0"})
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s has not happened", what)
		}
	}
}

// TestTailFollowsADirectory: a follower waits beside a directory without its lock, is told what happens from then on, and
// goes on with each instance that comes, wherever it listens: no event is missing, and none comes twice.
func TestTailFollowsADirectory(t *testing.T) {
	dir := t.TempDir()
	server, b := instance(t, dir)
	if err := b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	before := feedtest.Write(t, b, 0)
	before.Page(30) // published by the first instance that the follower meets, and not told: it was before
	server.Shutdown()

	var log lines
	var mu sync.Mutex
	var got []string
	tail := &dirTail{place: place{Data: dir}, dir: dir, from: subscribe.Now(), log: slog.New(slog.NewTextHandler(&log, nil)), print: func(e subscribe.Event) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, e.Position.String())
		return nil
	}}
	told := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tail.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the follower ends with %v", err)
		}
	}()
	defer func() {
		if t.Failed() {
			t.Logf("told are %d events; the log says %s", len(told()), log.all())
		}
	}()
	eventually(t, "the wait for an instance", func() bool { return log.count("no service listens on the data directory") == 1 })

	var want []string
	for round := range 4 {
		server, b := instance(t, dir) // which has the lock to itself
		_, stop := feedtest.Publishing(t, feedtest.Source(b, 0))
		s := feedtest.Write(t, b, 0)
		s.Page(3)
		s.Page(1500)
		at, _ := s.Events()
		want = want[:0]
		for _, p := range at[30:] {
			want = append(want, p.String())
		}
		s.CaughtUp(b)
		enough := len(want)
		if round == 3 { // the last time it goes while the follower reads, somewhere
			enough -= 1502
		}
		eventually(t, "the telling of events", func() bool { return len(told()) >= enough })
		stop()
		server.Shutdown()
		eventually(t, "the loss of the instance", func() bool { return log.count("has gone") == round+1 })
	}
	instance(t, dir)
	eventually(t, "the telling of every event", func() bool { return len(told()) >= len(want) })
	if got := told(); !slices.Equal(got, want) {
		t.Errorf("told are %d events, and %d happened; the first are %v", len(got), len(want), got[:min(5, len(got))])
	}
	if n := log.count("\n"); n != 5 {
		t.Errorf("the log has %d lines: one for the wait, one for each instance that went", n)
	}
}

// TestFeedLags: a book that the feed has not had is told of, a page without events is not.
func TestFeedLags(t *testing.T) {
	_, b := instance(t, t.TempDir())
	if err := b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	lags := func() []feedLag {
		t.Helper()
		list, err := feedLags(t.Context(), b, 2)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := lags(); len(list) != 0 {
		t.Errorf("an empty book's feed is behind: %v", list)
	}
	s := feedtest.Write(t, b, 1)
	s.Page(0)
	if list := lags(); len(list) != 0 {
		t.Errorf("a page without events is waited for: %v", list)
	}
	s.Page(2000) // more than one batch
	if list := lags(); !slices.Equal(list, []feedLag{{1, 0, 2}}) {
		t.Errorf("of two pages none was published: %v", list)
	}
	_, stop := feedtest.Publishing(t, feedtest.Source(b, 1))
	s.CaughtUp(b)
	stop()
	s.Page(0)
	if list := lags(); len(list) != 0 {
		t.Errorf("all was published: %v", list)
	}
	s.Page(1)
	if list := lags(); !slices.Equal(list, []feedLag{{1, 2, 4}}) {
		t.Errorf("one event was not published: %v", list)
	}
	// The first half of a page, as a publisher leaves it that was killed between two batches.
	feed := b.Feed(1)
	marker, err := feed.Marker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Page(2)
	for i, want := range []int{1, 0} {
		batch, err := feed.Begin(nil, bus.Position{Partition: 1, Page: 5, Index: uint32(i)})
		if err == nil {
			marker, err = batch.Commit(t.Context(), marker)
		}
		if err != nil {
			t.Fatal(err)
		}
		if list := lags(); len(list) != want {
			t.Errorf("of two events %d were published: %v", i+1, list)
		}
	}
}
