package nebula

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spareKeys are made once: making them takes longer than most tests.
var spareKeys = sync.OnceValue(func() (keys [4]*rsa.PrivateKey) {
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

// memoryBoard is a board by the contract of KeyBoard, for the pods of one test.
type memoryBoard struct {
	mu      sync.Mutex
	keys    map[string][]byte
	away    error
	reads   int
	written int
}

func (b *memoryBoard) Publish(ctx context.Context, kid string, jwk []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, bounded := ctx.Deadline(); !bounded {
		panic("Publish without a deadline")
	}
	if b.away != nil {
		return b.away
	}
	if b.keys == nil {
		b.keys = map[string][]byte{}
	}
	b.keys[kid] = jwk
	b.written++
	return nil
}

func (b *memoryBoard) All(ctx context.Context) (map[string][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, bounded := ctx.Deadline(); !bounded {
		panic("All without a deadline")
	}
	b.reads++
	return maps.Clone(b.keys), b.away
}

func (b *memoryBoard) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// fakeGate keeps sessions in memory by the contract of *adapters.Gate. It polices its caller.
type fakeGate struct {
	t   *testing.T
	now func() time.Time

	mu     sync.Mutex
	minted int
	away   error // when set, every question fails
	refuse session.Refusal
	hold   chan struct{} // when set, a login waits for it
	live   map[session.SessionID]*fakeSession
	used   map[session.TokenHash]bool
	ends   int // by Disconnect
	logins int
	failed map[session.UserID]int
}

type fakeSession struct {
	session.Session
	ended chan struct{}
}

const (
	jane     = "jane@example.com"
	janeID   = session.UserID("u-jane")
	password = "Correct-horse-9"
)

var janeKey = []byte("0123456789abcdef")

var errAway = fmt.Errorf("%w: the bus is gone", adapters.ErrUnavailable)

func newFakeGate(t *testing.T, now func() time.Time) *fakeGate {
	return &fakeGate{t: t, now: now, live: map[session.SessionID]*fakeSession{}, used: map[session.TokenHash]bool{}, failed: map[session.UserID]int{}}
}

func (g *fakeGate) ask(ctx context.Context, venue session.Venue) error {
	if _, bounded := ctx.Deadline(); !bounded || venue != session.Nebula {
		g.t.Errorf("asked for venue %v, bounded %v", venue, bounded)
	}
	return g.away
}

func (g *fakeGate) Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.logins++
	if hold := g.hold; hold != nil {
		g.mu.Unlock()
		<-hold
		g.mu.Lock()
	}
	if err := g.ask(ctx, r.Venue); err != nil {
		return adapters.Grant{}, adapters.Refused{}, err
	}
	credential := session.Credential{User: janeID, Verdict: session.Mismatched}
	if r.Judge != nil {
		var err error
		if credential, err = r.Judge(ctx); err != nil {
			return adapters.Grant{}, adapters.Refused{}, err
		}
	} else if r.Name == jane && r.Password == password {
		credential.Verdict = session.Matched
	} else if r.Name != jane {
		credential = session.Credential{User: g.Decoy(r.Name), Verdict: session.NoSuchUser}
	}
	g.minted++
	now := g.now()
	s := session.Session{ID: session.SessionID{0: 7, 15: byte(g.minted)}, User: credential.User, Venue: r.Venue, Bound: r.Bound, Generation: 1,
		Started: session.At(now), LastActive: session.At(now), Until: session.At(now.Add(24 * time.Hour))}
	access := fmt.Sprintf("opaque-%d", g.minted)
	if r.Sign != nil {
		var err error
		if access, err = r.Sign(adapters.Claims{Session: s.ID, User: s.User, Issued: now, Expires: now.Add(24 * time.Hour)}); err != nil {
			return adapters.Grant{}, adapters.Refused{}, fmt.Errorf("%w: %w", adapters.ErrUnavailable, err)
		}
	}
	switch {
	case g.refuse != session.Accepted:
		return adapters.Grant{}, adapters.Refused{Code: g.refuse}, nil
	case credential.Verdict != session.Matched || g.used[r.Nonce]:
		g.failed[credential.User]++
		return adapters.Grant{}, adapters.Refused{Code: session.WrongCredentials}, nil
	case r.Nonce != session.TokenHash{}:
		g.used[r.Nonce] = true
	}
	s.Access = session.HashToken(access)
	g.live[s.ID] = &fakeSession{s, make(chan struct{})}
	return adapters.Grant{Session: s, Access: access, Name: r.Name}, adapters.Refused{}, nil
}

func (g *fakeGate) Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, s.Venue); err != nil {
		return adapters.Refused{}, err
	}
	if !s.Bound {
		g.t.Error("a session that is not bound is ended with its socket")
	}
	if l := g.live[s.ID]; l != nil {
		g.ends++
		delete(g.live, s.ID)
		close(l.ended)
	}
	return adapters.Refused{}, nil
}

