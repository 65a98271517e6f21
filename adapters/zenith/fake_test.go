package zenith

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGate keeps sessions in memory by the contract of *adapters.Gate. It polices its caller: everything is asked for
// the venue Zenith, with a context that ends. The clock stands still until a test moves it.
type fakeGate struct {
	t *testing.T

	mu      sync.Mutex
	clock   time.Time
	minted  int
	away    error         // when set, every question fails
	hang    chan struct{} // when set, logins wait for it or for their context
	refuse  adapters.Refused
	live    map[session.SessionID]*fakeSession
	logins  []adapters.Login
	ends    []session.SessionID // by Disconnect
	used    int
	profile session.Profile
}

type fakeSession struct {
	session.Session
	ended chan struct{}
}

const fakePassword = "beONneON*74"

var errAway = fmt.Errorf("%w: the bus is gone", adapters.ErrUnavailable)

func newFakeGate(t *testing.T) *fakeGate {
	return &fakeGate{t: t, clock: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), live: map[session.SessionID]*fakeSession{},
		profile: session.Profile{Names: []string{"JaneDee"}, First: "Jane", Last: "Dee"}}
}

func (g *fakeGate) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clock
}

// ask polices a question and says whether it can be answered.
func (g *fakeGate) ask(ctx context.Context, venue session.Venue) error {
	g.t.Helper()
	if _, bounded := ctx.Deadline(); !bounded || venue != session.Zenith {
		g.t.Errorf("the gate was asked for venue %v, bounded %v", venue, bounded)
	}
	if g.hang != nil {
		select {
		case <-g.hang:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", adapters.ErrUnavailable, ctx.Err())
		}
	}
	return g.away
}

// fakeToken is the n-th token that the gate hands out.
func fakeToken(n int) string { return fmt.Sprintf("%042d8=", n) }

func (g *fakeGate) Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, r.Venue); err != nil {
		return adapters.Grant{}, adapters.Refused{}, err
	}
	g.logins = append(g.logins, r)
	good := strings.EqualFold(r.Name, "JaneDee") && r.Password == fakePassword
	if r.Judge != nil {
		credential, err := r.Judge(ctx)
		if err != nil {
			return adapters.Grant{}, adapters.Refused{}, err
		}
		good = credential.Verdict == session.Matched
	}
	switch {
	case g.refuse.No():
		return adapters.Grant{}, g.refuse, nil
	case !good:
		return adapters.Grant{}, adapters.Refused{Code: session.WrongCredentials}, nil
	case r.Form != adapters.Base64 || len(r.Scopes) > 32:
		g.t.Errorf("a login with form %d and %d scopes", r.Form, len(r.Scopes))
	}
	g.minted++
	now := session.At(g.clock)
	s := session.Session{ID: session.SessionID{15: byte(g.minted)}, User: "u1janedee", Venue: r.Venue, Client: r.Client, Bound: r.Bound, Generation: 1,
		Started: now, LastActive: now, Until: now.Add(24 * time.Hour), Idle: time.Hour, AccessUntil: now.Add(time.Hour),
		Access: session.HashToken("access" + fakeToken(g.minted)), Refresh: session.HashToken(fakeToken(g.minted)), Scopes: r.Scopes}
	g.live[s.ID] = &fakeSession{s, make(chan struct{})}
	return adapters.Grant{Session: s, Access: "access" + fakeToken(g.minted), Refresh: fakeToken(g.minted), Name: "JaneDee"}, adapters.Refused{}, nil
}

func (g *fakeGate) Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, r.Venue); err != nil {
		return adapters.Grant{}, adapters.Refused{}, err
	}
	if g.refuse.No() {
		return adapters.Grant{}, g.refuse, nil
	}
	now := session.At(g.clock)
	for _, l := range g.live {
		if l.Refresh == session.HashToken(r.Token) {
			if now >= l.Deadline() {
				return adapters.Grant{}, adapters.Refused{Code: session.ExpiredToken}, nil
			}
			l.Generation, l.LastActive, l.AccessUntil = l.Generation+1, now, now.Add(time.Hour)
			return adapters.Grant{Session: l.Session, Access: "another", Refresh: r.Token, Name: "JaneDee"}, adapters.Refused{}, nil
		}
	}
	return adapters.Grant{}, adapters.Refused{Code: session.InvalidToken}, nil
}

func (g *fakeGate) Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, s.Venue); err != nil {
		return adapters.Refused{}, err
	}
	l := g.live[s.ID]
	switch {
	case l == nil:
		return adapters.Refused{}, nil
	case l.Generation != s.Generation:
		return adapters.Refused{Code: session.Superseded}, nil
	}
	g.ends = append(g.ends, s.ID)
	g.finish(l)
	return adapters.Refused{}, nil
}

func (g *fakeGate) finish(l *fakeSession) {
	delete(g.live, l.ID)
	close(l.ended)
}

// endElsewhere is what an operator, the limit of sessions or the writer's timer does.
func (g *fakeGate) endElsewhere() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.live {
		g.finish(l)
	}
}

func (g *fakeGate) Session(id session.SessionID) (session.Session, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.live[id]; l != nil {
		return l.Session, true
	}
	return session.Session{}, false
}

func (g *fakeGate) Find(name string) (session.UserID, bool) {
	return "u1janedee", strings.EqualFold(name, "JaneDee")
}

func (g *fakeGate) Profile(user session.UserID) session.Profile {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.profile
}

func (g *fakeGate) Use(session.SessionID, session.UserID) { g.set(func() { g.used++ }) }

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

func (g *fakeGate) count() (live, ended, used int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live), len(g.ends), g.used
}

// sampleProvider knows the grant of the venue's sample.
type sampleProvider struct{}

func (sampleProvider) Understand(_ context.Context, grant string) (adapters.Login, error) {
	if grant != "authGrant" {
		return adapters.Login{}, ErrGrant
	}
	return adapters.Login{Name: "JaneDee", Judge: func(context.Context) (session.Credential, error) {
		return session.Credential{User: "u1janedee", Generation: 1, Verdict: session.Matched}, nil
	}}, nil
}

// sample is the configuration under which the venue's samples hold.
func sample() Config {
	cfg := DefaultConfig()
	cfg.Directory = []string{"Rollbook", "BasicAuth"}
	cfg.Providers = map[string]Provider{"Paritech": sampleProvider{}}
	cfg.Scopes = []string{"Zenith/Market", "Zenith/Trading"}
	return cfg
}

// serve runs a handler before the fake gate and fails the test when it does not shut down.
func serve(t *testing.T, cfg Config) (*httptest.Server, *fakeGate, *Handler) {
	t.Helper()
	gate := newFakeGate(t)
	cfg.Now = gate.now
	server, h := run(t, cfg, gate)
	return server, gate, h
}

func run(t *testing.T, cfg Config, gate Gate) (*httptest.Server, *Handler) {
	t.Helper()
	h := New(cfg, gate, discard)
	return adapterstest.Serve(t, h), h
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

// socketPath is where the tests open their sockets.
const socketPath = "/Zenith?version=2.0"

func handshake(server *httptest.Server, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	return adapterstest.Handshake(server, socketPath, header, protocols...)
}

func dial(t *testing.T, server *httptest.Server, header http.Header) *websocket.Conn {
	t.Helper()
	return adapterstest.Dial(t, server, socketPath, header, "ZenithJson")
}
