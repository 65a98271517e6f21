package nebula

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
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

// people is a directory of one user, Jane, which compares instead of hashing.
type people struct {
	mu         sync.Mutex
	password   string
	generation uint64
}

func (p *people) Check(_ context.Context, _ session.Venue, name, given string) (session.Credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := session.Credential{User: p.Decoy(name), Generation: p.generation, Verdict: session.NoSuchUser}
	if name == jane {
		if c.User, c.Verdict = janeID, session.Mismatched; given == p.password {
			c.Verdict = session.Matched
		}
	}
	return c, nil
}

func (p *people) Find(name string) (session.UserID, bool) {
	return janeID, name == jane || name == "jane-key" || name == "auth0|jane@corp"
}

func (p *people) Name(session.UserID) (string, bool) { return jane, true }

func (p *people) Profile(user session.UserID) (session.Profile, bool) {
	return session.Profile{User: user, Names: []string{jane}, Scopes: []string{"oms-trading:read"}}, user == janeID
}

func (p *people) Decoy(name string) session.UserID {
	sum := sha256.Sum256([]byte(name))
	return session.UserID("u-" + hex.EncodeToString(sum[:16]))
}

func (p *people) Key(user session.UserID, venue session.Venue) ([]byte, uint64, bool) {
	generation, ok := p.Generation(user, venue)
	return janeKey, generation, ok
}

func (p *people) Generation(user session.UserID, venue session.Venue) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation, user == janeID && venue == session.Nebula
}

func (p *people) Current(context.Context) error { return nil }

// house is a writer and pods on a real embedded bus.
type house struct {
	t      *testing.T
	bus    *bus.Bus
	people *people
	board  *memoryBoard
	writer func() // stops it
	stops  []func()
}

// pod is a handler before a real gate, with projections of its own.
type pod struct {
	*httptest.Server
	h     *Handler
	gate  *adapters.Gate
	index *tokens.Index
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", discard)
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, people: &people{password: password, generation: 1}, board: &memoryBoard{}}
	h.stops = append(h.stops, func() { b.Close(); server.Shutdown() })
	t.Cleanup(func() {
		for i := len(h.stops) - 1; i >= 0; i-- {
			h.stops[i]()
		}
	})
	h.writer = h.runs(engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: session.DefaultPolicies(), Log: discard,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	h.command(&session.Register{User: janeID, Credential: 1})
	return h
}

// runs runs something until the end of the test, or until it is stopped.
func (h *house) runs(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	stop = func() { cancel(); <-done }
	h.stops = append(h.stops, stop)
	return stop
}

// command is what an operator does.
func (h *house) command(cmd session.Command) {
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
	if reply.Refusal != session.Accepted {
		h.t.Fatal(reply.Refusal)
	}
}

func (h *house) pod(cfg Config, timeout time.Duration) *pod {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.bus.Book(0)}, Models: []projections.Model{index, known},
		Staleness: 20 * time.Second, Log: discard})
	h.runs(f.Run)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	h.stops = append(h.stops, func() { submit.Close() })
	gate := adapters.NewGate(adapters.Config{Submit: submit, Directory: h.people, Sessions: index, Resources: known, Follower: f,
		Policies: session.DefaultPolicies(), Partitions: 1, DeploymentKey: [32]byte{1}, Timeout: timeout, Log: discard})
	h.runs(gate.Run)
	must(h.t, f.Barrier(context.Background()))
	p := &pod{h: New(cfg, gate, h.board, discard), gate: gate, index: index}
	useSpareKeys(p.h)
	h.runs(p.h.Run)
	p.Server = httptest.NewServer(p.h)
	h.stops = append(h.stops, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(h.t, p.h.Shutdown(ctx))
		p.Server.Close()
	})
	eventually(h.t, "a key is published", func() bool {
		set, err := p.h.keys.jwkSet(context.Background())
		return err == nil && strings.Contains(string(set), "RSA")
	})
	return p
}

func (p *pod) login(t *testing.T, email, password string) (status int, body string) {
	t.Helper()
	response, body := post(t, p.Server, fmt.Sprintf(`{"email":%q,"password":%q}`, email, password))
	return response.StatusCode, body
}

func (p *pod) token(t *testing.T) string {
	t.Helper()
	status, body := p.login(t, jane, password)
	if status != 200 || !strings.HasSuffix(body, `","expiresIn":86400}`) {
		t.Fatalf("%d %s", status, body)
	}
	return strings.Split(body, `"`)[3]
}

