package bus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"rollbook/bus"
)

// locked is a server started from the printed configuration, with a user for
// each role, and one that the test adds: it sees and may do everything in the
// account that owns the streams.
type locked struct {
	t     *testing.T
	url   string
	files map[bus.Role]string // seeds
	keys  map[bus.Role]string // public keys
	eye   *nats.Conn
	seen  *nats.Subscription
}

// podVerbs are the commands that pods may submit, here.
var podVerbs = []string{"login", "logout"}

func startLocked(t *testing.T) *locked {
	t.Helper()
	l := &locked{t: t, files: map[bus.Role]string{}, keys: map[bus.Role]string{}}
	cfg := bus.ServerConfig{
		Servers: []bus.Server{{Name: "one", Listen: "127.0.0.1", Port: -1}}, Partitions: 2, PodVerbs: podVerbs,
		StoreDir: t.TempDir(), MaxMemory: 128 << 20, MaxFile: 256 << 20,
	}
	cfg.Users = l.users()
	text, err := cfg.Text(0)
	ok(t, err)
	home := "ROLLBOOK {\n    jetstream: enabled\n    users: ["
	if !strings.Contains(text, home) {
		t.Fatal("the test can not add its user to the configuration:\n" + text)
	}
	text = strings.Replace(text, home, home+"{user: eye, password: eye}", 1)
	srv := serverFrom(t, text)
	l.url = srv.ClientURL()
	l.eye, err = nats.Connect(l.url, nats.UserInfo("eye", "eye"))
	ok(t, err)
	t.Cleanup(l.eye.Close)
	ok(t, l.as(bus.RoleOwner).Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	l.seen, err = l.eye.SubscribeSync(">")
	ok(t, err)
	ok(t, l.seen.SetPendingLimits(-1, -1))
	return l
}

// users makes a user of each role.
func (l *locked) users() (users []bus.User) {
	dir := l.t.TempDir()
	for _, role := range bus.Roles() {
		l.files[role], l.keys[role] = seedFile(l.t, filepath.Join(dir, string(role)+".nk"))
		users = append(users, bus.User{Role: role, Key: l.keys[role]})
	}
	return users
}

func seedFile(t *testing.T, path string) (file, public string) {
	t.Helper()
	key, err := nkeys.CreateUser()
	ok(t, err)
	seed, err := key.Seed()
	ok(t, err)
	ok(t, os.WriteFile(path, seed, 0o600))
	public, err = key.PublicKey()
	ok(t, err)
	return path, public
}

// serverFrom starts a server from a configuration file.
func serverFrom(t *testing.T, text string) *server.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nats.conf")
	ok(t, os.WriteFile(path, []byte(text), 0o600))
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatalf("the server does not read its configuration: %v\n%s", err, text)
	}
	opts.NoSigs, opts.NoLog = true, true
	srv, err := server.NewServer(opts)
	ok(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	return srv
}

// as connects with the credential of a role.
func (l *locked) as(role bus.Role) *bus.Bus {
	l.t.Helper()
	b, err := bus.Connect(l.t.Context(), bus.ConnectConfig{URL: l.url, Creds: l.files[role]})
	ok(l.t, err)
	l.t.Cleanup(func() { b.Close() })
	return b
}

// reaches reports whether what a role publishes to a subject arrives in the
// account of the streams. The payload is nothing that anybody takes.
func (l *locked) reaches(b *bus.Bus, subject string) bool {
	l.t.Helper()
	marker := "not for anybody " + nats.NewInbox()
	ok(l.t, b.Conn().Publish(subject, []byte(marker)))
	return l.arrived(b, marker)
}

// arrived: what the role has published is at the eye's connection once both have
// been answered by the server.
func (l *locked) arrived(b *bus.Bus, marker string) bool {
	l.t.Helper()
	ok(l.t, b.Conn().FlushWithContext(soon(l.t)))
	ok(l.t, l.eye.FlushWithContext(soon(l.t)))
	found := false
	for {
		if n, _, err := l.seen.Pending(); err != nil || n == 0 {
			return found
		}
		m, err := l.seen.NextMsg(time.Second)
		ok(l.t, err)
		found = found || string(m.Data) == marker
	}
}

