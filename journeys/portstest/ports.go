// Package portstest hands out TCP ports of this machine to tests that start real servers on ports they are told.
//
// A range of ports is held by a lock on a file until its test ends, so that test binaries that run at the same time keep
// out of each other's way. All ranges lie below the ports that systems give to outgoing connections (Linux: 32768 on),
// so that no client's connection takes one between the look and the use.
package portstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
)

const (
	// Range is how many ports a test gets.
	Range = 16

	first, ranges = 12000, 1280 // up to 32479
)

// Take gives the first of Range free ports in a row on the loopback interface. They are the test's until it ends.
func Take(t testing.TB) int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "rollbook-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	start := rand.IntN(ranges)
	for n := range ranges {
		base := first + Range*((start+n)%ranges)
		lock := flock.New(filepath.Join(dir, fmt.Sprint(base)))
		held, err := lock.TryLock()
		if err != nil {
			t.Fatal(err)
		}
		if held && free(base) {
			t.Cleanup(func() { _ = lock.Close() })
			return base
		}
		_ = lock.Close()
	}
	t.Fatal("no free ports")
	return 0
}

// free reports whether nobody listens on any port of the range.
func free(base int) bool {
	for port := base; port < base+Range; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
