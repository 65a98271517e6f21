package bus_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

func TestRestartKeepsPages(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "")
	b := connect(t, e)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	appendPages(t, b.Book(1), 0, 3)
	e.Shutdown()

	b = connect(t, start(t, dir, ""))
	l, err := b.Open(t.Context())
	ok(t, err)
	if l != (bus.Layout{Partitions: 2, Replicas: 1}) {
		t.Errorf("layout after a restart: %+v", l)
	}
	if end, err := b.Book(1).End(t.Context()); err != nil || end != 3 {
		t.Fatalf("end after a restart: %d, %v; want 3", end, err)
	}
	if seq := appendPages(t, b.Book(1), 3, 1); seq != 4 {
		t.Errorf("the page after a restart is %d, want 4", seq)
	}
}

func TestDataDirIsLocked(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "")
	_, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir})
	want(t, err, bus.ErrDataDirInUse)
	e.Shutdown()
	start(t, dir, "")
}

func TestKeyFilesAreMadeOnceAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	start(t, dir, "").Shutdown()
	before := map[string]string{}
	for _, name := range []string{"operator.nk", "consumer.nk"} {
		info, err := os.Stat(filepath.Join(dir, name))
		ok(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		ok(t, err)
		before[name] = string(text)
	}
	info, err := os.Stat(dir)
	ok(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory has mode %o", info.Mode().Perm())
	}
	start(t, dir, "").Shutdown()
	for name, text := range before {
		if again, _ := os.ReadFile(filepath.Join(dir, name)); string(again) != text {
			t.Errorf("%s changed with a restart", name)
		}
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	if url, found := bus.FindRunning(dir); found {
		t.Fatalf("found %q where nothing ever ran", url)
	}
	e := start(t, dir, "127.0.0.1:0")
	url, found := bus.FindRunning(dir)
	if !found || url != e.URL() {
		t.Fatalf("found %q, %v; the server is at %q", url, found, e.URL())
	}
	if _, err := nats.Connect(url); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("an anonymous connection got %v, want an authorization error", err)
	}
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: url, Creds: filepath.Join(dir, "operator.nk")})
	ok(t, err)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	appendPages(t, b.Book(0), 0, 1)
	want(t, b.CheckDurability(t.Context()), bus.ErrDurabilityUnknown)
	ok(t, b.Close())
	ok(t, connect(t, e).CheckDurability(t.Context()))
	e.Shutdown()
	if _, err := os.Stat(filepath.Join(dir, "bus.url")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("bus.url stays behind: %v", err)
	}
	if url, found := bus.FindRunning(dir); found {
		t.Errorf("found %q after the shutdown", url)
	}
}

func TestConnectFails(t *testing.T) {
	if _, err := bus.Connect(t.Context(), bus.ConnectConfig{}); err == nil {
		t.Error("no URL was accepted")
	}
	if _, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: "nats://127.0.0.1:1"}); err == nil {
		t.Error("connected to nothing")
	}
	bad := filepath.Join(t.TempDir(), "bad.nk")
	ok(t, os.WriteFile(bad, []byte("not a seed\n"), 0o600))
	if _, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: "nats://127.0.0.1:1", Creds: bad}); err == nil || strings.Contains(err.Error(), "not a seed") {
		t.Errorf("a bad seed gave %v; want an error without the file's text", err)
	}
}