// hears reports whether a role can listen to a subject of the streams' account.
// pattern is what it subscribes to.
func (l *locked) hears(b *bus.Bus, pattern, subject string) bool {
	l.t.Helper()
	sub, err := b.Conn().SubscribeSync(pattern)
	ok(l.t, err)
	defer func() { _ = sub.Unsubscribe() }()
	ok(l.t, b.Conn().FlushWithContext(soon(l.t)))
	ok(l.t, l.eye.Publish(subject, []byte("for some")))
	ok(l.t, l.eye.FlushWithContext(soon(l.t)))
	ok(l.t, b.Conn().FlushWithContext(soon(l.t)))
	n, _, _ := sub.Pending() // an error: the server refused the subscription
	return n > 0
}

// TestEachRoleAndEachSubject tries, as each role, every kind of subject there is,
// those that it needs and those that it must not have.
func TestEachRoleAndEachSubject(t *testing.T) {
	l := startLocked(t)
	const owner, engine, service, adapter, operator, auditor, notary, webhooks, consumer = bus.RoleOwner, bus.RoleEngine, bus.RoleService,
		bus.RoleAdapter, bus.RoleOperator, bus.RoleAuditor, bus.RoleNotary, bus.RoleWebhooks, bus.RoleConsumer
	roles := []bus.Role{owner, engine, service, adapter, operator, auditor, notary, webhooks, consumer, bus.RoleSystem}
	is := func(roles ...bus.Role) []bus.Role { return roles }
	readers := is(owner, engine, service, adapter, operator, auditor, notary, webhooks)

	publishes := map[string][]bus.Role{
		"rollbook.book.0":              is(owner, engine, service), // the owner's is for a restore, as is what follows
		"rollbook.command.0.login":     is(engine, service, adapter, operator),
		"rollbook.command.1.disable":   is(engine, service, operator),
		"rollbook.writer.0":            is(engine, service),
		"rollbook.snapshot.0.1.7":      is(engine, service),
		"rollbook.history.0.7":         is(engine, service),
		"rollbook.checkpoint.0":        is(owner, notary),
		"rollbook.checkpoint.0.leaves": is(owner, notary),
		"rollbook.event.0.u.ended":     is(engine, service),
		"rollbook.engine.e1":           is(engine, service),
		"rollbook.pod.p1":              is(engine, service, adapter),
		"rollbook.live.book.0":         nil,
		"rollbook.live.directory.x":    nil,
		"rollbook.anything":            nil,
		"$KV.DIRECTORY.user.x":         is(owner, operator),
		"$KV.WEBHOOKS.at.x":            is(owner, service, operator, webhooks),
		"$KV.KEYS.x":                   is(service, adapter),
		"$KV.OTHER.x":                  nil,
		"rollbook.feed.0":              is(engine, service),
		"rollbook.live.feed.0":         nil,

		"$JS.API.STREAM.CREATE.MORE":                is(owner),
		"$JS.API.STREAM.CREATE.BOOK_2":              is(owner),
		"$JS.API.STREAM.CREATE.COMMANDS":            is(owner, engine, service),
		"$JS.API.STREAM.UPDATE.COMMANDS":            is(owner),
		"$JS.API.STREAM.UPDATE.BOOK_0":              is(owner),
		"$JS.API.STREAM.DELETE.COMMANDS":            is(owner),
		"$JS.API.STREAM.DELETE.BOOK_0":              is(owner),
		"$JS.API.STREAM.MSG.DELETE.BOOK_0":          is(owner),
		"$JS.API.STREAM.PURGE.BOOK_0":               is(owner),
		"$JS.API.STREAM.PURGE.COMMANDS":             is(owner, engine, service),
		"$JS.API.STREAM.PURGE.SNAPSHOTS":            is(owner, engine, service),
		"$JS.API.STREAM.PURGE.KV_DIRECTORY":         is(owner, operator),
		"$JS.API.STREAM.MSG.DELETE.KV_DIRECTORY":    is(owner, operator),
		"$JS.API.STREAM.RESTORE.BOOK_0":             is(owner),
		"$JS.API.STREAM.SNAPSHOT.KV_DIRECTORY":      is(owner),
		"$JS.API.STREAM.LIST":                       is(owner, engine, service, operator),
		"$JS.API.STREAM.INFO.BOOK_0":                readers,
		"$JS.API.STREAM.INFO.COMMANDS":              is(owner, engine, service, adapter, operator),
		"$JS.API.STREAM.INFO.KV_DIRECTORY":          is(owner, engine, service, adapter, operator),
		"$JS.API.STREAM.MSG.GET.KV_DIRECTORY":       is(owner, service, adapter, operator),
		"$JS.API.STREAM.MSG.GET.COMMANDS":           is(owner),
		"$JS.API.DIRECT.GET.BOOK_1":                 readers,
		"$JS.API.DIRECT.GET.KV_DIRECTORY":           is(owner, service, adapter, operator),
		"$JS.API.DIRECT.GET.KV_DIRECTORY.$KV.D.u.x": is(owner, service, adapter, operator),
		"$JS.API.DIRECT.GET.KV_WEBHOOKS":            is(owner, service, operator, webhooks),
		"$JS.API.STREAM.MSG.GET.KV_WEBHOOKS":        is(owner, service, operator, webhooks),
		"$JS.API.STREAM.PURGE.KV_WEBHOOKS":          is(owner),
		"$JS.API.STREAM.MSG.GET.CHECKPOINTS":        is(owner, operator),
		"$JS.API.DIRECT.GET.KV_KEYS":                is(owner, service, adapter),
		"$JS.API.DIRECT.GET.SNAPSHOTS.x":            is(owner, engine, service, adapter, operator, auditor),
		"$JS.API.DIRECT.GET.HISTORY":                is(owner, engine, service, operator, auditor),
		"$JS.API.DIRECT.GET.CHECKPOINTS":            is(owner, service, adapter, operator, auditor, notary),
		"$JS.API.STREAM.PURGE.CHECKPOINTS":          is(owner),
		"$JS.API.DIRECT.GET.EVENTS":                 is(owner, engine, service, operator, auditor, consumer),
		"$JS.API.STREAM.MSG.GET.EVENTS":             is(owner, operator, auditor, consumer),

		"$JS.API.CONSUMER.CREATE.COMMANDS.c.rollbook.command.0.*": is(owner, engine, service),
		"$JS.API.CONSUMER.CREATE.BOOK_0.c":                        is(owner),
		"$JS.API.CONSUMER.CREATE.BOOK_0":                          is(owner),
		"$JS.API.CONSUMER.DURABLE.CREATE.BOOK_0.c":                is(owner),
		"$JS.API.CONSUMER.CREATE.KV_DIRECTORY.c":                  is(owner),
		"$JS.API.CONSUMER.CREATE.KV_KEYS.c.$KV.KEYS.>":            is(owner),
		"$JS.API.CONSUMER.CREATE.EVENTS.c":                        is(owner),
		"$JS.API.CONSUMER.DELETE.COMMANDS.c":                      is(owner, engine, service),
		"$JS.API.CONSUMER.MSG.NEXT.COMMANDS.c":                    is(owner, engine, service),
		"$JS.API.CONSUMER.MSG.NEXT.EVENTS.c":                      is(owner, consumer),
		"$JS.API.CONSUMER.INFO.EVENTS.c":                          is(owner, consumer),
		"$JS.API.CONSUMER.DELETE.EVENTS.c":                        is(owner),
		"$JS.ACK.COMMANDS.c.1.1.1.1.1":                            is(engine, service),
		"$JS.ACK.EVENTS.c.1.1.1.1.1":                              is(consumer),
		"$JS.API.ACCOUNT.PURGE.ROLLBOOK":                          is(owner),
	}
	for _, role := range roles {
		publishes["_INBOX."+l.keys[role]+".x"] = is(engine, service)
	}
	hears := map[string][]bus.Role{
		"rollbook.book.0":            nil,
		"rollbook.command.0.login":   nil,
		"$KV.DIRECTORY.user.x":       nil,
		"$KV.KEYS.x":                 nil,
		"rollbook.snapshot.0":        nil,
		"$JS.API.STREAM.INFO.BOOK_0": is(bus.RoleSystem), // the questions of all accounts are answered there
		"rollbook.checkpoint.0":      nil,
		"rollbook.live.book.1":       is(engine, service, adapter, operator, auditor, notary, webhooks),
		"rollbook.writer.1":          is(engine, service, adapter, operator, auditor, notary, webhooks),
		"rollbook.live.directory.x":  is(service, adapter, operator),
		"rollbook.engine.e1":         is(engine, service, adapter, operator),
		"rollbook.pod.p1":            is(engine, service, operator),
		"rollbook.event.0.u.ended":   nil, // it may come to nothing
		"rollbook.feed.0":            nil,
		"rollbook.live.feed.0":       is(operator, auditor, consumer),
	}
	inboxes := map[bus.Role]string{} // whose replies come to whom
	for _, role := range roles {
		inboxes[role] = "_INBOX." + l.keys[role] + ".x"
	}

	for _, role := range roles {
		b := l.as(role)
		for subject, may := range publishes {
			if got := l.reaches(b, subject); got != slices.Contains(may, role) {
				t.Errorf("%s publishes to %s: %v", role, subject, got)
			}
		}
		for subject, may := range hears {
			if got := l.hears(b, subject, subject); got != slices.Contains(may, role) {
				t.Errorf("%s hears %s: %v", role, subject, got)
			}
		}
		for other, subject := range inboxes {
			may := other == role && slices.Contains(is(owner, engine, service, adapter, operator), role)
			if got := l.hears(b, subject, subject); got != may {
				t.Errorf("%s hears the replies to %s: %v", role, other, got)
			}
			if l.hears(b, "_INBOX.>", subject) || l.hears(b, ">", subject) {
				t.Errorf("%s hears the replies to %s by a wildcard", role, other)
			}
		}
		// Only those who look after the servers may ask them for more than how they fare.
		want := map[bool]string{true: "", false: "not answered"}[role == bus.RoleSystem]
		answered := ""
		if _, err := b.Conn().Request("$SYS.REQ.SERVER.PING.CONNZ", nil, 200*time.Millisecond); err != nil {
			answered = "not answered"
		}
		if answered != want {
			t.Errorf("%s asks for the servers' connections: %q, want %q", role, answered, want)
		}
	}
}

