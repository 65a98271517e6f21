// Package clustertest runs NATS servers with JetStream in a test's process: one alone, or a cluster.
//
// They listen on free ports of the loopback interface (portstest), so that other processes can use them too; they have no accounts
// and sync always, as a real bus must.
package clustertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollbook/journeys/portstest"
)

// patience is how long servers may take to find each other; a loaded machine takes its time.
const patience = 2 * time.Minute

// Cluster is some servers, each with a directory of its own that outlives it.
type Cluster struct {
	t       testing.TB
	options []*server.Options
	servers []*server.Server
}

// Start starts n servers and returns when they serve: with more than one, when they have a leader and know each other.
// They stop when the test ends.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, options: make([]*server.Options, n), servers: make([]*server.Server, n)}
	dir, err := os.MkdirTemp("", "rollbook-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.Stop(i)
		}
		// Not t.TempDir: a server that has shut down may still be writing a snapshot, and make a file beneath our hands.
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("the servers' files stay behind: %v", err)
	})
	base := portstest.Take(t)
	var routes []*url.URL
	for i := range n {
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", base+n+i)})
	}
	for i := range n {
		o := &server.Options{
			ServerName: fmt.Sprintf("s%d", i+1), Host: "127.0.0.1", Port: base + i,
			JetStream: true, StoreDir: filepath.Join(dir, strconv.Itoa(i)), SyncAlways: true, NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		}
		if n > 1 { // with routes to all, itself too: a server without any would not begin a cluster
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: base + n + i}
			o.Routes = routes
		}
		c.options[i] = o
		c.Restart(i)
	}
	c.await()
	return c
}

// URL is where clients connect: all servers, with commas between.
func (c *Cluster) URL() string {
	var all []string
	for _, o := range c.options {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(all, ",")
}

// Stop ends a server; its connections break. A second call does nothing.
func (c *Cluster) Stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// Restart starts a server on its directory.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers[i] = s
	s.Start()
}

// LeaderOf is the server that leads a stream, and -1 when none does.
func (c *Cluster) LeaderOf(stream string) int {
	for i, s := range c.servers {
		if s != nil && s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) {
			return i
		}
	}
	return -1
}

// await returns when JetStream has as many servers as were started.
func (c *Cluster) await() {
	c.t.Helper()
	nc, err := nats.Connect(c.URL(), nats.Timeout(patience), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// That a stream with a replica on each can be made says more than any question. It stays: a server that deletes its last
	// stream removes the directory of all streams a moment after it answered, from beneath the next one's hands.
	for {
		try, end := context.WithTimeout(ctx, 5*time.Second)
		_, err = js.CreateStream(try, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: len(c.servers)})
		end()
		if err == nil {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			c.t.Fatalf("the servers do not make a cluster: %v", err)
		}
	}
}