// TestKilled runs a server in another process, kills it without warning, and
// goes on with its directory.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("ROLLBOOK_TEST_VICTIM"); dir != "" {
		victim(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "ROLLBOOK_TEST_VICTIM="+dir)
	ok(t, cmd.Start())
	ready := filepath.Join(dir, "ready")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the other process did not get ready")
			break
		}
	}
	_, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir})
	want(t, err, bus.ErrDataDirInUse)
	if _, found := bus.FindRunning(dir); !found {
		t.Error("the running server was not found")
	}
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait()

	if url, found := bus.FindRunning(dir); found {
		t.Errorf("found %q after its process was killed", url)
	}
	if _, err := os.Stat(filepath.Join(dir, "bus.url")); err != nil {
		t.Errorf("the test needs the stale file to be there: %v", err)
	}
	b := connect(t, start(t, dir, ""))
	if url, found := bus.FindRunning(dir); found {
		t.Errorf("a server that listens nowhere was found at the killed one's %q", url)
	}
	if _, err := b.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if end, err := b.Book(0).End(t.Context()); err != nil || end < 20 {
		t.Errorf("the book ends at %d, %v; 20 pages were acknowledged", end, err)
	}
}

// victim appends 20 pages, says so, and goes on until it is killed.
func victim(t *testing.T, dir string) {
	b := connect(t, start(t, dir, "127.0.0.1:0"))
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	last := appendPages(t, b.Book(0), 0, 20)
	ok(t, os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600))
	for {
		last = appendPages(t, b.Book(0), last, 1)
	}
}

// TestConsumerMayOnlyRead tries what consumer.nk must not do, by doing it.
func TestConsumerMayOnlyRead(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "127.0.0.1:0")
	owner := connect(t, e)
	ok(t, owner.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	appendPages(t, owner.Book(0), 0, 3)
	reader, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: e.URL(), Creds: filepath.Join(dir, "consumer.nk")})
	ok(t, err)
	defer reader.Close()

	// What it may: find the end, read, follow, hear announcements.
	if end, err := reader.Book(0).End(soon(t)); err != nil || end != 3 {
		t.Fatalf("the reader sees the end at %d, %v", end, err)
	}
	heard := make(chan bus.Announcement, 1)
	stop, err := reader.Book(0).Announcements(func(a bus.Announcement) {
		select {
		case heard <- a:
		default:
		}
	})
	ok(t, err)
	ok(t, reader.Conn().Flush())
	ok(t, owner.Book(0).Announce(bus.Announcement{Epoch: 7, Last: 3}))
	select {
	case a := <-heard:
		if a.Epoch != 7 {
			t.Errorf("heard %+v", a)
		}
	case <-soon(t).Done():
		t.Error("the reader hears no announcement")
	}
	stop()
	enough := errors.New("enough")
	err = reader.Book(0).Follow(soon(t), 0, func(p bus.StoredPage) error {
		switch p.Seq {
		case 3: // read by direct get; the next one comes live
			ok(t, owner.Book(0).Announce(bus.Announcement{Last: 3}))
			appendPages(t, owner.Book(0), 3, 1)
		case 4:
			return enough
		}
		return nil
	})
	want(t, err, enough)

	// What it must not.
	denied := func(what, subject, body string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if m, err := reader.Conn().RequestWithContext(ctx, subject, []byte(body)); err == nil {
			t.Errorf("%s was answered: %s", what, m.Data)
		}
	}
	denied("an append", bus.BookSubject(0), "x")
	denied("a command", bus.CommandSubject(0, "login"), "x")
	denied("reading the directory", "$JS.API.DIRECT.GET.KV_DIRECTORY", `{"seq":1}`)
	denied("the directory's state", "$JS.API.STREAM.INFO.KV_DIRECTORY", "")
	denied("the commands' state", "$JS.API.STREAM.INFO.COMMANDS", "")
	denied("a new stream", "$JS.API.STREAM.CREATE.EVIL", `{"name":"EVIL","subjects":["evil"]}`)
	denied("a consumer", "$JS.API.CONSUMER.CREATE.BOOK_0", `{"stream_name":"BOOK_0","config":{"deliver_subject":"rollbook.command.0.x"}}`)
	denied("a purge", "$JS.API.STREAM.PURGE.BOOK_0", "")
	denied("deleting the book", "$JS.API.STREAM.DELETE.BOOK_0", "")
	var subs []*nats.Subscription
	for _, subject := range []string{"rollbook.command.>", "rollbook.book.*", "_INBOX.>", "$KV.DIRECTORY.>", ">"} {
		sub, err := reader.Conn().SubscribeSync(subject)
		ok(t, err)
		subs = append(subs, sub)
	}
	ok(t, reader.Conn().Flush())
	kv, err := owner.Directory(t.Context())
	ok(t, err)
	_, err = kv.Put(t.Context(), "jane", []byte("verifier"))
	ok(t, err)
	ok(t, owner.Conn().Publish("_INBOX.someone", []byte("outcome")))
	ok(t, owner.Conn().Publish("rollbook.other", []byte("x")))
	ok(t, owner.Conn().Flush())
	time.Sleep(20 * time.Millisecond)
	for _, sub := range subs {
		if n, _, err := sub.Pending(); err == nil && n > 0 {
			t.Errorf("the reader heard %d messages on %s", n, sub.Subject)
		}
	}

	// The hole: what it may ask, answered to a subject of its choice. Neither the
	// book nor the commands may get the answer.
	for _, target := range []string{bus.BookSubject(0), bus.BookSubject(1), bus.CommandSubject(0, "login")} {
		ok(t, reader.Conn().PublishRequest("$JS.API.STREAM.INFO.BOOK_0", target, nil))
		ok(t, reader.Conn().PublishRequest("$JS.API.DIRECT.GET.BOOK_0", target, []byte(`{"seq":1,"batch":5}`)))
	}
	ok(t, reader.Conn().Flush())
	time.Sleep(50 * time.Millisecond)
	for p, wantEnd := range []uint64{4, 0} {
		if end, err := owner.Book(bus.Partition(p)).End(t.Context()); err != nil || end != wantEnd {
			t.Errorf("book %d ends at %d, %v; a reader made it grow from %d", p, end, err, wantEnd)
		}
	}
	s, err := owner.JetStream().Stream(t.Context(), bus.StreamCommands)
	ok(t, err)
	if n := s.CachedInfo().State.LastSeq; n != 0 {
		t.Errorf("a reader put %d messages among the commands", n)
	}
}

