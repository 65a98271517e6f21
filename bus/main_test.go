package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// startBus starts a server in a directory of the test's own and connects to it.
func startBus(t testing.TB, listen string) (*bus.Embedded, *bus.Bus) {
	t.Helper()
	e := start(t, t.TempDir(), listen)
	return e, connect(t, e)
}

func start(t testing.TB, dir, listen string) *bus.Embedded {
	t.Helper()
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir, Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	return e
}

func connect(t testing.TB, e *bus.Embedded) *bus.Bus {
	t.Helper()
	b, err := e.Connect(t.Context(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// created starts a server and creates a layout of n partitions on it.
func created(t testing.TB, n int) *bus.Bus {
	t.Helper()
	_, b := startBus(t, "")
	if err := b.Create(t.Context(), bus.Layout{Partitions: n, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	return b
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// appendPages appends n pages that hold their own sequence, after the given end.
func appendPages(t testing.TB, k *bus.Book, after uint64, n int) uint64 {
	t.Helper()
	for range n {
		page, err := bus.EncodePage(bus.Page{Epoch: 1, CommandsRead: after + 1})
		ok(t, err)
		seq, err := k.Append(t.Context(), after, page)
		for errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine: the book knows
			if seq, err = k.End(t.Context()); err == nil && seq == after {
				seq, err = k.Append(t.Context(), after, page)
			}
		}
		ok(t, err)
		after = seq
	}
	return after
}

// soon is how long a test waits for what must happen: long, since the machine
// may be busy, and never reached when all is well.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
