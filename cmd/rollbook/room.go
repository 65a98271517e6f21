package main

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// room bounds the connections of all venues' clients together. Each takes one of the process's open files, and so do the
// stores of the embedded bus, the notary and operations: without a bound, clients that only connect and say nothing would
// keep pages from being stored. Who finds no room waits in the system's queue until somebody leaves.
type room struct {
	log   *slog.Logger
	slots chan struct{}

	mu   sync.Mutex
	said time.Time // guarded by mu: when the log last heard that there is no room
}

// keptFiles is how many open files are kept from clients; of few, half are.
const keptFiles = 512

// newRoom makes room for as many clients as a process with so many open files can have.
func newRoom(files uint64, log *slog.Logger) *room {
	files = min(files, 1<<20) // "no limit" is no number of clients
	return &room{log: log, slots: make(chan struct{}, max(files-min(files/2, keptFiles), 1))}
}

// wrap has a listener accept as long as there is room.
func (r *room) wrap(at net.Listener) net.Listener {
	return &roomListener{Listener: at, room: r, closed: make(chan struct{})}
}

// full says so in the log, once a minute.
func (r *room) full() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.said) >= time.Minute {
		r.said = now
		r.log.Warn("no room for another connection: clients wait; raise the limit of open files", "connections", cap(r.slots))
	}
}

type roomListener struct {
	net.Listener
	room   *room
	once   sync.Once
	closed chan struct{}
}

// Accept takes a client, and keeps it until there is room. So the venues hold one waiting client each, and none of them a place
// that nobody has come for. Closing the listener sends the waiting one away.
func (l *roomListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	select {
	case l.room.slots <- struct{}{}:
	default:
		l.room.full()
		select {
		case l.room.slots <- struct{}{}:
		case <-l.closed:
			_ = c.Close()
			return nil, net.ErrClosed
		}
	}
	return &roomConn{Conn: c, leave: sync.OnceFunc(func() { <-l.room.slots })}, nil
}

func (l *roomListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// roomConn gives its place back when it is closed.
type roomConn struct {
	net.Conn
	leave func()
}

func (c *roomConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite ends our half: so the server has a client read a reply before the connection goes.
func (c *roomConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
