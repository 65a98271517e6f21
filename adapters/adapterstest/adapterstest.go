// Package adapterstest is the house that the tests of the gate and of every venue's adapter live in.
//
// A [House] is an embedded bus with the writer of each partition; a [Pod] is a gate with projections of its own, and a
// house has as many as a test asks for. [Serve] puts a handler on a port. A test then calls it: over HTTP ([Call]), byte
// for byte ([Exchange], [Raw]), or over a socket ([Dial]). It compares the replies with recorded ones ([Goldens]) and
// sends what is wrong in every way it can think of ([Wrong], [Malformed]).
//
// Invariants:
//   - Bus, writer, projections and gate are the real ones. The directory is the real one too ([Registry]) or keeps its
//     contract without the cost of hashing ([People]).
//   - What the kit starts it joins before the test ends, in the reverse order.
//   - Nothing rests on how fast the machine is: patience runs out only when something is wrong.
//   - The kit writes files for a package only when that package's own flag says so.
package adapterstest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// patience is how long the kit waits for what must happen; it is never reached when all is well.
const patience = time.Minute

// Discard is the log of tests that do not read it.
var Discard = slog.New(slog.DiscardHandler)

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits for something that other goroutines bring about, and ends the test when they do not.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// Runs runs a part in the background until stop is called, or the test ends; stop returns when the part has. A part that
// ends before it is told to fails the test.
func Runs(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); ctx.Err() == nil {
			t.Errorf("a part ended by itself: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}
