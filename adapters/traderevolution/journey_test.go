package traderevolution

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

// TestLogin: the pair, its lifetimes, and that every failed login is the same reply.
func TestLogin(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	one, two := h.pod(), h.pod()
	r := one.ask("POST", "/auth/token", `{"login":"demo","password":"pw","x":[1]}`, "Content-Type: application/json; charset=utf-8")
	if r.code() != "" || r.AccessTokenLifeTime != 300 || r.RefreshTokenLifeTime != 3600 || len(r.AccessToken) != 43 || len(r.RefreshToken) != 43 ||
		r.AccessToken == r.RefreshToken || r.header.Get("Pragma") != "no-cache" || r.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s %v", r.raw, r.header)
	}
	if !one.accepts(r.AccessToken) || !two.accepts(r.AccessToken) {
		t.Error("the access token is not accepted everywhere")
	}
	if one.accepts(r.RefreshToken) || one.accepts(r.AccessToken+"x") || one.accepts("") {
		t.Error("what is no access token is accepted")
	}
	wrong := one.ask("POST", "/auth/token", `{"login":"demo","password":"PW"}`)
	if wrong.code() != "Unauthorized 1.2.0.11" || wrong.header.Get("WWW-Authenticate") != "Bearer" {
		t.Fatalf("a wrong password: %d %s %v", wrong.status, wrong.raw, wrong.header)
	}
	same := func(what string, r reply) {
		t.Helper()
		r.header.Del("Date")
		wrong.header.Del("Date")
		if r.status != wrong.status || r.raw != wrong.raw || fmt.Sprint(r.header) != fmt.Sprint(wrong.header) {
			t.Errorf("%s: %d %s %v", what, r.status, r.raw, r.header)
		}
	}
	same("an unknown login", one.ask("POST", "/auth/token", `{"login":"nobody","password":"pw"}`))
	for range 4 {
		same("a wrong password again", two.ask("POST", "/auth/token", `{"login":"demo","password":"PW"}`))
	}
	same("a locked account and the right password", one.ask("POST", "/auth/token", `{"login":"demo","password":"pw"}`))
	if !two.accepts(r.AccessToken) {
		t.Error("the lock ended a session")
	}
	h.Command(&session.Disable{User: userOf("ann")})
	same("a disabled account and the right password", one.ask("POST", "/auth/token", `{"login":"ann","password":"pw"}`))
	for _, body := range []string{``, `{}`, `{"login":"demo"}`, `{"password":"pw"}`, `{"login":"","password":"pw"}`, `{"login":null,"password":"pw"}`, `{"Login":"demo","PASSWORD":"pw"}`} {
		if r := one.ask("POST", "/auth/token", body); r.code() != "Bad Request 1.2.0.11" {
			t.Errorf("%s: %d %s", body, r.status, r.raw)
		}
	}
}

