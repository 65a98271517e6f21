package traderevolution

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	discard = adapterstest.Discard
	must    = adapterstest.Must
)

// everybody: demo is the name in the protocol's samples; admin may change the settings.
func everybody() []adapterstest.Person {
	return []adapterstest.Person{
		{User: userOf("demo"), Names: []string{"demo"}, Password: "pw"},
		{User: userOf("admin"), Names: []string{"admin"}, Password: "secret", Scopes: []string{"reports", OperatorScope}},
		{User: userOf("ann"), Names: []string{"ann"}, Password: "pw"},
	}
}

func userOf(name string) session.UserID { return session.UserID("u-" + name) }

// house is the kit's, with everybody in it and a policy of its own for the venue.
type house struct {
	*adapterstest.House
	t *testing.T
}

func newHouse(t *testing.T, change func(*session.Policy)) *house {
	t.Helper()
	return &house{adapterstest.NewHouse(t, adapterstest.Settings{People: everybody(), Policies: func(p *session.Policies) {
		if policy := p.Venues[venue]; change != nil {
			change(&policy)
			p.Venues[venue] = policy
		}
	}}), t}
}

// gate is a gate with projections of its own; change may alter its configuration.
func (h *house) gate(change func(*adapters.Config)) *adapters.Gate {
	h.t.Helper()
	return h.Pod(change).Gate
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
}

func newClient(t *testing.T, cfg Config, gate Gate) *client {
	t.Helper()
	return &client{t, adapterstest.Serve(t, New(cfg, gate, discard))}
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
	return c.at(method, "/proftrading/rest"+path, body, headers...)
}

// at calls a whole path.
func (c *client) at(method, path, body string, headers ...string) reply {
	c.t.Helper()
	response, raw := adapterstest.Call(c.t, c.server.Client(), method, c.server.URL+path, body, adapterstest.Headers(headers...))
	r := reply{status: response.StatusCode, header: response.Header, raw: raw}
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &r); err != nil {
			c.t.Fatalf("%s %s: %v in %q", method, path, err, raw)
		}
	}
	if r.header.Get("Cache-Control") != "no-store" {
		c.t.Errorf("%s %s may be stored", method, path)
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