// TestNobodyGetsABytePastTheFence has those who may ask for something have the
// answer sent into a book.
func TestNobodyGetsABytePastTheFence(t *testing.T) {
	l := startLocked(t)
	engine := l.as(bus.RoleEngine)
	end := appendPages(t, engine.Book(0), 0, 2)
	for _, role := range []bus.Role{bus.RoleAdapter, bus.RoleOperator, bus.RoleAuditor, bus.RoleNotary, bus.RoleWebhooks, bus.RoleConsumer} {
		b := l.as(role)
		for _, ask := range []struct{ subject, data string }{
			{"$JS.API.STREAM.INFO.BOOK_0", ""},
			{"$JS.API.STREAM.INFO.KV_DIRECTORY", ""},
			{"$JS.API.DIRECT.GET.BOOK_0", `{"seq":1}`},
			{"$JS.API.STREAM.LIST", ""},
			{"rollbook.command.0.login", "not a command"},
			{"$KV.DIRECTORY.user.x", "not a user"},
			{"$KV.KEYS.x", "not a key"},
			{"$JS.API.CONSUMER.CREATE.KV_DIRECTORY.evil", `{"stream_name":"KV_DIRECTORY","config":{"name":"evil","deliver_subject":"rollbook.book.0","ack_policy":"none"}}`},
			{"$JS.API.CONSUMER.CREATE.BOOK_1.evil", `{"stream_name":"BOOK_1","config":{"name":"evil","deliver_subject":"rollbook.book.0","ack_policy":"none"}}`},
		} {
			for _, reply := range []string{"rollbook.book.0", "_INBOX." + l.keys[bus.RoleEngine] + ".x"} {
				ok(t, b.Conn().PublishRequest(ask.subject, reply, []byte(ask.data)))
			}
		}
		ok(t, b.Conn().FlushWithContext(soon(t)))
	}
	time.Sleep(50 * time.Millisecond) // JetStream answers on its own time; what comes later would be missed, and is in the next check
	if got, err := engine.Book(0).End(soon(t)); err != nil || got != end {
		t.Fatalf("the book ends at %d, %v; %d pages were appended", got, err, end)
	}
	if seq := appendPages(t, engine.Book(0), end, 1); seq != end+1 {
		t.Errorf("the engine's next page is %d", seq)
	}
}

