package genesis

import (
	"cmp"
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

// fakeGate keeps sessions in memory by the contract of *adapters.Gate. It polices its caller: everything is asked for
// the venue Genesis, with a context that ends.
type fakeGate struct {
	t   *testing.T
	now func() time.Time

	mu        sync.Mutex
	minted    int
	away      error // when set, every question fails
	refuse    adapters.Refused
	live      map[session.SessionID]*fakeSession
	gone      map[session.Handle]session.UserID // ended lately
	before    map[session.UserID]session.Instant
	failed    map[session.UserID]uint32
	unseen    map[session.SessionID]bool // live, and not in this pod's view yet
	resources []session.Resource
	ends      []session.SessionID // by Disconnect
	calls     []string
}

type fakeSession struct {
	session.Session
	ended chan struct{}
}

const fakePassword = "beONneON*74"

var errAway = fmt.Errorf("%w: the bus is gone", adapters.ErrUnavailable)

// seedTokens are those of the venue's samples, in their order; later ones are counted.
var (
	seedTokens  = []string{"y9lNIRTax0pmTdUN0XC1PgVl32KuXGsf", "FmqF9CGzo2MiujEZoiRUjGXh8ybDC62L", "qeKC5dPAEH1qQgmwW0eFH6LPNWRzIkqi"}
	seedHandles = []string{"3f0203a5-e89d-4245-9e8b-c21fb0bcacd9", "7043f539-160a-418a-be92-d5813a13a5fd"}
)

func newFakeGate(t *testing.T) *fakeGate {
	clock := time.Date(2018, 1, 21, 20, 53, 44, 0, time.UTC)
	return &fakeGate{
		t: t, now: func() time.Time { return clock }, live: map[session.SessionID]*fakeSession{},
		gone:      map[session.Handle]session.UserID{},
		before:    map[session.UserID]session.Instant{"janedee": session.At(time.UnixMilli(1516567765917))},
		failed:    map[session.UserID]uint32{},
		resources: seedResources(),
	}
}

// seedResources are those of the venue's samples, with what the samples leave out added to two of them.
func seedResources() []session.Resource {
	list := []session.Resource{
		{Name: "EVENT_ORDER_INSERT", Kind: session.EventHandler, Fields: []session.Field{
			{Name: "ORDER_ID", Type: "STRING", Label: "Order", ReadOnly: true},
			{Name: "SIDE", Type: "ENUM", ValidValues: []string{"BUY", "SELL"}, Nullable: true},
		}},
		{Name: "EVENT_ORDER_AMEND", Kind: session.EventHandler},
		{Name: "EVENT_ORDER_CANCEL", Kind: session.EventHandler},
		{Name: "COUNTERPARTY_DETAILS", Kind: session.RequestServer, Description: "Counterparties & more",
			Request: []session.Field{{Name: "COUNTERPARTY_ID", Type: "STRING", Optional: true, Description: "Which <one>"}}},
		{Name: "MY_TRADES", Kind: session.DataServer},
	}
	for _, field := range []string{"TRADE_ID STRING", "INSTRUMENT_ID STRING", "CURRENCY STRING", "QUANTITY INT", "BROKER_ID STRING",
		"PRICE DOUBLE", "FULLY_FILLED BOOLEAN", "DIRECTION ENUM", "CLIENT_ID STRING"} {
		name, kind, _ := strings.Cut(field, " ")
		list[4].Fields = append(list[4].Fields, session.Field{Name: name, Type: kind})
	}
	return list
}

// plant makes a session that was there before, with this token.
func (g *fakeGate) plant(access string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := session.Session{ID: session.SessionID{15: 9}, Handle: session.Handle{15: 9}, User: "janedee", Venue: session.Genesis,
		Generation: 1, LastActive: session.At(g.now()), Until: session.Forever, Access: session.HashToken(access)}
	g.live[s.ID] = &fakeSession{s, make(chan struct{})}
}

// ask polices a question and says whether it can be answered.
func (g *fakeGate) ask(ctx context.Context, call string, venue session.Venue) error {
	g.t.Helper()
	if _, bounded := ctx.Deadline(); !bounded || venue != session.Genesis {
		g.t.Errorf("%s was asked for venue %v, bounded %v", call, venue, bounded)
	}
	g.calls = append(g.calls, call)
	return g.away
}

func (g *fakeGate) mint() string {
	g.minted++
	if g.minted <= len(seedTokens) {
		return seedTokens[g.minted-1]
	}
	return fmt.Sprintf("minted%026d", g.minted)
}

func (g *fakeGate) handle(n int) session.Handle {
	text := fmt.Sprintf("00000000-0000-4000-8000-%012d", g.minted)
	if n < len(seedHandles) && g.minted <= len(seedTokens) {
		text = seedHandles[n]
	}
	h, err := session.ParseHandle(text)
	if err != nil {
		g.t.Fatal(err)
	}
	return h
}

func (g *fakeGate) user(name string) session.UserID { return session.UserID(strings.ToLower(name)) }

func (g *fakeGate) Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "login", r.Venue); err != nil {
		return adapters.Grant{}, adapters.Refused{}, err
	}
	user := g.user(r.Name)
	switch {
	case g.refuse.No():
		return adapters.Grant{}, g.refuse, nil
	case r.Password != fakePassword || user != "janedee":
		g.failed[user]++
		return adapters.Grant{}, adapters.Refused{Code: session.WrongCredentials}, nil
	}
	now := session.At(g.now())
	access, refresh := g.mint(), g.mint()
	h := g.handle(0)
	s := session.Session{
		ID: session.SessionID(h), Handle: h, User: user, Venue: r.Venue, Bound: r.Bound, Generation: 1, Started: now, LastActive: now,
		Until: now.Add(30 * 24 * time.Hour), Idle: 7200 * time.Minute, AccessIdle: 30 * time.Minute,
		Access: session.HashToken(access), Refresh: session.HashToken(refresh), Failed: g.failed[user], PreviousLogin: g.before[user],
	}
	g.failed[user], g.before[user] = 0, now
	g.live[s.ID] = &fakeSession{s, make(chan struct{})}
	return adapters.Grant{Session: s, Access: access, Refresh: refresh, Name: "JaneDee"}, adapters.Refused{}, nil
}

