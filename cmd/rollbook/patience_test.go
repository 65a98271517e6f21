package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// TestServeWaitsForTheDirectory: a command that has the data directory to itself holds the service up, and no more.
func TestServeWaitsForTheDirectory(t *testing.T) {
	h := &house{set: &serveSettings{}, log: slog.New(slog.DiscardHandler), dir: t.TempDir()}
	lock := flock.New(filepath.Join(h.dir, "lock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.startBus(interrupted); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	started := make(chan error, 1)
	go func() { started <- h.startBus(context.WithoutCancel(t.Context())) }()
	select {
	case err := <-started:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	h.close()
}

// TestInterruptedWhileReading: a signal ends the wait for what does not come down a pipe.
func TestInterruptedWhileReading(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stdin = read // for good: what was interrupted goes on reading until the end of the process
	t.Cleanup(func() { write.Close() })
	for name, wait := range map[string]func(context.Context) error{
		"a password": func(ctx context.Context) error { _, err := readPassword(ctx, false); return err },
		"resources":  func(ctx context.Context) error { _, err := readResources(ctx, "-"); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- wait(ctx) }()
		select {
		case err := <-ended:
			t.Fatalf("%s: it did not wait: %v", name, err)
		case <-time.After(20 * time.Millisecond):
		}
		cancel()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted: nothing was done") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
