package advauth

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The login and the key of the venue's own sample.
const (
	sampleLogin = "John.Doo"
	sampleKey   = "hDn/LFXIPESM036W+s7VKg=="
	sampleToken = "a45a039c-eb31-46f1-9ece-88aa5ccfe22c"
)

var errAway = fmt.Errorf("%w: the bus is gone", adapters.ErrUnavailable)

// fakeGate keeps sessions in memory by the contract of *adapters.Gate, and polices its caller: everything is asked for the
// venue AdvAuth, with a context that ends, and a login is judged and never a password.
type fakeGate struct {
	t *testing.T

	mu     sync.Mutex
	clock  time.Time
	away   error // when set, every question fails
	refuse adapters.Refused
	minted int
	live   map[session.TokenHash]session.Session
	nonces map[session.TokenHash]bool
	keys   map[session.UserID]block
	logins []session.Credential
	// before runs when a login has been judged for the first time; then it is judged again, as when the book knows a newer
	// key than the pod.
	before func()
}

func newFakeGate(t *testing.T) *fakeGate {
	return &fakeGate{t: t, clock: time.Date(2026, 2, 4, 10, 54, 17, 469e6, time.UTC), live: map[session.TokenHash]session.Session{},
		nonces: map[session.TokenHash]bool{}, keys: map[session.UserID]block{"u-john.doo": keyOf(sampleKey)}}
}

func (g *fakeGate) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clock
}

func (g *fakeGate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *fakeGate) Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error) {
	if _, bounded := ctx.Deadline(); !bounded || r.Venue != session.AdvAuth || r.Judge == nil || r.Password != "" || r.Form != adapters.GUID {
		g.t.Errorf("a login that is none of this venue: %+v", r)
	}
	credential, err := r.Judge(ctx)
	if again := g.before; again != nil && err == nil { // set by a test before its one call
		g.before = nil
		again()
		credential, err = r.Judge(ctx)
	}
	if err != nil {
		return adapters.Grant{}, adapters.Refused{}, fmt.Errorf("%w: %w", adapters.ErrUnavailable, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.logins = append(g.logins, credential)
	switch {
	case g.away != nil:
		return adapters.Grant{}, adapters.Refused{}, g.away
	case g.refuse.No():
		return adapters.Grant{}, g.refuse, nil
	case credential.Verdict != session.Matched || g.nonces[r.Nonce]:
		return adapters.Grant{}, adapters.Refused{Code: session.WrongCredentials}, nil
	}
	if r.Nonce != (session.TokenHash{}) {
		g.nonces[r.Nonce] = true
	}
	token := fmt.Sprintf("%s%02x", sampleToken[:34], 0x2c+g.minted)
	g.minted++
	now := session.At(g.clock)
	s := session.Session{User: credential.User, Venue: r.Venue, Started: now, LastActive: now, Until: now.Add(20 * time.Second),
		Access: session.HashToken(token)}
	g.live[s.Access] = s
	return adapters.Grant{Session: s, Access: token, Name: r.Name}, adapters.Refused{}, nil
}

func (g *fakeGate) Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, bounded := ctx.Deadline(); !bounded || venue != session.AdvAuth {
		g.t.Errorf("a check for venue %v, bounded %t", venue, bounded)
	}
	s, found := g.live[session.HashToken(token)]
	switch {
	case g.away != nil:
		return session.Live{}, adapters.Refused{}, g.away
	case g.refuse.No():
		return session.Live{}, g.refuse, nil
	case !found:
		return session.Live{}, adapters.Refused{Code: session.InvalidToken}, nil
	case session.At(g.clock) >= s.AccessDeadline():
		return session.Live{}, adapters.Refused{Code: session.ExpiredToken}, nil
	}
	return s.Live(), adapters.Refused{}, nil
}

func (g *fakeGate) Find(name string) (session.UserID, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	user := session.UserID("u-" + strings.ToLower(name))
	_, known := g.keys[user]
	return user, known || user == "u-keyless"
}

func (g *fakeGate) Decoy(name string) session.UserID {
	return session.UserID("d-" + hex.EncodeToString([]byte(strings.ToLower(name))))
}

func (g *fakeGate) Key(user session.UserID, venue session.Venue) ([]byte, uint64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key, ok := g.keys[user]
	return append([]byte(nil), key[:]...), 1, ok && venue == session.AdvAuth
}

func (g *fakeGate) Name(user session.UserID) string {
	return map[session.UserID]string{"u-john.doo": sampleLogin}[user]
}

// judged are the credentials of the logins so far.
func (g *fakeGate) judged() []session.Credential {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]session.Credential(nil), g.logins...)
}

