package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rollbook/bus"
)

// doctored runs the doctor on a bus elsewhere, as a role, and gives what it finds.
func doctored(t *testing.T, dir, url, role string) []finding {
	t.Helper()
	c := doctorCommand{place: place{Bus: url, Creds: filepath.Join(dir, role+".nk")}, Role: role}
	list, err := c.examine(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// has reports whether there is a finding of this severity and check whose text has all the parts.
func has(list []finding, s severity, check string, parts ...string) bool {
	return slices.ContainsFunc(list, func(f finding) bool {
		return f.Severity == s && f.Check == check && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(f.What, part) })
	})
}

// expect looks for such a finding, and that each says why it matters and what to do.
func expect(t *testing.T, list []finding, s severity, check string, parts ...string) {
	t.Helper()
	for _, f := range list {
		if f.Severity != fine && (f.Why == "" || f.Severity != note && f.Do == "") {
			t.Errorf("%q does not say why it matters and what to do", f.What)
		}
	}
	if has(list, s, check, parts...) {
		return
	}
	var text bytes.Buffer
	_ = printFindings(&text, list, false)
	t.Errorf("no %s about %s with %q in\n%s", s, check, parts, text.String())
}

// settled runs the doctor until it finds what it should: a machine at its limit may be too slow for one look.
func settled(t *testing.T, dir, url, role string, holds func([]finding) bool) []finding {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if list := doctored(t, dir, url, role); holds(list) || time.Now().After(end) {
			return list
		}
	}
}

// finds is settled and expect for one finding.
func finds(t *testing.T, dir, url, role string, s severity, check string, parts ...string) []finding {
	t.Helper()
	list := settled(t, dir, url, role, func(list []finding) bool { return has(list, s, check, parts...) })
	expect(t, list, s, check, parts...)
	return list
}

func errorsIn(list []finding) (n int) {
	for _, f := range list {
		if f.Severity == wrong {
			n++
		}
	}
	return n
}

// TestDoctorOnALockedBus: every role's credential is found to be that, an engine at work is heard, and what is set wrong,
// one thing after the other, is said.
func TestDoctorOnALockedBus(t *testing.T) {
	dir, url := printed(t, 1)
	finds(t, dir, url, "engine", wrong, "layout", "no book has been created")
	createBook(t, dir, url, 1)
	finds(t, dir, url, "engine", wrong, "writers", "no writer was heard", "0, 1")
	stopEngine := startEngine(t, dir, url)
	pod := connectAs(t, dir, url, "adapter") // it hears when both write
	for p := range bus.Partition(2) {
		heard := make(chan struct{}, 100)
		stop, err := pod.Book(p).Announcements(func(bus.Announcement) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-heard
		stop()
	}
	for _, role := range []string{"owner", "engine", "adapter", "operator", "auditor", "consumer"} {
		if role == "consumer" {
			list := finds(t, dir, url, role, note, "layout", "may not see the book")
			expect(t, list, fine, "rights", "the rights of the role consumer")
			continue
		}
		sync := fine
		if role == "adapter" || role == "auditor" {
			sync = warning // may not ask the servers
		}
		list := settled(t, dir, url, role, func(list []finding) bool {
			return has(list, sync, "sync") && has(list, fine, "clock") && (role == "owner" || has(list, fine, "writers"))
		})
		expect(t, list, fine, "rights", "the rights of the role "+role)
		expect(t, list, sync, "sync", "acknowledged means on disk")
		expect(t, list, fine, "replicas")
		expect(t, list, fine, "clock")
		if role != "owner" { // who has no right to hear the writers
			expect(t, list, fine, "writers")
			if n := errorsIn(list); n != 0 {
				t.Errorf("%s: %d errors", role, n)
			}
		}
	}

	// In the writers' place somebody whose clock is an hour ahead, and who knows nothing of the book.
	stopEngine()
	engine := connectAs(t, dir, url, "engine")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = engine.Book(0).Announce(bus.Announcement{Epoch: 9, Last: 1, Time: time.Now().UnixNano()})
				_ = engine.Book(1).Announce(bus.Announcement{Epoch: 9, Time: time.Now().Add(time.Hour).UnixNano()})
			}
		}
	}()
	list := finds(t, dir, url, "engine", wrong, "clock", "the writer of partition 1", "ahead")
	close(stop)
	<-done
	expect(t, list, warning, "lag", "the writer of partition 1 knows 0 pages")

	// Commands that nobody takes.
	owner := connectAs(t, dir, url, "owner")
	s, err := owner.JetStream().Stream(t.Context(), bus.StreamCommands)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs, cfg.MaxBytes = 10, 64<<10
	if _, err := owner.JetStream().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for n := range 9 { // of a partition that nobody reads
		subject := bus.CommandSubject(7, "login")
		if _, err := engine.Conn().Request(subject, bytes.Repeat([]byte{'x'}, 7<<10), 20*time.Second); err != nil {
			t.Fatal(n, err)
		}
	}
	list = finds(t, dir, url, "engine", warning, "space", "COMMANDS holds")
	expect(t, list, wrong, "space", "the messages in COMMANDS take")

	if err := owner.JetStream().DeleteStream(t.Context(), bus.StreamCommands); err != nil {
		t.Fatal(err)
	}
	finds(t, dir, url, "adapter", warning, "layout", "the command stream is missing")
	if err := owner.JetStream().DeleteStream(t.Context(), "KV_DIRECTORY"); err != nil {
		t.Fatal(err)
	}
	finds(t, dir, url, "operator", wrong, "layout", "DIRECTORY is missing")
}

