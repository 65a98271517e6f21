package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/journeys/portstest"
)

// TestPodsHaveTheirClientsCommands: every verb is either a pod's or not, on purpose. A new one is to be put here
// or into podVerbs.
func TestPodsHaveTheirClientsCommands(t *testing.T) {
	others := []session.Verb{session.VerbExpire, session.VerbPodLost, session.VerbRevoke, session.VerbRegister, session.VerbChangeCredential, session.VerbDisable, session.VerbEnable,
		session.VerbUnlock, session.VerbDefineResource, session.VerbRemoveResource}
	source, err := os.ReadFile(filepath.Join("..", "..", "engine", "session", "command.go"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(source)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "Verb = ")
		if !ok || !strings.HasPrefix(name, "Verb") {
			continue
		}
		n++
		verb := session.Verb(strings.Trim(value, `"`))
		if slices.Contains(podVerbs, verb) == slices.Contains(others, verb) {
			t.Errorf("the command %s belongs to pods or to operators and engines: say to whom", verb)
		}
	}
	if n != len(podVerbs)+len(others) {
		t.Errorf("%d verbs were found", n)
	}
}

// printed runs bus-config and starts the servers it describes; one of them is on each port.
func printed(t *testing.T, servers int, more ...string) (dir, url string) {
	t.Helper()
	dir, url, _ = printedServers(t, servers, more...)
	return dir, url
}

// printedServers is printed, with the servers themselves.
func printedServers(t *testing.T, servers int, more ...string) (dir, url string, started []*server.Server) {
	t.Helper()
	dir = t.TempDir()
	args := append([]string{"bus-config", "--out", dir, "--listen", "127.0.0.1", "--partitions", "2", "--max-memory", "128", "--max-file", "1"}, more...)
	var urls []string
	base := portstest.Take(t)
	for i := range servers {
		port := base + 2*i
		args = append(args, "--server", fmt.Sprintf("nats-%d=127.0.0.1:%d:%d", i, port, port+1))
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	store := t.TempDir()
	if code := run(append(args, "--store-dir", store)); code != exitDone {
		t.Fatalf("bus-config exits with %d", code)
	}
	started = make([]*server.Server, servers)
	for i := range servers {
		path := filepath.Join(dir, fmt.Sprintf("nats-%d.conf", i))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The servers of this test share a machine, and so need a directory each.
		text = bytes.Replace(text, []byte(store), []byte(filepath.Join(store, fmt.Sprint(i))), 1)
		own := filepath.Join(t.TempDir(), "nats.conf")
		putFile(t, own, text)
		opts, err := server.ProcessConfigFile(own)
		if err != nil {
			t.Fatal(err)
		}
		opts.NoSigs, opts.NoLog = true, true
		if started[i], err = server.NewServer(opts); err != nil {
			t.Fatal(err)
		}
		started[i].Start()
		t.Cleanup(func() { started[i].Shutdown(); started[i].WaitForShutdown() })
	}
	for _, s := range started {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a server is not ready")
		}
	}
	return dir, strings.Join(urls, ","), started
}

// createBook is init, as the owner; a cluster takes some seconds to choose a leader before it can.
func createBook(t *testing.T, dir, url string, replicas int) {
	t.Helper()
	for end, tried := time.Now().Add(2*time.Minute), false; ; tried = true {
		code := run([]string{"init", "--bus", url, "--creds", filepath.Join(dir, "owner.nk"), "--partitions", "2", "--replicas", fmt.Sprint(replicas)})
		switch {
		case code == exitDone, code == exitRefused && tried: // the try before made all, and was not told
			return
		case code == exitRefused || time.Now().After(end):
			t.Fatalf("init exits with %d", code)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func connectAs(t *testing.T, dir, url, role string) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: url, Creds: filepath.Join(dir, role+".nk"), Name: role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// TestTheProgramUnderItsCredentials has the engine write, an operator add a user, a pod log the user in, and the
// operator see and end the session, each with the credential of its role and no other's, on one server and on three.
func TestTheProgramUnderItsCredentials(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", servers), func(t *testing.T) {
			dir, url := printed(t, servers)
			createBook(t, dir, url, servers)
			startEngine(t, dir, url)
			genesis := startPod(t, dir, url, "adapter")
			live(t, dir, url, genesis)
			tellsAConsumer(t, dir, url)

			auditor := connectAs(t, dir, url, "auditor")
			layout, err := auditor.Open(t.Context())
			if err != nil || layout.Partitions != 2 {
				t.Fatalf("the auditor opens %+v, %v", layout, err)
			}
			for _, args := range [][]string{{"replay", "--from", "1h"}, {"at", "now"}, {"stats"}, {"replay", "--venue", "genesis", "--json"}} {
				args = append(append([]string{"audit"}, args...), "--bus", url, "--creds", filepath.Join(dir, "auditor.nk"))
				if code := run(args); code != exitDone {
					t.Errorf("as the auditor, %v exits with %d", args, code)
				}
			}
			// It may not look names up, and a name that nobody has is no quiet day.
			unknown := []string{"audit", "replay", "--user", "ann", "--bus", url, "--creds", filepath.Join(dir, "auditor.nk")}
			if code := run(unknown); code != exitRefused {
				t.Errorf("as the auditor, %v exits with %d", unknown, code)
			}
			l, err := readLedger(t.Context(), auditor, 2)
			if err != nil || len(l.sessions(0)) != 0 {
				t.Errorf("the auditor reads %v, %v", l, err)
			}
		})
	}
}