// TestTheFeedWithoutTheRightToMakeConsumers reads it as a consumer does: by a
// consumer that the owner made.
func TestTheFeedWithoutTheRightToMakeConsumers(t *testing.T) {
	l := startLocked(t)
	js := l.as(bus.RoleOwner).JetStream()
	_, err := js.CreateConsumer(t.Context(), "EVENTS", jetstream.ConsumerConfig{Durable: "risk", AckPolicy: jetstream.AckExplicitPolicy})
	ok(t, err)
	feed := l.as(bus.RoleEngine).JetStream()
	for n := range 3 {
		_, err := feed.Publish(t.Context(), "rollbook.event.0.user.started", fmt.Append(nil, n))
		ok(t, err)
	}
	consumer := l.as(bus.RoleConsumer)
	c, err := consumer.JetStream().Consumer(t.Context(), "EVENTS", "risk")
	ok(t, err)
	batch, err := c.Fetch(3, jetstream.FetchMaxWait(20*time.Second))
	ok(t, err)
	n := 0
	for m := range batch.Messages() {
		if string(m.Data()) != fmt.Sprint(n) {
			t.Errorf("event %d is %q", n, m.Data())
		}
		n++
		ok(t, m.DoubleAck(t.Context()))
	}
	if info, err := c.Info(t.Context()); n != 3 || err != nil || info.AckFloor.Stream != 3 {
		t.Errorf("%d events, %v, acknowledged up to %+v", n, err, info)
	}
	_, err = consumer.Open(t.Context())
	want(t, err, bus.ErrNotPermitted)
}

