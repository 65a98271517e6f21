package advauth

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

// holders is a directory of API keys, by the contract of [adapters.Directory].
type holders struct {
	mu         sync.Mutex
	keys       map[session.UserID]block
	names      map[session.UserID]string
	generation uint64
	away       error // when set, the directory is not up to date
}

func (p *holders) Check(context.Context, session.Venue, string, string) (session.Credential, error) {
	panic("no password is checked at this venue")
}

func (p *holders) Find(name string) (session.UserID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.keys[userOf(name)]
	return userOf(name), known
}

func (p *holders) Name(user session.UserID) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, known := p.names[user]
	return name, known
}

func (p *holders) Current(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away
}

func (p *holders) Generation(user session.UserID, _ session.Venue) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[user]
	return p.generation, ok
}

func (p *holders) Profile(user session.UserID) (session.Profile, bool) {
	return session.Profile{User: user}, true
}

func (p *holders) Decoy(name string) session.UserID {
	return session.UserID("d-" + hex.EncodeToString([]byte(strings.ToLower(name))))
}

func (p *holders) Key(user session.UserID, _ session.Venue) ([]byte, uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key, ok := p.keys[user]
	return key[:], p.generation, ok
}

func (p *holders) change(login string, key block, generation uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[userOf(login)], p.names[userOf(login)], p.generation = key, login, generation
}

func userOf(name string) session.UserID {
	return session.UserID("u-" + strings.ReplaceAll(strings.ToLower(name), ".", "-"))
}

// house is a writer and any number of pods on a real embedded bus.
type house struct {
	t        *testing.T
	bus      *bus.Bus
	policies session.Policies
	holders  *holders
	indexes  []*tokens.Index // of the pods
	stops    []func()
	writer   func() // stops it
}

func newHouse(t *testing.T, change func(*session.Policies)) *house {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, policies: session.DefaultPolicies(), holders: &holders{
		keys: map[session.UserID]block{}, names: map[session.UserID]string{}, generation: 1}}
	if change != nil {
		change(&h.policies)
	}
	h.stops = append(h.stops, func() { b.Close(); server.Shutdown() })
	t.Cleanup(func() {
		for i := len(h.stops) - 1; i >= 0; i-- {
			h.stops[i]()
		}
	})
	h.writer = h.runs(engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: h.policies, Log: slog.New(slog.DiscardHandler),
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	return h
}

// runs starts a part, which is stopped with the house or by what is returned.
func (h *house) runs(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	stop = func() { cancel(); <-done }
	h.stops = append(h.stops, stop)
	return stop
}

// pod is a server before a gate with projections of its own.
func (h *house) pod(cfg Config) *httptest.Server {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	h.indexes = append(h.indexes, index)
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.bus.Book(0)}, Models: []projections.Model{index, known},
		Staleness: 20 * time.Second, Log: slog.New(slog.DiscardHandler)})
	h.runs(f.Run)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	h.stops = append(h.stops, func() { submit.Close() })
	g := adapters.NewGate(adapters.Config{Submit: submit, Directory: h.holders, Sessions: index, Resources: known, Follower: f,
		Policies: h.policies, Partitions: 1, DeploymentKey: [32]byte{1}, Timeout: 20 * time.Second, Log: slog.New(slog.DiscardHandler)})
	h.runs(g.Run)
	must(h.t, f.Barrier(context.Background()))
	server := httptest.NewServer(New(cfg, g, slog.New(slog.DiscardHandler)))
	h.stops = append(h.stops, server.Close)
	return server
}

// user makes a login with a key, and its honest client.
func (h *house) user(login string) client {
	h.t.Helper()
	c := client{login: login, key: ownMAC(block{}, []byte(login)), a: &vectorRa}
	h.command(&session.Register{User: userOf(login), Credential: 1})
	h.holders.change(login, c.key, 1)
	return c
}

