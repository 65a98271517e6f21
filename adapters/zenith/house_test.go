package zenith

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

// people is a directory that compares instead of hashing. It keeps the contract: the same work for a name nobody has.
type people struct {
	mu         sync.Mutex
	passwords  map[string]string // by name; the user id is "u-" and the name, less what follows an @
	generation uint64
	lag        uint64 // by how much the generation is behind at the next question
}

func (p *people) id(name string) session.UserID {
	name, _, _ = strings.Cut(strings.ToLower(name), "@")
	return session.UserID("u-" + name)
}

func (p *people) Check(_ context.Context, _ session.Venue, name, password string) (session.Credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := session.Credential{User: p.id(name), Generation: p.generation, Verdict: session.NoSuchUser}
	if want, known := p.passwords[name]; known {
		if c.Verdict = session.Mismatched; want == password {
			c.Verdict = session.Matched
		}
	}
	return c, nil
}

func (p *people) Find(name string) (session.UserID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.passwords[name]
	return p.id(name), known
}

func (p *people) Name(user session.UserID) (string, bool) {
	return strings.TrimPrefix(string(user), "u-"), true
}

func (p *people) Profile(user session.UserID) (session.Profile, bool) {
	name := strings.TrimPrefix(string(user), "u-")
	return session.Profile{User: user, Names: []string{name, name + "@corp"}}, true
}

func (p *people) Current(context.Context) error { return nil }

func (p *people) Generation(session.UserID, session.Venue) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.generation - p.lag
	p.lag = 0
	return now, true
}

func (p *people) Decoy(name string) session.UserID { return "u-decoy-" + p.id(name) }

func (p *people) Key(session.UserID, session.Venue) ([]byte, uint64, bool) { return nil, 0, false }

// house is a writer and any number of pods on a real embedded bus.
type house struct {
	t      *testing.T
	bus    *bus.Bus
	people *people
	writer func() // ends it
	stop   []func()
}

func newHouse(t *testing.T, policies session.Policies) *house {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", discard)
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, people: &people{passwords: map[string]string{"jane": "right", "jane@corp": ""}, generation: 1}}
	h.stop = append(h.stop, func() { b.Close(); server.Shutdown() })
	t.Cleanup(func() {
		for i := len(h.stop) - 1; i >= 0; i-- {
			h.stop[i]()
		}
	})
	h.writer = h.runs(engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: policies, Log: discard,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	h.command(&session.Register{User: "u-jane", Credential: 1})
	return h
}

// runs starts something that is stopped with the house, or before.
func (h *house) runs(run func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	end := sync.OnceFunc(func() { cancel(); <-done })
	h.stop = append(h.stop, end)
	return end
}

// pod is a handler before a gate with projections of its own.
func (h *house) pod(policies session.Policies, change func(*Config, Users)) *httptest.Server {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.bus.Book(0)}, Models: []projections.Model{index, known},
		Staleness: 20 * time.Second, Log: discard})
	h.runs(f.Run)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	h.stop = append(h.stop, func() { submit.Close() })
	g := adapters.NewGate(adapters.Config{Submit: submit, Directory: h.people, Sessions: index, Resources: known, Follower: f, Policies: policies,
		Partitions: 1, DeploymentKey: [32]byte{1}, Timeout: 2 * time.Second, Log: discard})
	h.runs(g.Run)
	must(h.t, f.Barrier(context.Background()))
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg, g)
	}
	handler := New(cfg, g, discard)
	server := httptest.NewServer(handler)
	h.stop = append(h.stop, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := handler.Shutdown(ctx); err != nil {
			h.t.Error(err)
		}
		server.Close()
	})
	return server
}