// TestRefresh: rotation, a repeat within the grace, and reuse.
func TestRefresh(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	one, two := h.pod(), h.pod()
	first := one.login("demo", "pw")
	for what, token := range map[string]string{"an access token": first.AccessToken, "nobody's token": "x", "nothing": "", "a long token": strings.Repeat("x", 600)} {
		if r := one.refresh(token); r.code() != "Unauthorized 1.1.1.11" {
			t.Errorf("a refresh with %s: %d %s", what, r.status, r.raw)
		}
	}
	h.Later(6 * time.Minute) // the access token has expired, the refresh token has not
	if one.accepts(first.AccessToken) {
		t.Error("the access token outlives its lifetime")
	}
	second := one.refresh(first.RefreshToken)
	if second.code() != "" || second.AccessTokenLifeTime != 300 || second.RefreshTokenLifeTime != 3600 ||
		second.AccessToken == first.AccessToken || second.RefreshToken == first.RefreshToken {
		t.Fatalf("refresh: %d %s", second.status, second.raw)
	}
	if again := two.refresh(first.RefreshToken); again.raw != second.raw {
		t.Errorf("a repeat at another pod: %s", again.raw)
	}
	if one.accepts(first.AccessToken) || !two.accepts(second.AccessToken) {
		t.Error("the old access token is accepted, or the new one is not")
	}
	third := two.refresh(second.RefreshToken)
	if third.code() != "" || !one.accepts(third.AccessToken) {
		t.Fatalf("the second refresh: %s", third.raw)
	}
	if r := one.refresh(first.RefreshToken); r.code() != "Unauthorized 1.1.1.11" || r.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("reuse: %d %s", r.status, r.raw)
	}
	if one.accepts(third.AccessToken) || two.refresh(third.RefreshToken).code() == "" {
		t.Error("the session outlives the reuse")
	}
	// The other pod, which knew the token as good, hears of it.
	adapterstest.Eventually(t, "the session has ended at the other pod", func() bool { return !two.accepts(third.AccessToken) })

	late := one.login("demo", "pw")
	if r := one.refresh(late.RefreshToken); r.code() != "" {
		t.Fatal(r.raw)
	}
	h.Later(11 * time.Second)
	if r := one.refresh(late.RefreshToken); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("a repeat after the grace: %s", r.raw)
	}
	old := one.login("demo", "pw")
	h.Later(61 * time.Minute)
	if r := two.refresh(old.RefreshToken); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("an expired refresh token: %s", r.raw)
	}
}

// TestRefreshInBody: the body counts only where that is set, the query never.
func TestRefreshInBody(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	g := h.gate(nil)
	cfg := free()
	plain := newClient(t, cfg, g)
	cfg.RefreshInBody = true
	lenient := newClient(t, cfg, g)
	p := plain.login("demo", "pw")
	body := `{"token":"` + p.RefreshToken + `"}`
	if r := plain.ask("GET", "/auth/token/refresh", body); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("by body, though not set: %s", r.raw)
	}
	if r := lenient.ask("GET", "/auth/token/refresh?token="+p.RefreshToken, ""); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("by query: %s", r.raw)
	}
	if r := lenient.ask("GET", "/auth/token/refresh", body, "token: x", "token: y"); r.code() != "" {
		t.Errorf("two headers are none, the body is one: %s", r.raw)
	}
	if r := lenient.ask("GET", "/auth/token/refresh", body, "token: x"); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("the header does not come first: %s", r.raw)
	}
}

// TestEndedElsewhere: what ends a session ends its tokens at every pod.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	one, two := h.pod(), h.pod()
	p := one.login("demo", "pw")
	ott := one.ask("POST", "/external/token", "", as(p.AccessToken))
	if ott.code() != "" || ott.Token == "" || !two.accepts(p.AccessToken) {
		t.Fatal(ott.raw)
	}
	h.Command(&session.Revoke{User: userOf("demo")})
	for end := time.Now().Add(20 * time.Second); one.accepts(p.AccessToken) || two.accepts(p.AccessToken); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a pod has not seen the end")
		}
	}
	if r := two.refresh(p.RefreshToken); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("refresh: %s", r.raw)
	}
	if r := two.verify(ott.Token); r.status != http.StatusOK || r.raw != `{"isValid":false,"isExpired":true}`+"\n" {
		t.Errorf("the session's one-time token: %s", r.raw)
	}
}

