package traderevolution

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var discard = slog.New(slog.DiscardHandler)

// people is a directory that compares instead of hashing. It keeps the contract: the same work for a name nobody has.
type people map[string]person

type person struct {
	password string
	scopes   []string
}

// demo is the name in the protocol's samples; admin may change the settings.
func everybody() people {
	return people{"demo": {password: "pw"}, "admin": {"secret", []string{"reports", OperatorScope}}, "ann": {password: "pw"}}
}

func userOf(name string) session.UserID { return session.UserID("u-" + name) }

func (p people) Current(context.Context) error { return nil }

func (p people) Generation(user session.UserID, _ session.Venue) (uint64, bool) {
	_, known := p[strings.TrimPrefix(string(user), "u-")]
	return 1, known
}

func (p people) Check(_ context.Context, _ session.Venue, name, password string) (session.Credential, error) {
	c := session.Credential{User: p.Decoy(name), Generation: 1, Verdict: session.NoSuchUser}
	if known, ok := p[name]; ok {
		if c.Verdict = session.Mismatched; known.password == password {
			c.Verdict = session.Matched
		}
	}
	return c, nil
}

func (p people) Find(name string) (session.UserID, bool) {
	_, known := p[name]
	return userOf(name), known
}

func (p people) Name(user session.UserID) (string, bool) {
	name := strings.TrimPrefix(string(user), "u-")
	_, known := p[name]
	return name, known
}

func (p people) Profile(user session.UserID) (session.Profile, bool) {
	name, known := p.Name(user)
	return session.Profile{User: user, Names: []string{name}, Scopes: p[name].scopes}, known
}

func (p people) Decoy(name string) session.UserID {
	if _, known := p[name]; known {
		return userOf(name)
	}
	hash := session.HashToken(name)
	return session.UserID("decoy-" + session.SessionID(hash[:16]).String())
}

func (p people) Key(session.UserID, session.Venue) ([]byte, uint64, bool) { return nil, 0, false }

// house is a writer and any number of pods on a real embedded bus, with one clock that the test moves.
type house struct {
	t        *testing.T
	bus      *bus.Bus
	people   people
	policies session.Policies
	ahead    atomic.Int64 // of the real time, in nanoseconds
	writer   func()       // stops it
	stop     []func()
}

func newHouse(t *testing.T, change func(*session.Policy)) *house {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", discard)
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
	h := &house{t: t, bus: b, people: everybody(), policies: session.DefaultPolicies()}
	if change != nil {
		policy := h.policies.Venues[venue]
		change(&policy)
		h.policies.Venues[venue] = policy
	}
	h.stop = append(h.stop, func() { b.Close(); server.Shutdown() })
	t.Cleanup(func() {
		for i := len(h.stop) - 1; i >= 0; i-- {
			h.stop[i]()
		}
	})
	h.writer = h.runs(engine.New(engine.Config{Book: b.Book(0), Alone: true, Policies: h.policies, Now: h.now, Log: discard,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return b.Intake(ctx, 0, epoch, incarnation, after)
		}}).Run)
	for name := range h.people {
		h.command(&session.Register{User: userOf(name), Credential: 1})
	}
	return h
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

// later moves the clock of everything in the house.
func (h *house) later(d time.Duration) { h.ahead.Add(int64(d)) }

// runs starts a part, and gives what stops it; the house stops it at the end anyhow.
func (h *house) runs(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	stop = func() { cancel(); <-done }
	h.stop = append(h.stop, stop)
	return stop
}

// gate is a gate with projections of its own; change may alter its configuration.
func (h *house) gate(change func(*adapters.Config)) *adapters.Gate {
	h.t.Helper()
	index, known := tokens.New(), resources.New()
	f := projections.NewFollower(projections.Config{Books: []projections.Book{h.bus.Book(0)}, Models: []projections.Model{index, known},
		Staleness: 20 * time.Second, Log: discard})
	h.runs(f.Run)
	submit, err := h.bus.NewSubmitter(bus.SubmitterConfig{})
	must(h.t, err)
	h.stop = append(h.stop, func() { submit.Close() })
	cfg := adapters.Config{Submit: submit, Directory: h.people, Sessions: index, Resources: known, Follower: f, Policies: h.policies,
		Partitions: 1, DeploymentKey: [32]byte{1}, Timeout: 20 * time.Second, Now: h.now, Log: discard}
	if change != nil {
		change(&cfg)
	}
	g := adapters.NewGate(cfg)
	h.runs(g.Run)
	must(h.t, f.Barrier(context.Background()))
	return g
}

// command does what an operator does.
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
		h.t.Fatalf("%s: %s", cmd.Verb(), reply.Refusal)
	}
}

// free is a configuration for tests that make many calls. Its calls have longer than usual, because the machine may be busy.
func free() Config { return Config{CallRate: -1, CallTimeout: time.Minute} }