// sample is the configuration of the tests.
func sample() Config {
	cfg := DefaultConfig()
	copy(cfg.ChallengeKey[:], "the challenge key of the tests..")
	return cfg
}

// pod makes a handler whose challenges of each login count from one, so that replies can be compared.
func pod(t *testing.T, cfg Config, gate Gate) *Handler {
	t.Helper()
	h := New(cfg, gate, adapterstest.Discard)
	for i := range h.challenges.numbers {
		h.challenges.numbers[i].Store(0)
	}
	return h
}

// serve runs a handler before the fake gate.
func serve(t *testing.T, cfg Config) (*httptest.Server, *fakeGate) {
	t.Helper()
	gate := newFakeGate(t)
	cfg.Now = gate.now
	return adapterstest.Serve(t, pod(t, cfg, gate)), gate
}

// said is what any call gets, in either form.
type said struct {
	Message       string
	Code          int
	Token         string
	ExpireInSec   int
	ExpireDate    string
	RndB          string
	UserLogin     string
	ModelStateErr stateErr

	status int
	header http.Header
	raw    string
}

type stateErr []string

func (s *stateErr) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	var list struct {
		Errors []string `xml:"string"`
	}
	err := d.DecodeElement(&list, &start)
	*s = list.Errors
	return err
}

// ask makes one call. Headers are given as "Name: value"; a body that begins with < is XML, another JSON.
func ask(t *testing.T, server *httptest.Server, method, path, body string, headers ...string) said {
	t.Helper()
	header := http.Header{}
	if body != "" {
		header.Set("Content-Type", "application/json")
		if body[0] == '<' {
			header.Set("Content-Type", "application/xml")
		}
	}
	for name, values := range adapterstest.Headers(headers...) {
		if header[name] = values; values[0] == "" {
			header.Del(name)
		}
	}
	response, raw := adapterstest.Call(t, server.Client(), method, server.URL+path, body, header)
	s := said{status: response.StatusCode, header: response.Header, raw: raw}
	if s.raw == "" {
		return s
	}
	decode := json.Unmarshal
	if strings.Contains(s.header.Get("Content-Type"), "xml") {
		decode = xml.Unmarshal
	}
	if err := decode([]byte(s.raw), &s); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, s.raw)
	}
	return s
}

// client is an honest client of the HMAC profile.
type client struct {
	login string
	key   block
	a     *block // RndA, when it wants the server's proof
}

// challenge asks for one.
func (c client) challenge(t *testing.T, server *httptest.Server) block {
	t.Helper()
	s := ask(t, server, "POST", "/login/advAuthInit", fmt.Sprintf(`{"UserLogin":%q}`, c.login))
	raw, err := hex.DecodeString(s.RndB)
	if s.status != 200 || err != nil || len(raw) != 16 || s.ExpireInSec != 20 {
		t.Fatalf("no challenge: %d %s", s.status, s.raw)
	}
	return block(raw)
}

// answer is the body of login/advAuth for a challenge.
func (c client) answer(challenge block) string {
	a := answer{login: c.login}
	body := map[string]any{"Result": nil, "UserLogin": c.login}
	if c.a != nil {
		a.a, a.hasA = *c.a, true
		body["RndA"] = c.a.String()
	}
	body["RndB"] = ownMAC(c.key, hmacInput(clientLabel, a, challenge)).String()
	text, _ := json.Marshal(body)
	return string(text)
}

// in logs in.
func (c client) in(t *testing.T, server *httptest.Server) said {
	t.Helper()
	return ask(t, server, "POST", "/login/advAuth", c.answer(c.challenge(t, server)))
}

func john() client { return client{login: sampleLogin, key: keyOf(sampleKey)} }
