package traderevolution

import (
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
)

// TestBookAway: what is not known is a 500 and nothing else.
func TestBookAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	healthy := h.pod()
	p, admin := healthy.login("demo", "pw"), healthy.login("admin", "secret")
	ott := healthy.ask("POST", "/external/token", "", as(p.AccessToken)).Token
	short := func(c *adapters.Config) { c.Timeout = 60 * time.Millisecond }
	lame, blind := newClient(t, free(), h.gate(short)), newClient(t, free(), h.gate(func(c *adapters.Config) { c.Follower = adapterstest.Lost{} }))
	strict := free()
	strict.StandardStatus = true
	strictLame := newClient(t, strict, h.gate(short))
	h.StopWriters()
	unavailable := func(what string, r reply, status int) {
		t.Helper()
		if r.status != status || r.raw != `{"errors":["99.3.0.1"]}`+"\n" || r.header.Get("Retry-After") != "1" || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %d %s %v", what, r.status, r.raw, r.header)
		}
	}
	for status, c := range map[int]*client{500: lame, 503: strictLame} {
		unavailable("login", c.ask("POST", "/auth/token", `{"login":"demo","password":"pw"}`), status)
		unavailable("wrong login", c.ask("POST", "/auth/token", `{"login":"demo","password":"x"}`), status)
		unavailable("refresh", c.refresh(p.RefreshToken), status)
		unavailable("verify", c.verify(ott), status)
		unavailable("issue", c.ask("POST", "/external/token", "", as(p.AccessToken)), status)
		unavailable("settings", c.ask("GET", "/connectors/settings", "", as(admin.AccessToken)), status)
		if !c.accepts(p.AccessToken) {
			t.Error("a token that is known is not taken while the writer is away")
		}
	}
	for _, token := range []string{p.AccessToken, "nobody's"} {
		unavailable("a pod that has lost touch", blind.ask("GET", "/methods/errors?errorId=1.1.1.11", "", as(token)), 500)
		unavailable("an unknown path at such a pod", blind.ask("GET", "/no/such", "", as(token)), 500)
	}
	unavailable("a refresh of a token it does not know", blind.refresh("nobody's"), 500)
	unavailable("a one-time token it does not know", blind.verify("nobody's"), 500)
}
