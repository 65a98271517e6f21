package zenith

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

// house is the kit's, with Jane in it, whom two names lead to.
type house struct {
	*adapterstest.House
	t *testing.T
}

const jane = session.UserID("u-jane")

func newHouse(t *testing.T, change func(*session.Policy)) *house {
	t.Helper()
	s := adapterstest.Settings{People: []adapterstest.Person{{User: jane, Names: []string{"jane", "jane@corp"}, Password: "right"}}}
	if change != nil {
		s.Policies = func(p *session.Policies) {
			policy := p.Venues[session.Zenith]
			change(&policy)
			p.Venues[session.Zenith] = policy
		}
	}
	return &house{adapterstest.NewHouse(t, s), t}
}

// pod is a handler before a gate with projections of its own.
func (h *house) pod(change func(*Config, Users)) *httptest.Server {
	h.t.Helper()
	return h.before(h.Pod(nil), change)
}

func (h *house) before(p *adapterstest.Pod, change func(*Config, Users)) *httptest.Server {
	h.t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg, p)
	}
	return adapterstest.Serve(h.t, New(cfg, p, discard))
}

func code(provider, grant string) string {
	return `{"Controller":"Auth","Topic":"AuthCode","TransactionID":4,"Data":{"Provider":"` + provider + `","ClientID":"test","AuthGrant":"` + grant + `"}}`
}

func password(name, password string) string {
	return code("Rollbook", base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
}

// TestAgainstTheBook walks the main paths through a real gate, bus and writer, over two pods.
func TestAgainstTheBook(t *testing.T) {
	h := newHouse(t, nil)
	one, two := h.pod(nil), h.pod(nil)
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
	if r := h.Command(&session.Revoke{User: jane}); r.Count != 1 {
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
	lame := dial(t, h.before(h.Pod(func(c *adapters.Config) { c.Timeout = 300 * time.Millisecond }), nil), nil)
	h.StopWriters()
	if r := ask(t, lame, password("jane", "right")); r.code() != "Authority.Unavailable" {
		t.Errorf("without a writer: %s", r.raw)
	}
}

// TestLimitOfSessions: the oldest makes room, and its socket is closed with the venue's code for that.
func TestLimitOfSessions(t *testing.T) {
	h := newHouse(t, func(p *session.Policy) { p.MaxSessions, p.EvictOldest = 1, true })
	one, two := h.pod(nil), h.pod(nil)
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
	h := newHouse(t, nil)
	linger := func(c *Config, _ Users) { c.Linger = 300 * time.Millisecond }
	one, two := h.pod(linger), h.pod(linger)
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
	is := newTestIssuer(t)
	h := newHouse(t, nil)
	server := h.pod(func(c *Config, u Users) {
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
	h.Command(&session.ChangeCredential{User: jane, Credential: 2})
	h.People.Change(jane, func(p *adapterstest.Person) { p.Credential = 2 })
	h.People.Lag(1)
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
