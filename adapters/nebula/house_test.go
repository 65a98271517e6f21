package nebula

import (
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

// house is the kit's, with Jane in it and the board that its pods share.
type house struct {
	*adapterstest.House
	t     *testing.T
	board *memoryBoard
}

// pod is a handler before a real gate, with projections of its own.
type pod struct {
	*httptest.Server
	h    *Handler
	gate *adapterstest.Pod
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return &house{t: t, board: &memoryBoard{}, House: adapterstest.NewHouse(t, adapterstest.Settings{People: []adapterstest.Person{{
		User: janeID, Names: []string{jane, "jane-key", "auth0|jane@corp"}, Password: password, Key: janeKey,
		Scopes: []string{"oms-trading:read"}, Venues: []session.Venue{session.Nebula},
	}}})}
}

// pod makes one whose commands are awaited for so long.
func (h *house) pod(cfg Config, timeout time.Duration) *pod {
	h.t.Helper()
	p := &pod{gate: h.Pod(func(c *adapters.Config) { c.Timeout = timeout })}
	p.Server, p.h = open(h.t, cfg, p.gate, h.board)
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
	h.Command(&session.Revoke{User: janeID, Session: id})
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
	h.Command(&session.Disable{User: janeID})
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
	h.Command(&session.Unlock{User: janeID})
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
	h.People.Change(janeID, func(p *adapterstest.Person) { p.Credential = 2 })
	h.Command(&session.ChangeCredential{User: janeID, Credential: 2})
	asks(t, dial(t, two.Server, "/"), external, created)
}

// bound lists Jane's bound sessions as the pod sees the book.
func (p *pod) bound() (ids []session.SessionID) {
	for _, s := range p.gate.Index.ByUser(janeID) {
		if s.Bound && s.Venue == session.Nebula {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// TestBusAway: without a writer nothing is called wrong; tokens that are known stay good.
func TestBusAway(t *testing.T) {
	h := newHouse(t)
	token := h.pod(Config{}, 20*time.Second).token(t)
	p := h.pod(Config{}, 300*time.Millisecond)
	conn := dial(t, p.Server, "/")
	h.StopWriters()
	if status, body := p.login(t, jane, password); status != 503 || body != `{"code":1,"message":"System is unavailable"}` {
		t.Errorf("%d %s", status, body)
	}
	asks(t, conn, byPassword(1), strings.Replace(cannotBeCreated, nebulaCreate, exchangeCreate, 1))
	asks(t, conn, createFrame(token, 1), created)
}