// TestProbeFindsTheRightsAndChangesNothing compares what each role's user finds out about itself with the table, and
// has a user who may everything do the same.
func TestProbeFindsTheRightsAndChangesNothing(t *testing.T) {
	l := startLocked(t)
	engine := l.as(bus.RoleEngine)
	appendPages(t, engine.Book(0), 0, 2)
	js := l.as(bus.RoleOwner).JetStream()
	// What must still be there afterwards. A purge takes what is not JSON for "everything".
	for _, subject := range []string{"rollbook.command.0.login", "rollbook.snapshot.0", "rollbook.event.0.u.ended", "$KV.DIRECTORY.user.u", "$KV.KEYS.k"} {
		_, err := l.eye.Request(subject, []byte("stays"), 20*time.Second)
		ok(t, err)
	}
	states := func() string {
		var text strings.Builder
		list := js.ListStreams(t.Context())
		for info := range list.Info() {
			fmt.Fprintf(&text, "%s %+v %d\n", info.Config.Name, info.State, info.State.Consumers)
		}
		ok(t, list.Err())
		return text.String()
	}
	before := states()
	for _, role := range bus.Roles() {
		if role == bus.RoleSystem {
			continue // may everything in an account where there is nothing
		}
		got, err := l.as(role).Probe(soon(t))
		ok(t, err)
		if want := bus.RightsOf(role, podVerbs); !slices.Equal(got, want) {
			t.Errorf("%s finds\n%+v\nnot\n%+v", role, got, want)
		}
	}
	eye, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: strings.Replace(l.url, "://", "://eye:eye@", 1)})
	ok(t, err)
	defer eye.Close()
	rights, err := eye.Probe(soon(t))
	ok(t, err)
	for _, r := range rights {
		if !r.Has && r.Name != "ask the servers how they fare" {
			t.Errorf("a user without bounds may not %s", r.Name)
		}
	}
	if after := states(); after != before {
		t.Errorf("the streams were\n%s\nand are\n%s", before, after)
	}
}