// TestTwoPods: what one pod signs the other verifies by the board, and knows the session of; what ends a session ends its
// token and its sockets on both.
func TestTwoPods(t *testing.T) {
	h := newHouse(t)
	one, two := h.pod(Config{}, 20*time.Second), h.pod(Config{}, 20*time.Second)
	first, second := one.token(t), one.token(t) // in the same second
	if first == second {
		t.Fatal("two sessions have one token")
	}
	conns := []*websocket.Conn{dial(t, one.Server, "/"), dial(t, two.Server, "/"), dial(t, two.Server, "/x")}
	for _, conn := range conns {
		asks(t, conn, createFrame(first, 1), created)
	}
	bystander := dial(t, two.Server, "/")
	asks(t, bystander, createFrame(second, 1), created)
	bearer := func(p *pod, token string) int {
		response, _ := request(t, p.Server, "GET", "/trader-api/broker/x", "", "Authorization", "Bearer "+token)
		return response.StatusCode
	}
	conns[0].Close()
	for _, p := range []*pod{one, two} {
		if got := bearer(p, first); got != 404 {
			t.Errorf("a good bearer gets %d", got)
		}
	}
	id := sessionOf(t, first)
	h.command(&session.Revoke{User: janeID, Session: id})
	for _, conn := range conns[1:] {
		if code := closed(t, conn); code != websocket.ClosePolicyViolation {
			t.Errorf("closed with %d", code)
		}
	}
	for _, p := range []*pod{one, two} {
		eventually(t, "the token dies", func() bool { return bearer(p, first) == 401 })
		if got := bearer(p, second); got != 404 {
			t.Errorf("the other session's bearer gets %d", got)
		}
		asks(t, dial(t, p.Server, "/"), createFrame(first, 1), notCreated)
	}
	h.command(&session.Disable{User: janeID})
	if code := closed(t, bystander); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if status, body := one.login(t, jane, password); status != 403 || body != `{"code":2,"message":"Wrong email or password"}` {
		t.Errorf("a disabled user: %d %s", status, body)
	}
}

// sessionOf is what a token says its session is.
func sessionOf(t *testing.T, token string) session.SessionID {
	t.Helper()
	var jti string
	_, after, _ := strings.Cut(legible(t, `"token":"`+token+`"`), `"jti":"`)
	jti, _, _ = strings.Cut(after, `"`)
	id, err := session.ParseSessionID(jti)
	must(t, err)
	return id
}

// TestWrongPasswords: unknown and known names, wrong and right passwords on a locked account look the same.
func TestWrongPasswords(t *testing.T) {
	h := newHouse(t)
	p := h.pod(Config{}, 20*time.Second)
	if !strings.Contains(legible(t, `"token":"`+p.token(t)+`"`), `"scope":"oms-trading:read"`) {
		t.Error("the profile's scopes are not in the token")
	}
	for range 6 { // the fifth locks
		for _, email := range []string{jane, "nobody@example.com"} {
			if status, body := p.login(t, email, "wrong"); status != 403 || body != `{"code":2,"message":"Wrong email or password"}` {
				t.Errorf("%s: %d %s", email, status, body)
			}
		}
	}
	if status, body := p.login(t, jane, password); status != 403 || body != `{"code":2,"message":"Wrong email or password"}` {
		t.Errorf("locked: %d %s", status, body)
	}
	conn := dial(t, p.Server, "/")
	asks(t, conn, byPassword(1), strings.Replace(notCreated, nebulaCreate, exchangeCreate, 1))
	h.command(&session.Unlock{User: janeID})
	asks(t, conn, byPassword(1), byPasswordDone(1))
}

// TestBoundInTheBook: sessions by password, key and external token are in the book as long as their sockets are open; a
// signature is good once, on whatever pod.
func TestBoundInTheBook(t *testing.T) {
	h := newHouse(t)
	issuer := newProvider(t)
	cfg := Config{Issuers: []Issuer{{URL: issuer.URL + "/", Audience: "exberry-trading", Alias: "corp"}}}
	one, two := h.pod(cfg, 20*time.Second), h.pod(cfg, 20*time.Second)
	signed := byKey(time.Now().UnixMilli(), hex.EncodeToString(janeKey))
	real := &desk{clock: newClock()}
	real.clock.nanos.Store(time.Now().UnixNano())
	external := createFrame(issuer.issue(real, nil, nil), 1)
	for frame, done := range map[string]string{byPassword(1): byPasswordDone(1), signed: byPasswordDone(1), external: created} {
		conn := dial(t, one.Server, "/")
		asks(t, conn, frame, done)
		if len(one.bound()) != 1 {
			t.Fatalf("%.80s: %d sessions", frame, len(one.bound()))
		}
		ended, stop := one.gate.Watch(one.bound()[0])
		conn.Close()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%.80s: the session outlives its socket", frame)
		}
		stop()
	}
	failed := strings.Replace(notCreated, nebulaCreate, exchangeCreate, 1)
	asks(t, dial(t, two.Server, "/"), signed, failed)
	// A new password makes judgements by the old generation stale: this pod's directory has the new one already.
	h.people.mu.Lock()
	h.people.generation = 2
	h.people.mu.Unlock()
	h.command(&session.ChangeCredential{User: janeID, Credential: 2})
	asks(t, dial(t, two.Server, "/"), external, created)
}

// bound lists Jane's bound sessions as the pod sees the book.
func (p *pod) bound() (ids []session.SessionID) {
	for _, s := range p.index.ByUser(janeID) {
		if s.Bound && s.Venue == session.Nebula {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// TestBusAway: without a writer nothing is called wrong; tokens that are known stay good.
func TestBusAway(t *testing.T) {
	h := newHouse(t)
	p := h.pod(Config{}, 300*time.Millisecond)
	token := p.token(t)
	conn := dial(t, p.Server, "/")
	h.writer()
	if status, body := p.login(t, jane, password); status != 503 || body != `{"code":1,"message":"System is unavailable"}` {
		t.Errorf("%d %s", status, body)
	}
	asks(t, conn, byPassword(1), strings.Replace(cannotBeCreated, nebulaCreate, exchangeCreate, 1))
	asks(t, conn, createFrame(token, 1), created)
}
