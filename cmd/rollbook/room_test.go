package main

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"testing"
	"testing/synctest"

	"rollbook/bus/bustest"
)

// TestRoomIsShared: the venues' clients share what room there is; who finds none waits until somebody leaves, and a
// listener that is closed does not wait.
func TestRoomIsShared(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		room := newRoom(4, slog.New(slog.DiscardHandler)) // 2 of the 4 are kept
		var doors []net.Listener
		for range 2 {
			at := &pipes{come: make(chan net.Conn, 4), closed: make(chan struct{})}
			doors = append(doors, room.wrap(at))
			for range 3 {
				_, theirs := net.Pipe()
				at.come <- theirs
			}
		}
		var inside []net.Conn
		for _, door := range doors {
			c, err := door.Accept()
			if err != nil {
				t.Fatal(err)
			}
			inside = append(inside, c)
		}
		let := make(chan error, 1)
		next := func(door net.Listener) {
			go func() {
				_, err := door.Accept()
				let <- err
			}()
			synctest.Wait()
		}
		next(doors[0])
		if len(let) != 0 {
			t.Fatalf("a third client was let in: %v", <-let)
		}
		inside[1].Close()
		inside[1].Close() // gives no second place back
		synctest.Wait()
		if len(let) != 1 || <-let != nil {
			t.Fatal("nobody took the place that was left")
		}
		next(doors[1])
		if len(let) != 0 {
			t.Fatalf("one place was given twice: %v", <-let)
		}
		doors[1].Close()
		if err := <-let; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed listener gave %v", err)
		}
	})
}

// TestRoomKeepsFiles: whatever the limit, clients leave some of the files, and there is room for one.
func TestRoomKeepsFiles(t *testing.T) {
	for files, want := range map[uint64]int{0: 1, 1: 1, 300: 150, 1024: 512, 20000: 20000 - keptFiles, math.MaxUint64: 1<<20 - keptFiles} {
		if got := cap(newRoom(files, nil).slots); got != want {
			t.Errorf("of %d files clients may have %d, not %d", files, got, want)
		}
	}
}