// TestDoctorOnABusThatForgets: a server that does not sync, a user without bounds, a secret that others can read, and
// no server at all.
func TestDoctorOnABusThatForgets(t *testing.T) {
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
	if err := opts.ProcessConfigString(`
		system_account: SYS
		accounts {
		  SYS { exports: [{service: "$SYS.REQ.SERVER.PING.JSZ", response: stream}] }
		  APP { jetstream: enabled, users: [{user: app, password: app}], imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}] }
		}`); err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	url := strings.Replace(srv.ClientURL(), "://", "://app:app@", 1)
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	open := fileWith(t, strings.Repeat("k", 32))
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	c := doctorCommand{place: place{Bus: url}, keyFile: keyFile{DeploymentKeyFile: open}}
	list, err := c.examine(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, list, wrong, "sync", "does not run with sync_interval: always")
	expect(t, list, warning, "rights", "the rights of no role")
	expect(t, list, wrong, "secrets", "the deployment key is open to everybody")
	for _, f := range list {
		if strings.Contains(f.What+f.Why+f.Do, "kkkk") || strings.Contains(f.What+f.Why+f.Do, "app:app") {
			t.Errorf("a secret is told: %+v", f)
		}
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	if list, err = c.examine(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	expect(t, list, wrong, "connection", "connect to the bus")
}

// TestDoctorSeesAServerGone: one of three is away, then two.
func TestDoctorSeesAServerGone(t *testing.T) {
	dir, url, servers := printedServers(t, 3)
	createBook(t, dir, url, 3)
	// While nobody writes, so that what changes would be the doctor's doing.
	engine := connectAs(t, dir, url, "engine")
	before, err := engine.Streams(t.Context(), bus.Layout{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		expect(t, doctored(t, dir, url, "engine"), fine, "rights", "the rights of the role engine") // so they were all tried
	}
	after, err := engine.Streams(t.Context(), bus.Layout{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range before {
		if before[i].Last != after[i].Last {
			t.Errorf("%s ended at %d, and after the doctor at %d", before[i].Name, before[i].Last, after[i].Last)
		}
	}

	startEngine(t, dir, url)
	list := settled(t, dir, url, "engine", func(list []finding) bool {
		return errorsIn(list) == 0 && has(list, fine, "replicas", "every copy") && has(list, fine, "sync")
	})
	expect(t, list, fine, "layout", "2 partitions with 3 replicas")
	expect(t, list, fine, "sync", "every server that holds a copy")
	expect(t, list, fine, "writers")

	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	finds(t, dir, url, "engine", warning, "replicas", "away: nats-2")
	servers[1].Shutdown()
	servers[1].WaitForShutdown()
	if list := settled(t, dir, url, "engine", func(list []finding) bool { return errorsIn(list) > 0 }); errorsIn(list) == 0 {
		t.Error("with one server of three left, nothing is wrong")
	}
}

// TestDoctorJudges is about what a test cannot bring about on one machine.
func TestDoctorJudges(t *testing.T) {
	mixed := serverFindings([]bus.ServerState{{Name: "a", Version: "2.14.0"}, {Name: "b", Version: "2.15.2"}})
	expect(t, mixed, warning, "version", "2.14.0 (a)", "2.15.2 (b)")
	full := serverFindings([]bus.ServerState{{Name: "a", Version: "2.15.2", MaxFile: 100, File: 96, MaxMemory: 100, Memory: 81}})
	expect(t, full, wrong, "space", "files on a")
	expect(t, full, warning, "space", "memory on a")
	for left, want := range map[uint64]severity{1: wrong, 5: warning, 50: fine} {
		expect(t, []finding{diskFinding("/data", left, 100)}, want, "space", "are free on the disk")
	}
	for ahead, want := range map[time.Duration]severity{0: fine, 2 * time.Second: warning, -2 * time.Second: warning, -time.Minute: wrong} {
		expect(t, []finding{clockFinding("the clock", ahead, 10*time.Millisecond)}, want, "clock", "this machine's")
	}
	expect(t, []finding{clockFinding("the clock", 3*time.Second, 3*time.Second)}, fine, "clock") // the answer took as long
	for what, s := range map[string]bus.StreamState{
		"has no leader":   {Name: "BOOK_0", Replicas: 3},
		"has 1 copies":    {Name: "BOOK_0", Replicas: 3, Leader: "a"},
		"is behind: b by": {Name: "BOOK_0", Replicas: 2, Leader: "a", Copies: []bus.Copy{{Server: "b", Lag: 7}}},
	} {
		f, bad := replicaFinding(s)
		if !bad || !strings.Contains(f.What, what) || f.Why == "" || f.Do == "" {
			t.Errorf("%+v: %v, %+v", s, bad, f)
		}
	}
	if bytes := size(1536); bytes != "1.5 KiB" {
		t.Error(bytes)
	}
	var text bytes.Buffer
	if err := printFindings(&text, mixed, true); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Severity == "" || f.Check == "" || f.What == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}
