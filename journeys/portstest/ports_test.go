package portstest

import (
	"fmt"
	"net"
	"testing"
)

// TestTake: no port is given to two tests at once, none that somebody listens on, and all come back.
func TestTake(t *testing.T) {
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", Take(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	t.Run("many", func(t *testing.T) {
		seen := map[int]bool{}
		for range 40 {
			base := Take(t)
			if seen[base] || base%Range != first%Range || base+Range > 32768 {
				t.Fatalf("%d was given", base)
			}
			seen[base] = true
		}
		if occupied := taken.Addr().(*net.TCPAddr).Port; seen[occupied] {
			t.Errorf("%d has a listener", occupied)
		}
	})
	lockedBase := Take(t)
	t.Run("held", func(t *testing.T) {
		for range 40 {
			if Take(t) == lockedBase {
				t.Fatalf("%d was given twice", lockedBase)
			}
		}
	})
}
