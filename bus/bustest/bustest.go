// Package bustest is what tests share that run an embedded server.
package bustest

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"go.uber.org/goleak"

	"rollbook/bus"
)

// patience is how long goroutines may take to end after the last test.
const patience = 20 * time.Second

// Main runs the tests of a package, and then looks for goroutines that they have left behind. The server's shared clock is
// started before, so that it is no test's own and stands outside every synctest bubble. It does not return.
func Main(m *testing.M) {
	ats.Register()
	code := m.Run()
	ats.Unregister()
	// A server that has shut down may still be busy with what it began, such as bringing a replica up to date.
	var left error
	for end := time.Now().Add(patience); code == 0; {
		if left = goleak.Find(); left == nil || time.Now().After(end) {
			break
		}
	}
	if left != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", left)
		code = 1
	}
	os.Exit(code)
}

// Empty is a bus in the test's own process, with nothing on it.
func Empty(t testing.TB) *bus.Bus {
	t.Helper()
	_, b := Start(t, bus.EmbeddedConfig{DataDir: t.TempDir()})
	return b
}

// Start starts a server and connects to it; both end with the test, if not before.
func Start(t testing.TB, cfg bus.EmbeddedConfig) (*bus.Embedded, *bus.Bus) {
	t.Helper()
	server, err := bus.StartEmbedded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(t.Context(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return server, b
}

// Created is the same, with a book of so many partitions.
func Created(t testing.TB, partitions int) *bus.Bus {
	t.Helper()
	b := Empty(t)
	if err := b.Create(t.Context(), bus.Layout{Partitions: partitions, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	return b
}