// TestOneTime: both calls that redeem, for a session and for a login, once each.
func TestOneTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	one, two := h.pod(), h.pod()
	demo, admin := one.login("demo", "pw"), two.login("admin", "secret")
	used := []string{"x", demo.AccessToken, demo.RefreshToken}
	for _, test := range []struct{ token, body, login string }{
		{demo.AccessToken, ``, "demo"}, {demo.AccessToken, `{"login":""}`, "demo"}, {admin.AccessToken, `{}`, "admin"}, {admin.AccessToken, `{"login":"demo"}`, "demo"},
	} {
		for _, byHeader := range []bool{false, true} {
			made := one.ask("POST", "/external/token", test.body, as(test.token))
			if made.code() != "" || len(made.Token) != 43 || made.Login != test.login || made.Link != "" {
				t.Fatalf("%s: %s", test.body, made.raw)
			}
			var got reply
			want := `{"isValid":true,"isExpired":false,"login":"` + test.login + `"}`
			if byHeader {
				got, want = two.ask("GET", "/auth/pfixtoken/verify", "", "token: "+made.Token), `{"login":"`+test.login+`","isExpired":false}`
			} else {
				got = two.verify(made.Token)
			}
			if got.status != http.StatusOK || got.raw != want+"\n" {
				t.Errorf("%s: %s", test.body, got.raw)
			}
			used = append(used, made.Token)
		}
	}
	fresh := one.ask("POST", "/external/token", "", as(demo.AccessToken))
	if r := two.verify(fresh.Token); r.raw != `{"isValid":true,"isExpired":false,"login":"demo"}`+"\n" {
		t.Errorf("redeemed at another pod: %s", r.raw)
	}
	late := one.ask("POST", "/external/token", "", as(demo.AccessToken))
	h.Later(31 * time.Second)
	for _, token := range append(used, fresh.Token, late.Token) {
		for _, pod := range []*client{one, two} {
			if r := pod.verify(token); r.status != http.StatusOK || r.raw != `{"isValid":false,"isExpired":true}`+"\n" {
				t.Errorf("unknown, used or expired: %s", r.raw)
			}
			if r := pod.ask("GET", "/auth/pfixtoken/verify", "", "token: "+token); r.status != http.StatusOK || r.raw != `{"isExpired":true}`+"\n" {
				t.Errorf("unknown, used or expired, by header: %s", r.raw)
			}
		}
	}
	for body, want := range map[string]string{
		`{"login":"admin"}`:                      "Unauthorized 2.0.2.4",
		`{"login":"nobody"}`:                     "Unauthorized 2.0.2.4", // before it is looked up
		`{"login":7}`:                            "Bad Request 99.1.1.1",
		`{"link":"/relative"}`:                   "Not Acceptable 99.1.4.4",
		`{"link":"https://b.example/?token=1"}`:  "Not Acceptable 99.1.4.4",
		`{"link":"javascript:alert(1)//b.com/"}`: "Not Acceptable 99.1.4.4",
	} {
		if r := one.ask("POST", "/external/token", body, as(demo.AccessToken)); r.code() != want {
			t.Errorf("%s: %d %s", body, r.status, r.raw)
		}
	}
	if r := one.ask("POST", "/external/token", `{"login":"nobody"}`, as(admin.AccessToken)); r.code() != "Not Found 99.1.1.5" {
		t.Errorf("a login that nobody has: %d %s", r.status, r.raw)
	}
	h.Command(&session.Disable{User: userOf("ann")})
	if r := one.ask("POST", "/external/token", `{"login":"ann"}`, as(admin.AccessToken)); r.code() != "Not Found 99.1.1.5" {
		t.Errorf("a disabled login: %d %s", r.status, r.raw)
	}
	for _, page := range []string{"https://b.example/page?x=a%20b&y#part", "http://b.example:8080", "https://b.example/?"} {
		r := one.ask("POST", "/external/token", `{"link":"`+page+`"}`, as(demo.AccessToken))
		u, err := url.Parse(r.Link)
		must(t, err)
		given, _ := url.Parse(page)
		if u.Query().Get("token") != r.Token || u.Fragment != given.Fragment || u.Query().Get("x") != given.Query().Get("x") || u.Host != given.Host ||
			!strings.HasPrefix(u.RawQuery, given.RawQuery) {
			t.Errorf("%s became %s", page, r.Link)
		}
	}
}

