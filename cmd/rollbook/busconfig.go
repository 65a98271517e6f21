package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rollbook/bus"
	"rollbook/engine/session"
)

type busConfig struct {
	Server     []string `help:"A server of the bus, NAME or NAME=HOST[:PORT[:ROUTEPORT]]; may be repeated. HOST is where the others reach it. None given: one server called rollbook. A cluster has three or five." placeholder:"NAME"`
	Listen     string   `help:"The address that each server listens on. Empty: all of its machine." placeholder:"HOST" default:""`
	Partitions int      `help:"How many partitions the book has or will have. 0: rights for the most there can be." default:"0" placeholder:"N"`
	Role       []string `help:"A role that gets a user of its own; may be repeated. None given: owner, engine, adapter, operator, auditor, notary, consumer and system. The role service is for rollbook serve --bus, which is engine and adapter in one." placeholder:"ROLE"`
	Key        []string `help:"A user's public key, ROLE=U...; may be repeated, also for one role. Its seed stays where it was made. None given: seeds are made, which takes --out." placeholder:"ROLE=KEY"`
	Out        string   `help:"Write one NAME.conf a server and one ROLE.nk a user into this directory. Seeds that are there are kept. Empty: print the configuration." placeholder:"DIR" type:"path" default:""`
	Monitor    string   `help:"Where each server serves its health and figures, in the clear and to anybody who reaches it. Empty: nowhere." placeholder:"HOST:PORT" default:""`
	StoreDir   string   `help:"Where each server keeps its streams." placeholder:"DIR" default:"/var/lib/nats"`
	MaxMemory  int64    `help:"How many MiB the streams in memory may take on one server. 0: 256." default:"256" placeholder:"N"`
	MaxFile    int64    `help:"How many GiB the streams in files may take on one server. 0: 10." default:"10" placeholder:"N"`
	ServerCert string   `help:"The path, on the servers, of their certificate. Empty: no TLS." placeholder:"FILE" default:""`
	ServerKey  string   `help:"The path, on the servers, of that certificate's key. Empty: no TLS." placeholder:"FILE" default:""`
	ServerCA   string   `name:"server-ca" help:"The path, on the servers, of the authorities that have signed their certificates and those of their clients; a cluster with TLS needs it. Empty: none." placeholder:"FILE" default:""`
	Verify     bool     `help:"Ask clients for a certificate. Default: no."`
}

// Help is shown by `bus-config --help`.
func (busConfig) Help() string {
	return `It writes what nats-server (2.14 or later) reads: sync_interval always, the accounts, and for each role a user with
what that role needs and nothing more. It starts and changes nothing. Then: start the servers, rollbook init with owner.nk,
and the parts with the credential of their role. Put owner.nk away after that.

The route password of a cluster stands in each NAME.conf, and in route.password of --out, which is kept like the seeds.`
}

// podVerbs are the commands that a pod's clients can cause; the rest are an operator's.
var podVerbs = []session.Verb{session.VerbLogin, session.VerbRefresh, session.VerbLogout, session.VerbVerify, session.VerbTouch,
	session.VerbIssueOneTime, session.VerbSetLifetimes}

func podVerbNames() (names []string) {
	for _, verb := range podVerbs {
		names = append(names, string(verb))
	}
	return names
}

// Run prints or writes the configuration.
func (c *busConfig) Run(context.Context) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if c.Out == "" {
		return c.print(os.Stdout, cfg)
	}
	if err := os.MkdirAll(c.Out, 0o700); err != nil {
		return fmt.Errorf("make the directory for the configuration: %w", err)
	}
	seeds, err := c.makeUsers(&cfg)
	if err != nil {
		return err
	}
	if len(cfg.Servers) > 1 {
		if cfg.RoutePassword, err = routePassword(filepath.Join(c.Out, "route.password")); err != nil {
			return err
		}
	}
	written := table{header: []string{"FILE", "FOR"}}
	for i, s := range cfg.Servers {
		text, err := cfg.Text(i)
		if err != nil {
			return refuse("usage", "%w", err)
		}
		path := filepath.Join(c.Out, s.Name+".conf")
		if err := writeWhole(path, []byte(text)); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
		written.row(path, "the server "+s.Name)
	}
	written.rows = append(written.rows, seeds...)
	return written.print(os.Stdout)
}