func (h *house) command(cmd session.Command) {
	h.t.Helper()
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	defer submit.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	answer, err := submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	must(h.t, err)
	if reply, err := session.DecodeReply(answer.Body); err != nil || reply.Refusal != session.Accepted {
		h.t.Fatalf("%s: %s, %v", cmd.Verb(), reply.Refusal, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func whoAmI(t *testing.T, server *httptest.Server, token string) said {
	t.Helper()
	return ask(t, server, "GET", "/login/whoami?Token="+token, "")
}

// TestAcrossPods: the challenge of one pod is answered at another and the token used at a third, whose clocks differ;
// the answer is good once, wherever it is sent again.
func TestAcrossPods(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	seen := map[block]bool{}
	var pods []*httptest.Server
	for _, ahead := range []time.Duration{0, 4 * time.Second, -4 * time.Second} {
		cfg := sample()
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		pods = append(pods, h.pod(cfg))
	}
	for n := range 6 {
		asked, answered, used := pods[n%3], pods[(n+1+n/3)%3], pods[(n+2)%3]
		challenge := john.challenge(t, asked)
		for seen[challenge] { // of two pods' challenges one in perSlot is the same, and good once in all
			challenge = john.challenge(t, asked)
		}
		seen[challenge] = true
		body := john.answer(challenge)
		s := ask(t, answered, "POST", "/login/advAuth", body)
		if s.status != 200 || s.ExpireInSec != 20 {
			t.Fatalf("round %d: %d %s", n, s.status, s.raw)
		}
		proof := HMAC.proof(john.key, challenge, answer{login: "john", a: vectorRa, hasA: true}, s.Token, 20).String()
		if s.header.Get(proofHeader) != proof {
			t.Errorf("round %d: proof %s, want %s", n, s.header.Get(proofHeader), proof)
		}
		if w := whoAmI(t, used, s.Token); w.status != 200 || w.UserLogin != "john" {
			t.Errorf("round %d: %d %s", n, w.status, w.raw)
		}
		for _, again := range pods[:1+n%2] {
			if s := ask(t, again, "POST", "/login/advAuth", body); s.status != 401 || s.Code != 1003 {
				t.Errorf("round %d, sent again: %d %s", n, s.status, s.raw)
			}
		}
	}
}

// TestOneAnswerManyPods: of one answer that is sent many times at once, one is taken.
func TestOneAnswerManyPods(t *testing.T) {
	h := newHouse(t, nil)
	pods := []*httptest.Server{h.pod(sample()), h.pod(sample())}
	for n := range 8 {
		c := h.user(fmt.Sprintf("user%d", n))
		body := c.answer(c.challenge(t, pods[n%2]))
		var taken, refused atomic.Int32
		var sending sync.WaitGroup
		for i := range 16 {
			sending.Go(func() {
				response, err := http.Post(pods[i%2].URL+"/login/advAuth", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				switch response.StatusCode {
				case 200:
					taken.Add(1)
				case 401:
					refused.Add(1)
				}
			})
		}
		sending.Wait()
		if taken.Load() != 1 || refused.Load() != 15 {
			t.Errorf("round %d: %d taken, %d refused", n, taken.Load(), refused.Load())
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestManyLogins: a login whose clients ask all at once gets a challenge for each.
func TestManyLogins(t *testing.T) {
	h := newHouse(t, nil)
	john, server := h.user("john"), h.pod(sample())
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() {
			if s := john.in(t, server); s.status != 200 {
				t.Errorf("%d %s", s.status, s.raw)
			}
		})
	}
	working.Wait()
}

// TestWrongAnswersLock: wrong answers and nobody's logins are counted, get one reply, and lock alike; the right answer is
// then refused like a wrong one, but for the time to wait.
func TestWrongAnswersLock(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	server := h.pod(sample())
	key := base64.StdEncoding.EncodeToString(john.key[:])
	for _, c := range []client{{login: "john", key: block{9}}, {login: "nobody", key: john.key}} {
		var replies []string
		for n := range 6 {
			path, body := "/login", fmt.Sprintf(`{"UserLogin":%q,"ApiKey":"AAAAAAAAAAAAAAAAAAAAAA=="}`, c.login)
			if n%2 == 0 {
				path, body = "/login/advAuth", c.answer(c.challenge(t, server))
			}
			s := ask(t, server, "POST", path, body)
			if s.status != 401 || s.Code != 1003 || (s.header.Get("Retry-After") != "") != (n == 5) { // the fifth locks
				t.Errorf("%s, attempt %d: %d %s, retry after %q", c.login, n, s.status, s.raw, s.header.Get("Retry-After"))
			}
			replies = append(replies, s.raw)
		}
		if replies[0] != replies[5] {
			t.Errorf("%s: %q", c.login, replies)
		}
	}
	for _, s := range []said{john.in(t, server), ask(t, server, "POST", "/login", fmt.Sprintf(`{"UserLogin":"john","ApiKey":%q}`, key))} {
		if s.status != 401 || s.Code != 1003 || s.header.Get("Retry-After") == "" || s.header.Get(proofHeader) != "" {
			t.Errorf("a right one after the lock: %d %s", s.status, s.raw)
		}
	}
	h.command(&session.Unlock{User: "u-john"})
	if s := ask(t, server, "POST", "/login", fmt.Sprintf(`{"UserLogin":"JOHN","ApiKey":%q}`, key)); s.status != 200 {
		t.Errorf("after the unlock: %d %s", s.status, s.raw)
	}
	h.command(&session.Disable{User: "u-john"})
	if s := john.in(t, server); s.status != 401 || s.Code != 1003 {
		t.Errorf("disabled: %d %s", s.status, s.raw)
	}
}

// TestExpiryAndRevocation: a token is good for its time on every pod; after its end the pods that met it say expired,
// others that they do not know it; a revoked one is not known.
func TestExpiryAndRevocation(t *testing.T) {
	h := newHouse(t, func(p *session.Policies) {
		policy := p.Venues[session.AdvAuth]
		policy.Absolute = 3 * time.Second
		p.Venues[session.AdvAuth] = policy
	})
	john := h.user("john")
	granting, met, never := h.pod(sample()), h.pod(sample()), h.pod(sample())
	s := john.in(t, granting)
	if s.ExpireInSec != 3 {
		t.Errorf("the policy's lifetime is not told: %s", s.raw)
	}
	for range 3 {
		if w := whoAmI(t, met, s.Token); w.status != 200 {
			t.Fatalf("%d %s", w.status, w.raw)
		}
	}
	revoked := john.in(t, granting).Token
	h.command(&session.Revoke{User: "u-john"})
	// The operator's word reaches the pod as a page, a moment after its acknowledgement; the token would live for 3 s.
	w := whoAmI(t, granting, revoked)
	for end := time.Now().Add(2 * time.Second); w.status == 200 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w = whoAmI(t, granting, revoked)
	}
	if w.Code != 1000 {
		t.Errorf("revoked: %s", w.raw)
	}
	second := john.in(t, granting).Token
	whoAmI(t, met, second)
	for _, index := range h.indexes {
		for end := time.Now().Add(30 * time.Second); index.Len() > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the session has not ended")
			}
		}
	}
	if w := whoAmI(t, never, second); w.status != 401 || w.Code != 1000 {
		t.Errorf("expired, never met: %d %s", w.status, w.raw)
	}
	for _, server := range []*httptest.Server{granting, met} {
		if w := whoAmI(t, server, second); w.status != 401 || w.Code != 1001 {
			t.Errorf("expired: %d %s", w.status, w.raw)
		}
	}
}

// TestNewKey: when the book knows a newer key than the pod, an answer is judged by the newer one once it is here, and is
// good once all the same.
func TestNewKey(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	server := h.pod(sample())
	h.command(&session.ChangeCredential{User: "u-john", Credential: 2})
	john.key = block{42}
	body := john.answer(john.challenge(t, server))
	go func() { // the directory catches up a little later
		time.Sleep(50 * time.Millisecond)
		h.holders.change("john", john.key, 2)
	}()
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 200 {
		t.Fatalf("%d %s", s.status, s.raw)
	}
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 401 || s.Code != 1003 {
		t.Errorf("the same answer again: %d %s", s.status, s.raw)
	}
}

// TestDirectoryAway: while the directory may lack the key, a right answer is not called wrong, nor counted.
func TestDirectoryAway(t *testing.T) {
	h := newHouse(t, nil)
	server := h.pod(sample())
	h.command(&session.Register{User: "u-john", Credential: 1})
	john := client{login: "john", key: block{1}}
	h.holders.away = errors.New("the directory has not been read yet")
	for range 6 {
		if s := john.in(t, server); s.status != 500 || s.Code != 0 {
			t.Errorf("%d %s", s.status, s.raw)
		}
	}
	h.holders.mu.Lock()
	h.holders.away = nil
	h.holders.mu.Unlock()
	h.holders.change("john", john.key, 1)
	if s := john.in(t, server); s.status != 200 {
		t.Errorf("with the directory: %d %s", s.status, s.raw)
	}
}

// TestWriterAway: without a writer a login is neither accepted nor refused, and good tokens stay good.
func TestWriterAway(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	cfg := sample()
	cfg.CallTimeout = 500 * time.Millisecond
	server := h.pod(cfg)
	s := john.in(t, h.pod(sample()))
	h.writer()
	if w := whoAmI(t, server, s.Token); w.status != 200 {
		t.Errorf("a good token: %d %s %s", w.status, w.raw, s.raw)
	}
	for _, body := range []string{john.answer(john.challenge(t, server)), `{"UserLogin":"nobody"}`} {
		if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 500 || s.Code != 0 || s.header.Get("Retry-After") != "1" {
			t.Errorf("%d %s", s.status, s.raw)
		}
	}
}