func (g *fakeGate) Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, venue); err != nil {
		return session.Live{}, adapters.Refused{}, err
	}
	for _, l := range g.live {
		if l.Access == session.HashToken(token) {
			return l.Live(), adapters.Refused{}, nil
		}
	}
	return session.Live{}, adapters.Refused{Code: session.InvalidToken}, nil
}

func (g *fakeGate) Profile(user session.UserID) session.Profile { return session.Profile{User: user} }

func (g *fakeGate) Find(name string) (session.UserID, bool) {
	switch name {
	case jane, "jane-key", "auth0|jane@corp":
		return janeID, true
	case "keyless":
		return "u-keyless", true
	}
	return "", false
}

func (g *fakeGate) Decoy(name string) session.UserID { return session.UserID("u-decoy") }

func (g *fakeGate) Key(user session.UserID, venue session.Venue) ([]byte, uint64, bool) {
	if user != janeID || venue != session.Nebula {
		return nil, 0, false
	}
	return janeKey, 1, true
}

func (g *fakeGate) Generation(user session.UserID, venue session.Venue) (uint64, bool) {
	return 1, user == janeID && venue == session.Nebula
}

func (g *fakeGate) Watch(id session.SessionID) (<-chan struct{}, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.live[id]; l != nil {
		return l.ended, func() {}
	}
	over := make(chan struct{})
	close(over)
	return over, func() {}
}

func (g *fakeGate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *fakeGate) sessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}

// endElsewhere is what an operator or another pod does.
func (g *fakeGate) endElsewhere() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, l := range g.live {
		delete(g.live, id)
		close(l.ended)
	}
}

// clock is a time that tests move.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2022, 7, 11, 16, 27, 4, 0, time.UTC).UnixNano()) // the sample's "iat"
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) forward(d time.Duration) { c.nanos.Add(int64(d)) }

// desk is a handler before a fake gate.
type desk struct {
	*httptest.Server
	gate  *fakeGate
	board *memoryBoard
	clock *clock
	h     *Handler
}

// serve runs a handler and fails the test when it does not stop.
func serve(t *testing.T, cfg Config) *desk {
	t.Helper()
	d := &desk{clock: newClock(), board: &memoryBoard{}}
	d.gate = newFakeGate(t, d.clock.now)
	cfg.Now = d.clock.now
	d.Server, d.h = open(t, cfg, d.gate, d.board)
	return d
}

// open runs a handler, serves it, and waits until it has a key.
func open(t *testing.T, cfg Config, gate Gate, board KeyBoard) (*httptest.Server, *Handler) {
	t.Helper()
	h := New(cfg, gate, board, discard)
	useSpareKeys(h)
	adapterstest.Runs(t, h.Run)
	server := adapterstest.Serve(t, h)
	eventually(t, "a key is published", func() bool {
		set, err := h.keys.jwkSet(context.Background())
		return err == nil && strings.Contains(string(set), "RSA")
	})
	return server, h
}

func useSpareKeys(h *Handler) {
	var made atomic.Int32
	h.keys.mint = func() (*rsa.PrivateKey, error) { return spareKeys()[(made.Add(1)-1)%3], nil }
}

// The words of the kit.
var (
	discard    = adapterstest.Discard
	must       = adapterstest.Must
	eventually = adapterstest.Eventually
	send       = adapterstest.Send
	receive    = adapterstest.Receive
	closed     = adapterstest.Closed
)

func dial(t *testing.T, server *httptest.Server, path string) *websocket.Conn {
	t.Helper()
	return adapterstest.Dial(t, server, path, nil)
}

// asks sends a frame and compares the reply's text.
func asks(t *testing.T, conn *websocket.Conn, frame, want string) {
	t.Helper()
	send(t, conn, frame)
	if got := receive(t, conn); got != want {
		t.Errorf("%.200s\n got %s\nwant %s", frame, got, want)
	}
}

// post sends a body to the login and gives the reply.
func post(t *testing.T, server *httptest.Server, body string) (*http.Response, string) {
	t.Helper()
	return request(t, server, http.MethodPost, tokenPath, body)
}