// TestServeUnderItsCredential runs all roles in one process, with the role that is made for it.
func TestServeUnderItsCredential(t *testing.T) {
	dir, url := printed(t, 1, "--role", "owner", "--role", "service", "--role", "operator")
	createBook(t, dir, url, 1)
	live(t, dir, url, startPod(t, dir, url, "service"))
}

// TestPrintForKeysMadeElsewhere: each user's seed stays where it was made, also of two users of one role.
func TestPrintForKeysMadeElsewhere(t *testing.T) {
	var c busConfig
	for i, role := range []string{"owner", "engine", "engine"} {
		key, err := bus.KeyFile(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		c.Key = append(c.Key, role+"="+key)
	}
	c.StoreDir = t.TempDir()
	cfg, err := c.config()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := c.print(&text, cfg); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(fileWith(t, text.String()))
	if err != nil || len(opts.Nkeys) != 3 || !opts.SyncAlways {
		t.Errorf("the server reads %d users, sync always %v, %v", len(opts.Nkeys), opts.SyncAlways, err)
	}
}

// live adds a user, logs in, sees the session, ends it, and erases the user.
func live(t *testing.T, dir, url, genesis string) {
	t.Helper()
	operator := []string{"--bus", url, "--creds", filepath.Join(dir, "operator.nk")}
	input, err := os.Open(fileWith(t, "open sesame, open sesame\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	before := os.Stdin
	os.Stdin = input
	code := run(append([]string{"user", "add", "ann", "--password-stdin"}, operator...))
	os.Stdin = before
	if code != exitDone {
		t.Fatalf("user add exits with %d", code)
	}
	login := `{"DETAILS":{"USER_NAME":"ann","PASSWORD":"open sesame, open sesame"}}`
	if status, text, err := callOnce(genesis+"/event-login-auth", http.Header{}, login); err != nil || !strings.Contains(text, "EVENT_LOGIN_AUTH_ACK") {
		t.Fatalf("the login is answered %d %s, %v", status, text, err)
	}
	for _, args := range [][]string{{"session", "list"}, {"user", "disable", "ann"}, {"user", "list"}} {
		if code := run(append(args, operator...)); code != exitDone {
			t.Errorf("%v exits with %d", args, code)
		}
	}
	if _, text, err := callOnce(genesis+"/event-login-auth", http.Header{}, login); err != nil || strings.Contains(text, "EVENT_LOGIN_AUTH_ACK") {
		t.Errorf("a disabled user logs in: %s, %v", text, err)
	}
	if code := run(append([]string{"user", "erase", "ann", "--yes"}, operator...)); code != exitDone {
		t.Errorf("user erase exits with %d", code)
	}
}

func fileWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	putFile(t, path, []byte(text))
	return path
}

// startEngine runs the writers alone, as the engine, until stop is called or the test ends.
func startEngine(t *testing.T, dir, url string) (stop func()) {
	t.Helper()
	_, stop = startHouse(t, dir, url, "engine", onlyWriters)
	return stop
}

// startPod runs the venues until the test ends, and with the role service the writers too. It gives the address of
// Genesis.
func startPod(t *testing.T, dir, url, role string) string {
	t.Helper()
	with := onlyAdapters
	if role == "service" {
		with = everything
	}
	h, _ := startHouse(t, dir, url, role, with)
	return h.doorURL(h.doors[0], "http")
}

// startHouse runs a process's parts on a bus elsewhere, under the credential of a role, once they are ready. more are flags.
func startHouse(t *testing.T, dir, url, role string, with roles, more ...string) (h *house, stop func()) {
	t.Helper()
	var c cli
	args := []string{"serve", "--bus", url, "--creds", filepath.Join(dir, role+".nk"), "--port-base", "0",
		"--deployment-key-file", fileWith(t, strings.Repeat("k", 32))}
	if _, err := parserOf(t, &c).Parse(append(args, more...)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	for end := time.Now().Add(time.Minute); ; { // a machine at its limit may be slow to say whether it syncs
		if h, err = buildHouse(ctx, &c.Serve.serveSettings, with, "", slog.New(slog.DiscardHandler)); err == nil {
			break
		}
		if time.Now().After(end) {
			cancel()
			t.Fatal(err)
		}
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- h.run(ctx, nil, func() error { close(ready); return nil })
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the process with the role %s ended with %v", role, err)
		}
		h.close()
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the process with the role %s did not start: %v", role, err)
	case <-time.After(4 * time.Minute):
		t.Fatalf("the process with the role %s did not get ready", role)
	}
	return h, stop
}