// print writes one server's configuration for users whose seeds are elsewhere.
func (c *busConfig) print(to io.Writer, cfg bus.ServerConfig) error {
	switch {
	case len(cfg.Servers) > 1:
		return refuse("usage", "a cluster's servers have a file each, and a password between them: name a directory with --out")
	case len(cfg.Users) == 0:
		return refuse("usage", "no public key is given: name a directory for new seeds with --out, or give each role's key with --key ROLE=U...")
	}
	text, err := cfg.Text(0)
	if err != nil {
		return refuse("usage", "%w", err)
	}
	_, err = io.WriteString(to, text)
	return err
}

// config is what the command line says, without the users whose seeds are to be made.
func (c *busConfig) config() (bus.ServerConfig, error) {
	cfg := bus.ServerConfig{Partitions: c.Partitions, PodVerbs: podVerbNames(), Monitor: c.Monitor, StoreDir: c.StoreDir, MaxMemory: c.MaxMemory << 20, MaxFile: c.MaxFile << 30,
		TLS: bus.ServerTLS{Cert: c.ServerCert, Key: c.ServerKey, CA: c.ServerCA, Verify: c.Verify}}
	if c.MaxMemory < 0 || c.MaxMemory > 1<<30 || c.MaxFile < 0 || c.MaxFile > 1<<30 {
		return cfg, refuse("usage", "--max-memory %d and --max-file %d: use MiB and GiB", c.MaxMemory, c.MaxFile)
	}
	names := c.Server
	if len(names) == 0 {
		names = []string{"rollbook"}
	}
	for _, text := range names {
		s, err := parseServer(text)
		if err != nil {
			return cfg, err
		}
		s.Listen = c.Listen
		cfg.Servers = append(cfg.Servers, s)
	}
	for _, text := range c.Key {
		role, key, ok := strings.Cut(text, "=")
		if !ok || !slices.Contains(bus.Roles(), bus.Role(role)) {
			return cfg, refuse("usage", "--key %s: use ROLE=U..., with a role such as engine", text)
		}
		cfg.Users = append(cfg.Users, bus.User{Role: bus.Role(role), Key: key})
	}
	return cfg, nil
}

// parseServer reads NAME or NAME=HOST[:PORT[:ROUTEPORT]].
func parseServer(text string) (s bus.Server, err error) {
	name, rest, _ := strings.Cut(text, "=")
	parts := strings.Split(rest, ":")
	s.Name, s.Host = name, parts[0]
	for i, port := range []*int{&s.Port, &s.RoutePort} {
		if len(parts) > i+1 {
			n, failed := strconv.ParseUint(parts[i+1], 10, 16)
			err = errors.Join(err, failed)
			*port = int(n)
		}
	}
	if err != nil || len(parts) > 3 || name == "" {
		return s, refuse("usage", "--server %s: use NAME or NAME=HOST:PORT:ROUTEPORT", text)
	}
	return s, nil
}

// makeUsers gives each role that has no key yet a seed in a file, or takes the seed that is there.
func (c *busConfig) makeUsers(cfg *bus.ServerConfig) (files [][]string, err error) {
	roles := c.Role
	if len(roles) == 0 {
		for _, role := range bus.Roles() {
			if role != bus.RoleService {
				roles = append(roles, string(role))
			}
		}
	}
	for _, name := range roles {
		role := bus.Role(name)
		if !slices.Contains(bus.Roles(), role) {
			return nil, refuse("usage", "--role %s is none of %v", name, bus.Roles())
		}
		if slices.ContainsFunc(cfg.Users, func(u bus.User) bool { return u.Role == role }) {
			continue
		}
		path := filepath.Join(c.Out, name+".nk")
		key, err := bus.KeyFile(path)
		if err != nil {
			return nil, fmt.Errorf("make the key of the role %s: %w", role, err)
		}
		cfg.Users = append(cfg.Users, bus.User{Role: role, Key: key})
		files = append(files, []string{path, "the seed of the role " + name})
	}
	return files, nil
}

// routePassword is made once: servers that know another do not let each other in.
func routePassword(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(rand.Text() + "\n")
		err = writeWhole(path, text)
	}
	if err != nil {
		return "", fmt.Errorf("make the route password: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