// TestInABubble runs server, writer and client in fake time: an hour passes
// between two commands, and costs nothing.
func TestInABubble(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir})
		ok(t, err)
		defer e.Shutdown()
		b, err := e.Connect(t.Context(), "bubble", nil)
		ok(t, err)
		ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
		stop := startWriter(t, b)
		s, err := b.NewSubmitter(bus.SubmitterConfig{})
		ok(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var pages []bus.StoredPage
		done := make(chan error, 1)
		go func() {
			done <- b.Book(0).Follow(ctx, 0, func(p bus.StoredPage) error { pages = append(pages, p); return nil })
		}()
		for range 3 {
			_, err := s.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: "login"})
			ok(t, err)
			time.Sleep(time.Hour)
		}
		cancel()
		want(t, <-done, context.Canceled)
		s.Close()
		stop()
		if len(pages) != 3 {
			t.Fatalf("%d pages followed, want 3", len(pages))
		}
		if apart := pages[2].Stored.Sub(pages[0].Stored); apart < 2*time.Hour || apart > 2*time.Hour+time.Minute {
			t.Errorf("the pages are %s apart, want two hours", apart)
		}
	})
}

func TestDirectory(t *testing.T) {
	_, b := startBus(t, "")
	_, err := b.Directory(t.Context())
	want(t, err, bus.ErrNotCreated)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	kv, err := b.Directory(t.Context())
	ok(t, err)
	_, err = kv.Put(t.Context(), "jane", []byte("verifier"))
	ok(t, err)
	got, err := kv.Get(t.Context(), "jane")
	ok(t, err)
	if string(got.Value()) != "verifier" {
		t.Errorf("the directory holds %q", got.Value())
	}
	ok(t, kv.Purge(t.Context(), "jane"))
	_, err = kv.Get(t.Context(), "jane")
	want(t, err, jetstream.ErrKeyNotFound)
}
