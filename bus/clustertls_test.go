package bus_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollbook/bus"
	"rollbook/journeys/portstest"
)

// TestClusterOverTLS: three servers with the configuration that is written for them find each other over TLS and keep a
// book together; who shows no certificate of their authority does not get as far as the password between them.
func TestClusterOverTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	later, base, dir := time.Now().Add(time.Hour), portstest.Take(t), t.TempDir()
	owner, ownerKey := seedFile(t, filepath.Join(dir, "owner.nk"))
	engine, engineKey := seedFile(t, filepath.Join(dir, "engine.nk"))
	cert, private := ours.sign("127.0.0.1", later)
	cfg := bus.ServerConfig{
		Users: []bus.User{{Role: bus.RoleOwner, Key: ownerKey}, {Role: bus.RoleEngine, Key: engineKey}}, Partitions: 1, RoutePassword: "between-us", MaxMemory: 128 << 20, MaxFile: 256 << 20,
		TLS: bus.ServerTLS{Cert: cert, Key: private, CA: ours.file},
	}
	for i := range 3 {
		cfg.Servers = append(cfg.Servers, bus.Server{Name: fmt.Sprintf("nats-%d", i), Host: "127.0.0.1", Listen: "127.0.0.1", Port: base + 2*i, RoutePort: base + 2*i + 1})
	}
	var servers []*server.Server
	for i := range cfg.Servers {
		cfg.StoreDir = filepath.Join(dir, fmt.Sprint(i))
		text, err := cfg.Text(i)
		ok(t, err)
		servers = append(servers, serverFrom(t, text))
	}

	// A book with a copy on each server is a cluster of all three.
	as := func(seed string) *bus.Bus {
		b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: fmt.Sprintf("tls://127.0.0.1:%d", base), Creds: seed, TLS: bus.ClientTLS{CA: ours.file}})
		ok(t, err)
		t.Cleanup(func() { b.Close() })
		return b
	}
	b := as(owner)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 3})
		if err == nil || errors.Is(err, bus.ErrExists) { // the try before made all, and was not told
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	appendPages(t, as(engine).Book(0), 0, 3)
	for i, s := range servers {
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			routes, err := s.Routez(nil)
			ok(t, err)
			others := map[string]bool{}
			for _, r := range routes.Routes {
				others[r.RemoteName] = true
			}
			if len(others) == 2 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("server %d has routes to %v", i, others)
			}
		}
	}

	// What a server says first is heard by who it lets in.
	greeted := func(pair ...tls.Certificate) error {
		raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", base+1))
		ok(t, err)
		defer raw.Close()
		ok(t, raw.SetDeadline(time.Now().Add(time.Minute)))
		pool := x509.NewCertPool()
		pool.AddCert(ours.cert)
		c := tls.Client(raw, &tls.Config{Certificates: pair, RootCAs: pool, ServerName: "127.0.0.1"})
		if err := c.Handshake(); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 64)) // in TLS 1.3 a client learns only here that it was refused
		return err
	}
	mine, err := tls.LoadX509KeyPair(cert, private)
	ok(t, err)
	stranger, err := tls.LoadX509KeyPair(theirs.sign("127.0.0.1", later))
	ok(t, err)
	if err := greeted(mine); err != nil {
		t.Errorf("a server of ours is not let in: %v", err)
	}
	if greeted(stranger) == nil {
		t.Error("a certificate of another authority is let in")
	}
	if greeted() == nil {
		t.Error("no certificate is let in")
	}
}
