package genesis

import (
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
)

func TestCookieMode(t *testing.T) {
	cfg := quick()
	cfg.Cookies, cfg.Cookie.Insecure = true, true
	server, gate, _ := serve(t, cfg)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	post := func(path, body string, headers ...string) reply {
		t.Helper()
		return ask(t, browser, "POST", server.URL+"/gwf/"+path, body, headers...)
	}
	if r := post("event-login-details", `{"SOURCE_REF":"1"}`); r.status != 401 || r.MessageType != detailsNack {
		t.Errorf("page start: %d %s", r.status, r.raw)
	}
	if _, response, err := handshake(server, "/gwf/", "", ""); err == nil || response.StatusCode != 401 {
		t.Errorf("a socket before the login: %v", err)
	}
	if r := post("event-login-auth", `{"DETAILS":{},"MESSAGE_TYPE":"EVENT_LOGIN_AUTH"}`); r.code() != "MISSING_FIELD" {
		t.Errorf("a refresh without cookies: %s", r.raw)
	}
	login := post("event-login-auth", loginBody)
	if login.MessageType != "EVENT_LOGIN_AUTH_ACK" || login.Access != "" || login.Refresh != "" || login.SessionID == "" {
		t.Errorf("login: %s", login.raw)
	}
	for _, cookie := range login.header.Values("Set-Cookie") {
		if !strings.Contains(cookie, "; Path=/; HttpOnly; SameSite=Lax") || strings.Contains(cookie, "Max-Age") {
			t.Errorf("cookie: %s", strings.SplitN(cookie, ";", 2)[1])
		}
	}
	first := cookieHeader(t, jar, server.URL)
	if r := post("event-login-details", `{"SOURCE_REF":"2"}`); r.status != 200 || r.MessageType != "EVENT_LOGIN_DETAILS_ACK" || r.UserName != "JaneDee" {
		t.Errorf("details: %d %s", r.status, r.raw)
	}
	if r := post("event-login-auth", `{"DETAILS":{},"MESSAGE_TYPE":"EVENT_LOGIN_AUTH"}`); r.MessageType != "EVENT_LOGIN_AUTH_ACK" || r.SessionID == login.SessionID {
		t.Errorf("refresh by cookie: %s", r.raw)
	}
	conn, _, err := handshake(server, "/gwf/", "", cookieHeader(t, jar, server.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send(t, conn, `{"MESSAGE_TYPE":"HEARTBEAT_PING","SOURCE_REF":"h"}`)
	if frame := receive(t, conn); !strings.Contains(frame, `"IS_AUTHENTICATED":true`) {
		t.Errorf("the socket's cookie: %s", frame)
	}
	for _, kind := range []string{"EVENT_LOGIN_AUTH", "EVENT_LOGOUT"} {
		send(t, conn, `{"MESSAGE_TYPE":"`+kind+`","DETAILS":{"USER_NAME":"JaneDee","PASSWORD":"`+fakePassword+`"}}`)
		if frame := receive(t, conn); !strings.Contains(frame, `NOT_AUTHORISED`) {
			t.Errorf("%s over a socket: %s", kind, frame)
		}
	}
	if _, response, err := handshake(server, "/gwf/", "", first); err == nil || response.StatusCode != 401 {
		t.Errorf("a socket with the cookies of before the refresh: %v", err)
	}
	if r := post("event-logout", `{}`, "Origin: https://evil.example"); r.code() != "NOT_AUTHORISED" || gate.sessions() != 1 {
		t.Errorf("logout by another site's page: %s", r.raw)
	}
	gate.set(func() { gate.away = errAway })
	if r := post("event-logout", `{}`); r.MessageType != "EVENT_LOGOUT_NACK" || r.code() != "UNAVAILABLE" {
		t.Errorf("logout while the book is away: %s", r.raw)
	}
	gate.set(func() { gate.away = nil })
	if r := post("event-logout", `{"SOURCE_REF":"3"}`); r.MessageType != "LOGOUT_ACK" || gate.sessions() != 0 || cookieHeader(t, jar, server.URL) != "" {
		t.Errorf("logout: %s, %d sessions", r.raw, gate.sessions())
	}
	if r := post("event-logout", `{"SOURCE_REF":"4"}`); r.MessageType != "LOGOUT_ACK" {
		t.Errorf("logout again: %s", r.raw)
	}
	secure := New(Config{Cookies: true}, gate, discard).cookie(accessCookie, "v", 0)
	if got := secure.String(); got != "__Host-SESSION_AUTH_TOKEN=v; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("the default cookie is %s", got)
	}
}

// A page from elsewhere that loads an address here, or links to it, does not use the session of who looks at it.
func TestCookiesOfForeignPages(t *testing.T) {
	cfg := quick()
	cfg.Cookies, cfg.Cookie.Insecure, cfg.AllowedOrigins = true, true, []string{"https://app.example.com"}
	server, gate, _ := serve(t, cfg)
	gate.plant("t")
	for _, test := range []struct {
		headers []string
		known   bool
	}{
		{nil, true}, // no browser of today
		{[]string{"Sec-Fetch-Site: same-origin"}, true},
		{[]string{"Sec-Fetch-Site: same-origin", "Origin: https://proxied.example"}, true},
		{[]string{"Sec-Fetch-Site: none"}, true},
		{[]string{"Sec-Fetch-Site: cross-site"}, false},
		{[]string{"Sec-Fetch-Site: same-site"}, false},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com"}, true},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, false},
		{[]string{"Origin: https://evil.example"}, false},
		{[]string{"Origin: null"}, false},
	} {
		headers := append([]string{"Cookie: SESSION_AUTH_TOKEN=t"}, test.headers...)
		gate.set(func() { gate.calls = nil })
		pong := ask(t, server.Client(), "GET", server.URL+"/heartbeat-ping", "", headers...)
		details := ask(t, server.Client(), "GET", server.URL+"/event-login-details", "", headers...)
		asked := 0
		gate.set(func() { asked = len(gate.calls) })
		if pong.Pong != test.known || (details.status == 200) != test.known || (asked > 0) != test.known {
			t.Errorf("%q: %s, %d %s; the gate was asked %d times", test.headers, pong.raw, details.status, details.raw, asked)
		}
		out := ask(t, server.Client(), "POST", server.URL+"/event-login-details", "{}", headers...)
		if (out.code() == "NOT_AUTHORISED") == test.known {
			t.Errorf("POST, %q: %s", test.headers, out.raw)
		}
	}
}

func cookieHeader(t *testing.T, jar *cookiejar.Jar, url string) string {
	t.Helper()
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range jar.Cookies(request.URL) {
		request.AddCookie(cookie)
	}
	return request.Header.Get("Cookie")
}