// TestOneTimeBearer: where it is set, redeeming takes an access token, and costs nothing without.
func TestOneTimeBearer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	cfg := free()
	cfg.OneTimeBearer = true
	c := newClient(t, cfg, h.gate(nil))
	p := c.login("demo", "pw")
	ott := c.ask("POST", "/external/token", "", as(p.AccessToken)).Token
	if r := c.verify(ott); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("without: %s", r.raw)
	}
	if r := c.ask("GET", "/auth/pfixtoken/verify", "", "token: "+ott); r.code() != "Unauthorized 1.1.1.11" {
		t.Errorf("without, by header: %s", r.raw)
	}
	if r := c.ask("POST", "/external/token/verify", `{"token":"`+ott+`"}`, as(p.AccessToken)); !r.IsValid {
		t.Errorf("with: %s", r.raw)
	}
}

// TestSettings: the operator's right, the bounds, and that what is issued next follows.
func TestSettings(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	one, two := h.pod(), h.pod()
	admin, demo := one.login("admin", "secret"), one.login("demo", "pw")
	for _, method := range []string{"GET", "PATCH"} {
		r := one.ask(method, "/connectors/settings", `{"accessTokenLifeTime":1}`, as(demo.AccessToken))
		if r.code() != "Unauthorized 2.0.2.4" || r.header.Get("WWW-Authenticate") != `Bearer error="insufficient_scope", scope="connectors.settings"` {
			t.Errorf("%s without the right: %d %s %v", method, r.status, r.raw, r.header)
		}
	}
	for _, test := range []struct{ body, code, settings string }{
		{``, "", "300 3600 30"},
		{`{"accessTokenLifeTime":0}`, "Not Acceptable 99.1.5.4", "300 3600 30"},
		{`{"accessTokenLifeTime":null}`, "Not Acceptable 99.1.5.4", "300 3600 30"},
		{`{"accessTokenLifeTime":3600}`, "Not Acceptable 99.1.0.4", "300 3600 30"},
		{`{"accessTokenLifeTime":10.5}`, "Bad Request 99.1.5.1", "300 3600 30"},
		{`{"accessTokenLifeTime":"10"}`, "Bad Request 99.1.5.1", "300 3600 30"},
		{`{"accessTokenLifeTime":99999999999999999999}`, "Bad Request 99.1.5.1", "300 3600 30"},
		{`{"refreshTokenLifeTime":300}`, "Not Acceptable 99.1.0.4", "300 3600 30"},
		{`{"refreshTokenLifeTime":2592001}`, "Not Acceptable 99.1.6.4", "300 3600 30"},
		{`{"oneTimeTokenLifeTime":4}`, "Not Acceptable 99.1.7.4", "300 3600 30"},
		{`{"oneTimeTokenLifeTime":301}`, "Not Acceptable 99.1.7.4", "300 3600 30"},
		{`{"accessTokenLifeTime":120,"refreshTokenLifeTime":60}`, "Not Acceptable 99.1.0.4", "300 3600 30"},
		{`{"accessTokenLifeTime":60,"other":true}`, "", "60 3600 30"},
		{`{"refreshTokenLifeTime":61,"oneTimeTokenLifeTime":300}`, "", "60 61 300"},
		{`{"accessTokenLifeTime":2591999,"refreshTokenLifeTime":2592000,"oneTimeTokenLifeTime":5}`, "", "2591999 2592000 5"},
		{`{"accessTokenLifeTime":60,"refreshTokenLifeTime":600}`, "", "60 600 5"},
	} {
		if r := two.ask("PATCH", "/connectors/settings", test.body, as(admin.AccessToken), "Content-Type: application/merge-patch+json"); r.code() != test.code ||
			test.code == "" && r.settings() != test.settings {
			t.Errorf("%s: %d %s", test.body, r.status, r.raw)
		}
		if r := one.ask("GET", "/connectors/settings", "", as(admin.AccessToken)); r.settings() != test.settings {
			t.Errorf("after %s: %d %s", test.body, r.status, r.raw)
		}
	}
	if p := one.login("demo", "pw"); p.AccessTokenLifeTime != 60 || p.RefreshTokenLifeTime != 600 {
		t.Errorf("a login after the change: %+v", p)
	}
	if p := one.refresh(demo.RefreshToken).pair; p.AccessTokenLifeTime != 60 || p.RefreshTokenLifeTime != 600 {
		t.Errorf("a refresh after the change: %+v", p)
	}
	h.Later(2 * time.Minute)
	if !two.accepts(admin.AccessToken) {
		t.Error("a token from before the change has lost its own lifetime")
	}
}

