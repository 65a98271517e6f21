package chaostest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/journeys/portstest"
)

// startServers starts the bus: each server reaches each other over a link of its own, and each process comes with the
// credentials of its role.
func (s *Site) startServers(t testing.TB) error {
	base := portstest.Take(t)
	port := func(i, kind int) string { return fmt.Sprintf("127.0.0.1:%d", base+3*i+kind) }
	for i := range s.cfg.Servers {
		v := &server{address: port(i, 0)}
		var others []string
		for j := range s.cfg.Servers {
			if j != i {
				others = append(others, port(j, 1))
			}
		}
		var err error
		if v.routes, err = links(others); err != nil {
			return err
		}
		store := filepath.Join(s.cfg.Dir, fmt.Sprintf("nats%d", i+1))
		v.mount(store)
		file, err := s.configure(i, v, store, base)
		if err != nil {
			return err
		}
		v.process = process{name: fmt.Sprintf("nats%d", i+1), command: []string{s.cfg.NATS, "-c", file},
			log: filepath.Join(s.cfg.Dir, fmt.Sprintf("nats%d.log", i+1))}
		s.servers = append(s.servers, v)
		if err := v.start(); err != nil {
			return err
		}
	}
	for i := range s.servers {
		if err := until(time.Minute, s.servers[i].name, func() bool { return s.healthy(i) }); err != nil {
			return err
		}
	}
	return nil
}

// configure has `rollbook bus-config` write a server's configuration, as it sees the cluster: the others are where its
// links to them begin. The seeds and the password between the servers are made the first time, and kept.
func (s *Site) configure(i int, v *server, store string, base int) (file string, err error) {
	args := []string{"bus-config", "--out", s.busDir(), "--listen", "127.0.0.1", "--partitions", fmt.Sprint(s.cfg.Partitions),
		"--monitor", fmt.Sprintf("127.0.0.1:%d", base+3*i+2), "--store-dir", store, "--max-memory", "512", "--max-file", "8"}
	routes := v.routes
	for j := range s.cfg.Servers {
		route := fmt.Sprint(base + 3*j + 1)
		if j != i {
			_, route, err = net.SplitHostPort(routes[0].address())
			if err != nil {
				return "", err
			}
			routes = routes[1:]
		}
		args = append(args, "--server", fmt.Sprintf("nats%d=127.0.0.1:%d:%s", j+1, base+3*j, route))
	}
	if _, err := s.program("", args...); err != nil {
		return "", err
	}
	file = filepath.Join(s.cfg.Dir, fmt.Sprintf("nats%d.conf", i+1))
	return file, os.Rename(filepath.Join(s.busDir(), filepath.Base(file)), file)
}

// busDir is where the seeds are.
func (s *Site) busDir() string { return filepath.Join(s.cfg.Dir, "bus") }

// creds is the file with a role's seed.
func (s *Site) creds(role bus.Role) string { return filepath.Join(s.busDir(), string(role)+".nk") }
