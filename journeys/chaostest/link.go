package chaostest

import (
	"fmt"
	"net"
	"sync"
)

// link is a way from one process to one listener, which can be cut.
type link struct {
	target   string
	listener net.Listener

	mu     sync.Mutex
	change *sync.Cond
	broken bool              // guarded by mu
	open   map[net.Conn]bool // guarded by mu: both ends of what goes over it
}

func newLink(target string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{target: target, listener: listener, open: map[net.Conn]bool{}}
	l.change = sync.NewCond(&l.mu)
	go l.run()
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) run() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		go l.carry(near)
	}
}

func (l *link) carry(near net.Conn) {
	defer near.Close()
	if !l.note(near) {
		return
	}
	defer l.forget(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.note(far) {
		return
	}
	defer l.forget(far)
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		ways.Go(func() {
			l.copy(way[0], way[1])
			near.Close()
			far.Close()
		})
	}
	ways.Wait()
}

// note waits until the link is whole: what is sent over a cut one comes nowhere, and nobody is told.
func (l *link) note(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = true
	for l.broken && l.open[c] {
		l.change.Wait()
	}
	return l.open[c]
}

func (l *link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *link) copy(from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			l.mu.Lock()
			for l.broken && l.open[from] {
				l.change.Wait()
			}
			lost := !l.open[from]
			l.mu.Unlock()
			if lost {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut has nothing pass any more, in silence.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
}

// heal lets new connections pass. Those of before are closed, with what was on its way: it is lost.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.broken {
		return
	}
	l.broken = false
	for c := range l.open {
		_ = c.Close()
		delete(l.open, c)
	}
	l.change.Broadcast()
}

func (l *link) close() {
	_ = l.listener.Close()
	l.cut()
	l.heal()
}

// links makes one link to each target.
func links(targets []string) ([]*link, error) {
	list := make([]*link, len(targets))
	for i, target := range targets {
		var err error
		if list[i], err = newLink(target); err != nil {
			return nil, fmt.Errorf("a link to %s: %w", target, err)
		}
	}
	return list, nil
}