// pod is a handler on a gate, served over HTTP.
func (h *house) pod() *client { return newClient(h.t, free(), h.gate(nil)) }

// bent is a gate that fails or refuses when it is told to.
type bent struct {
	Gate
	refuse session.Refusal
	away   error
}

func (b *bent) says() (adapters.Refused, error, bool) {
	return adapters.Refused{Code: b.refuse}, b.away, b.refuse != session.Accepted || b.away != nil
}

func (b *bent) Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error) {
	if refused, err, no := b.says(); no {
		return adapters.Grant{}, refused, err
	}
	return b.Gate.Login(ctx, r)
}

func (b *bent) Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error) {
	if refused, err, no := b.says(); no {
		return adapters.Grant{}, refused, err
	}
	return b.Gate.Refresh(ctx, r)
}

func (b *bent) Verify(ctx context.Context, v session.Venue, token string) (session.UserID, adapters.Refused, error) {
	if refused, err, no := b.says(); no {
		return "", refused, err
	}
	return b.Gate.Verify(ctx, v, token)
}

func (b *bent) IssueOneTime(ctx context.Context, v session.Venue, user session.UserID, id session.SessionID, lifetime time.Duration,
	form adapters.TokenForm) (adapters.OneTime, adapters.Refused, error) {
	if refused, err, no := b.says(); no {
		return adapters.OneTime{}, refused, err
	}
	return b.Gate.IssueOneTime(ctx, v, user, id, lifetime, form)
}

func (b *bent) Lifetimes(ctx context.Context, v session.Venue, change session.Lifetimes) (session.Lifetimes, adapters.Refused, error) {
	if refused, err, no := b.says(); no {
		return session.Lifetimes{}, refused, err
	}
	return b.Gate.Lifetimes(ctx, v, change)
}

// client calls a handler over HTTP.
type client struct {
	t      *testing.T
	server *httptest.Server
	http   *http.Client
}

func newClient(t *testing.T, cfg Config, gate Gate) *client {
	t.Helper()
	server := httptest.NewServer(New(cfg, gate, discard))
	t.Cleanup(server.Close)
	c := server.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{t, server, c}
}

// reply is what any call gets.
type reply struct {
	pair
	verified
	OneTimeTokenLifeTime int64    `json:"oneTimeTokenLifeTime"`
	Token                string   `json:"token"`
	Link                 string   `json:"link"`
	Description          string   `json:"description"`
	Errors               []string `json:"errors"`
	Incident             string   `json:"incident"`

	status int
	header http.Header
	raw    string
}

// code is the reply's one error code, with the status before it; empty for a reply that is none.
func (r reply) code() string {
	if r.status == http.StatusOK && r.Errors == nil {
		return ""
	}
	return http.StatusText(r.status) + " " + strings.Join(r.Errors, ",")
}

// settings are the three lifetimes of a reply with settings.
func (r reply) settings() string {
	return fmt.Sprint(r.AccessTokenLifeTime, r.RefreshTokenLifeTime, r.OneTimeTokenLifeTime)
}

// ask calls below the base path. Headers are given as "name: value"; the same name twice is sent twice.
func (c *client) ask(method, path, body string, headers ...string) reply {
	c.t.Helper()
	request, err := http.NewRequest(method, c.server.URL+"/proftrading/rest"+path, strings.NewReader(body))
	must(c.t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	return c.send(request)
}

func (c *client) send(request *http.Request) reply {
	c.t.Helper()
	response, err := c.http.Do(request)
	must(c.t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(c.t, err)
	r := reply{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &r); err != nil {
			c.t.Fatalf("%s %s: %v in %q", request.Method, request.URL, err, raw)
		}
	}
	if r.header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("%s %s may be stored", request.Method, request.URL)
	}
	return r
}

// login opens a session, which has to succeed.
func (c *client) login(name, password string) pair {
	c.t.Helper()
	r := c.ask("POST", "/auth/token", `{"login":"`+name+`","password":"`+password+`"}`)
	if r.code() != "" {
		c.t.Fatalf("login of %s: %s", name, r.raw)
	}
	return r.pair
}

func (c *client) refresh(token string) reply {
	c.t.Helper()
	return c.ask("GET", "/auth/token/refresh", "", "token: "+token)
}

// accepts reports whether an access token is taken.
func (c *client) accepts(token string) bool {
	c.t.Helper()
	r := c.ask("GET", "/methods/errors?errorId=1.1.1.11", "", as(token))
	switch r.code() {
	case "":
		return true
	case "Unauthorized 1.1.1.11":
		return false
	}
	c.t.Fatalf("a check of a token: %s", r.raw)
	return false
}

func (c *client) verify(token string) reply {
	c.t.Helper()
	return c.ask("POST", "/external/token/verify", `{"token":"`+token+`"}`)
}

func as(token string) string { return "Authorization: Bearer " + token }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