func (g *fakeGate) Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "refresh", r.Venue); err != nil {
		return adapters.Grant{}, adapters.Refused{}, err
	}
	if g.refuse.No() {
		return adapters.Grant{}, g.refuse, nil
	}
	for _, l := range g.live {
		if l.Refresh == session.HashToken(r.Token) && (r.Name == "" || g.user(r.Name) == l.User) {
			access := g.mint()
			l.Access, l.Handle, l.Generation = session.HashToken(access), g.handle(1), l.Generation+1
			return adapters.Grant{Session: l.Session, Access: access, Refresh: r.Token, Name: "JaneDee"}, adapters.Refused{}, nil
		}
	}
	return adapters.Grant{}, adapters.Refused{Code: session.InvalidToken}, nil
}

func (g *fakeGate) Logout(ctx context.Context, r adapters.Logout) (adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "logout", r.Venue); err != nil {
		return adapters.Refused{}, err
	}
	var found *fakeSession
	for _, l := range g.live {
		if r.Token != "" && l.Access == session.HashToken(r.Token) {
			found = l
		}
	}
	for _, l := range g.live {
		if found == nil && l.Handle == r.Handle {
			found = l
		}
	}
	if owner, lately := g.gone[r.Handle]; found == nil && lately && (r.Name == "" || g.user(r.Name) == owner) {
		return adapters.Refused{}, nil // logging out twice is logging out
	}
	if found == nil || r.Name != "" && g.user(r.Name) != found.User {
		return adapters.Refused{Code: session.UnknownSession}, nil
	}
	g.finish(found)
	return adapters.Refused{}, nil
}

func (g *fakeGate) finish(l *fakeSession) {
	delete(g.live, l.ID)
	g.gone[l.Handle] = l.User
	close(l.ended)
}

// endElsewhere is what an operator or another pod does.
func (g *fakeGate) endElsewhere() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.live {
		g.finish(l)
	}
}

func (g *fakeGate) Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "disconnect", s.Venue); err != nil {
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

func (g *fakeGate) Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "check", venue); err != nil {
		return session.Live{}, adapters.Refused{}, err
	}
	for _, l := range g.live {
		if l.Access == session.HashToken(token) {
			if session.At(g.now()) >= l.AccessDeadline() {
				return session.Live{}, adapters.Refused{Code: session.ExpiredToken}, nil
			}
			return l.Live(), adapters.Refused{}, nil
		}
	}
	return session.Live{}, adapters.Refused{Code: session.InvalidToken}, nil
}

func (g *fakeGate) Session(id session.SessionID) (session.Session, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.live[id]; l != nil && !g.unseen[id] {
		return l.Session, true
	}
	return session.Session{}, false
}

func (g *fakeGate) Resources() []session.Resource { return g.resources }

func (g *fakeGate) Resource(ctx context.Context, name session.ResourceName) (session.Resource, adapters.Refused, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.ask(ctx, "resource", session.Genesis); err != nil {
		return session.Resource{}, adapters.Refused{}, err
	}
	i := slices.IndexFunc(g.resources, func(r session.Resource) bool { return r.Name == name })
	if i < 0 {
		return session.Resource{}, adapters.Refused{Code: session.UnknownResource}, nil
	}
	return g.resources[i], adapters.Refused{}, nil
}

func (g *fakeGate) Name(user session.UserID) string {
	return cmp.Or(map[session.UserID]string{"janedee": "JaneDee"}[user], "")
}

// Use is noted by the real gate alone.
func (g *fakeGate) Use(session.SessionID, session.UserID) {}

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

// sessions and disconnected are how many live, and how many were ended because their socket was gone.
func (g *fakeGate) sessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}

func (g *fakeGate) disconnected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ends)
}

// serve runs a handler before the fake gate and fails the test when it does not shut down.
func serve(t *testing.T, cfg Config) (*httptest.Server, *fakeGate, *Handler) {
	t.Helper()
	gate := newFakeGate(t)
	cfg.Now = gate.now
	h := New(cfg, gate, discard)
	return adapterstest.Serve(t, h), gate, h
}

// quick is a configuration for tests that do not wait.
func quick() Config {
	cfg := DefaultConfig()
	cfg.Product = []Product{{"dta", "2.2.2"}, {"auth", "1.1.1"}}
	return cfg
}