func (h *house) command(cmd session.Command) session.Reply {
	h.t.Helper()
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	defer submit.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	must(h.t, err)
	reply, err := session.DecodeReply(answer.Body)
	must(h.t, err)
	return reply
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func code(provider, grant string) string {
	return `{"Controller":"Auth","Topic":"AuthCode","TransactionID":4,"Data":{"Provider":"` + provider + `","ClientID":"test","AuthGrant":"` + grant + `"}}`
}

func password(name, password string) string {
	return code("Rollbook", base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
}

// TestAgainstTheBook walks the main paths through a real gate, bus and writer, over two pods.
func TestAgainstTheBook(t *testing.T) {
	policies := session.DefaultPolicies()
	h := newHouse(t, policies)
	one, two := h.pod(policies, nil), h.pod(policies, nil)
	conn := dial(t, one, nil)
	wrong, unknown := ask(t, conn, password("jane", "wrong")), ask(t, conn, password("nobody", "wrong"))
	if wrong.Result != "Reject" || wrong.raw != unknown.raw {
		t.Fatalf("%s\n%s", wrong.raw, unknown.raw)
	}
	in := ask(t, conn, password("jane", "right"))
	if in.Result != "Success" || in.UserID != "u-jane" || in.DisplayName != "jane" || in.Topic != "Identify" || len(*in.Scope) != 4 {
		t.Fatal(in.raw)
	}
	until, err := time.Parse(time.RFC3339, in.ExpiryDate)
	must(t, err)
	if left := time.Until(until); left < 55*time.Minute || left > 65*time.Minute {
		t.Errorf("it expires in %s", left)
	}
	// The other pod takes the token at once, in the header and over the socket, and gives the same one back.
	other := dial(t, two, http.Header{"Authorization": {"Bearer " + in.AccessToken}})
	if r := ask(t, other, whoFrame); r.Result != "Success" || r.AccessToken != in.AccessToken {
		t.Fatal(r.raw)
	}
	for range 2 {
		if r := ask(t, other, tokenFrame("Rollbook", in.AccessToken)); r.Result != "Success" || r.AccessToken != in.AccessToken || r.UserID != "u-jane" {
			t.Fatal(r.raw)
		}
	}
	// Ended elsewhere: both sockets are told, and the token is dead.
	if r := h.command(&session.Revoke{User: "u-jane"}); r.Count != 1 {
		t.Fatalf("%d sessions were revoked", r.Count)
	}
	for _, c := range []*websocket.Conn{conn, other} {
		if got := closed(t, c); got != 4000 {
			t.Errorf("closed with %d", got)
		}
	}
	conn = dial(t, one, nil)
	if r := ask(t, conn, tokenFrame("Bearer", in.AccessToken)); r.Result != "Reject" || r.AccessToken != "" {
		t.Errorf("the token of a session that was revoked: %s", r.raw)
	}
	if _, response, err := handshake(two, http.Header{"Authorization": {"Bearer " + in.AccessToken}}, "ZenithJson"); err == nil || response.StatusCode != 403 {
		t.Errorf("in the header: %v", err)
	}
	// The bus away: nobody is refused.
	h.writer()
	if r := ask(t, conn, password("jane", "right")); r.code() != "Authority.Unavailable" {
		t.Errorf("without a writer: %s", r.raw)
	}
}

// TestLimitOfSessions: the oldest makes room, and its socket is closed with the venue's code for that.
func TestLimitOfSessions(t *testing.T) {
	policies := session.DefaultPolicies()
	policies.Venues[session.Zenith] = func(p session.Policy) session.Policy {
		p.MaxSessions, p.EvictOldest = 1, true
		return p
	}(policies.Venues[session.Zenith])
	h := newHouse(t, policies)
	one, two := h.pod(policies, nil), h.pod(policies, nil)
	first, second := dial(t, one, nil), dial(t, two, nil)
	for range 2 { // over the same socket: it is not closed by its own login
		if r := ask(t, first, password("jane", "right")); r.Result != "Success" {
			t.Fatal(r.raw)
		}
	}
	if r := ask(t, first, whoFrame); r.Result != "Success" {
		t.Fatal(r.raw)
	}
	in := ask(t, second, password("jane", "right"))
	if got := closed(t, first); got != 4000 {
		t.Errorf("closed with %d", got)
	}
	if r := ask(t, second, whoFrame); r.Result != "Success" || r.AccessToken != in.AccessToken {
		t.Error(r.raw)
	}
}

// TestLeavingAndComingBack: a session that comes back to another pod is not ended by the pod that it left.
func TestLeavingAndComingBack(t *testing.T) {
	policies := session.DefaultPolicies()
	h := newHouse(t, policies)
	linger := func(c *Config, _ Users) { c.Linger = 300 * time.Millisecond }
	one, two := h.pod(policies, linger), h.pod(policies, linger)
	conn := dial(t, one, nil)
	in := ask(t, conn, password("jane", "right"))
	conn.Close()
	back := dial(t, two, http.Header{"Authorization": {"Bearer " + in.AccessToken}})
	time.Sleep(time.Second)
	if r := ask(t, back, tokenFrame("Bearer", in.AccessToken)); r.Result != "Success" {
		t.Fatal(r.raw)
	}
	back.Close()
	eventually(t, "the session ends with its last socket", func() bool {
		time.Sleep(time.Second) // longer than it lingers: to ask is to come back
		conn, response, err := handshake(one, http.Header{"Authorization": {"Bearer " + in.AccessToken}}, "ZenithJson")
		if err == nil {
			conn.Close()
			return false
		}
		return response.StatusCode == http.StatusForbidden
	})
}

// TestIssuerAgainstTheBook: a user whom an issuer vouches for, through the whole house.
func TestIssuerAgainstTheBook(t *testing.T) {
	policies := session.DefaultPolicies()
	is := newTestIssuer(t)
	h := newHouse(t, policies)
	server := h.pod(policies, func(c *Config, u Users) {
		o := NewOIDC(is.config(), u)
		c.Providers = map[string]Provider{"Corp": o, "Bearer": o}
	})
	conn := dial(t, server, nil)
	token := is.sign("jane", nil)
	in := ask(t, conn, code("Corp", token))
	if in.Result != "Success" || in.UserID != "u-jane" || in.AccessToken == "" || strings.Contains(in.raw, token) {
		t.Fatal(in.raw)
	}
	if r := ask(t, conn, tokenFrame("Corp", in.AccessToken)); r.Result != "Success" {
		t.Errorf("restored under the issuing provider: %s", r.raw)
	}
	if r := ask(t, conn, code("Corp", token)); r.Result != "Reject" {
		t.Errorf("the same grant again: %s", r.raw)
	}
	for _, bad := range []string{is.sign("nobody", nil), "garbage", token[:len(token)-6]} {
		if r := ask(t, conn, code("Corp", bad)); r.Result != "Reject" || r.AccessToken != "" {
			t.Error(r.raw)
		}
	}
	// The session ends with the ID token, also after it was renewed; one that ends after the book's time does no harm.
	ends := time.Now().Add(20 * time.Minute).Truncate(time.Second)
	brief := ask(t, conn, code("Corp", is.sign("jane", func(c map[string]any) { c["exp"] = ends.Unix() })))
	for range 2 {
		if until, err := time.Parse(time.RFC3339, brief.ExpiryDate); brief.Result != "Success" || err != nil || !until.Equal(ends) {
			t.Errorf("the ID token ends %s: %s", ends, brief.raw)
		}
		brief = ask(t, conn, tokenFrame("Corp", brief.AccessToken))
	}
	if r := ask(t, conn, code("Corp", is.sign("jane", func(c map[string]any) { c["exp"] = int64(253402300799) }))); r.Result != "Success" {
		t.Errorf("a token until the year 9999: %s", r.raw)
	}
	// The way of the recorded clients: the issuer's token in AuthToken and in the header.
	if r := ask(t, conn, tokenFrame("Bearer", is.sign("jane", nil))); r.Result != "Success" || r.Topic != "AuthToken" {
		t.Error(r.raw)
	}
	direct := dial(t, server, http.Header{"Authorization": {"Bearer " + is.sign("jane", nil)}})
	if r := ask(t, direct, whoFrame); r.Result != "Success" {
		t.Error(r.raw)
	}
	if _, response, err := handshake(server, http.Header{"Authorization": {"Bearer " + token}}, "ZenithJson"); err == nil || response.StatusCode != 403 {
		t.Errorf("a used token in the header: %v", err)
	}
	// A directory that is behind is asked again.
	h.command(&session.ChangeCredential{User: "u-jane", Credential: 2})
	h.people.mu.Lock()
	h.people.generation, h.people.lag = 2, 1
	h.people.mu.Unlock()
	if r := ask(t, conn, code("Corp", is.sign("jane", nil))); r.Result != "Success" {
		t.Errorf("after the credential has changed: %s", r.raw)
	}
	is.mu.Lock()
	is.away = 503
	is.mu.Unlock()
	if r := ask(t, conn, code("Corp", "a-code")); r.code() != "Authority.Unavailable" {
		t.Errorf("while the issuer is away: %s", r.raw)
	}
}
