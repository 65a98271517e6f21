package adapterstest

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// door is an address that stays while the servers behind it come and go. A server that listened there itself could find
// its port taken when it comes back.
type door struct {
	listener net.Listener
	working  sync.WaitGroup

	mu     sync.Mutex
	behind string // guarded by mu: where the server listens; empty: nobody is there
}

func openDoor(t testing.TB) *door {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Must(t, err)
	d := &door{listener: listener}
	d.working.Go(d.serve)
	// By now both ends of every connection are closed: the house was cleaned up before.
	t.Cleanup(func() { listener.Close(); d.working.Wait() })
	return d
}

func (d *door) address() string { return d.listener.Addr().String() }

// leadTo says where the server listens from now on; connections to the one before end with it.
func (d *door) leadTo(url string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.behind = strings.TrimPrefix(url, "nats://")
}

func (d *door) serve() {
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		behind := d.behind
		d.mu.Unlock()
		server, err := net.Dial("tcp", behind)
		if behind == "" || err != nil {
			client.Close()
			continue
		}
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			to.Close()
			from.Close()
		}
		d.working.Go(func() { pass(server, client) })
		d.working.Go(func() { pass(client, server) })
	}
}