// TestLifetimesAreTheSessions: near the end of a session its tokens live shorter than the settings say.
func TestLifetimesAreTheSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *session.Policy) { p.Absolute = 10 * time.Minute })
	c := h.pod()
	p := c.login("demo", "pw")
	if p.AccessTokenLifeTime != 300 || p.RefreshTokenLifeTime != 600 {
		t.Errorf("%+v", p)
	}
	h.Later(7 * time.Minute)
	if p := c.refresh(p.RefreshToken).pair; p.AccessTokenLifeTime < 170 || p.AccessTokenLifeTime > 180 || p.RefreshTokenLifeTime != p.AccessTokenLifeTime {
		t.Errorf("three minutes before the end: %+v", p)
	}
}

// TestBearer: what is needed everywhere else, and what comes before what.
func TestBearer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	c := h.pod()
	token := c.login("demo", "pw").AccessToken
	for _, headers := range [][]string{nil, {"Authorization: " + token}, {"Authorization: Basic " + token}, {"Authorization: Bearer"}, {"Authorization: Bearer "},
		{"Authorization: Bearer " + token + " " + token}, {as(token), as(token)}, {"token: " + token}, {"Authorization: Bearer," + token}} {
		for _, call := range []string{"GET /connectors/settings", "DELETE /connectors/settings", "GET /no/such", "POST /external/token", "GET /methods/errors?errorId=2.0.2.4", "GET /"} {
			method, path, _ := strings.Cut(call, " ")
			if r := c.ask(method, path, "", headers...); r.code() != "Unauthorized 1.1.1.11" || r.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s with %d headers: %d %s", call, len(headers), r.status, r.raw)
			}
		}
	}
	for call, want := range map[string]string{
		"GET /no/such":                           "Not Found 99.0.2.2",
		"POST /auth":                             "Not Found 99.0.2.2",
		"GET /":                                  "Not Found 99.0.2.2",
		"GET /auth%2Ftoken":                      "Not Found 99.0.2.2",
		"DELETE /connectors/settings":            "Method Not Allowed 99.0.2.1",
		"GET /auth/token":                        "Method Not Allowed 99.0.2.1",
		"OPTIONS /auth/token":                    "Method Not Allowed 99.0.2.1",
		"POST /auth/token/refresh":               "Method Not Allowed 99.0.2.1",
		"GET /methods/errors":                    "Bad Request 99.1.8.2",
		"GET /methods/errors?errorId=7":          "Not Found 99.1.8.5",
		"GET /methods/errors/?errorId=2.0.2.4":   "",
		"GET //methods//errors?errorId=99.1.5.4": "",
	} {
		method, path, _ := strings.Cut(call, " ")
		for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
			r := c.ask(method, path, "", "Authorization: "+scheme+token)
			if r.code() != want || (r.status == http.StatusMethodNotAllowed) != (r.header.Get("Allow") != "") {
				t.Errorf("%s: %d %s", call, r.status, r.raw)
			}
		}
	}
	if r := c.ask("PUT", "/connectors/settings", "", as(token)); r.header.Get("Allow") != "GET, PATCH" {
		t.Errorf("Allow: %s", r.header.Get("Allow"))
	}
	if r := c.ask("PATCH", "/auth/token", ""); r.header.Get("Allow") != "POST" {
		t.Errorf("Allow without a token: %s", r.header.Get("Allow"))
	}
	if r := c.at("POST", "/auth/token", `{"login":"demo","password":"pw"}`); r.code() != "" {
		t.Errorf("below the root: %s", r.raw)
	}
}
