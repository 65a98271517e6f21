package genesis

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"rollbook/adapters/adapterstest"
	"rollbook/adapters/repliestest"
)

// The words of the kit.
var (
	discard    = adapterstest.Discard
	eventually = adapterstest.Eventually
	send       = adapterstest.Send
	receive    = adapterstest.Receive
	closed     = adapterstest.Closed
)

func handshake(server *httptest.Server, path, origin, cookie string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	return adapterstest.Handshake(server, path, header)
}

func dial(t *testing.T, server *httptest.Server, path string) *websocket.Conn {
	t.Helper()
	return adapterstest.Dial(t, server, path, nil)
}

// logIn opens a session over the socket.
func logIn(t *testing.T, conn *websocket.Conn) reply {
	t.Helper()
	send(t, conn, `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","SOURCE_REF":"in",`+loginBody[1:])
	return decoded(t, receive(t, conn), "EVENT_LOGIN_AUTH_ACK")
}

func TestSocketPaths(t *testing.T) {
	server, _, _ := serve(t, quick())
	for _, path := range []string{"/", "", "/gwf/", "/sm/", "//gwf/", "//", "/gwf"} {
		logIn(t, dial(t, server, path))
	}
	if _, response, err := handshake(server, "/event-login-auth", "", ""); err == nil || response.StatusCode != 200 {
		t.Errorf("a socket at a call's path: %v", err)
	}
}

// A socket is told by a clean close that its session ended elsewhere; the browser client then stays away.
func TestSocketOfASessionThatEndedElsewhere(t *testing.T) {
	server, gate, _ := serve(t, quick())
	conn := dial(t, server, "//gwf/")
	in := logIn(t, conn)
	bystander := dial(t, server, "/")
	out := ask(t, server.Client(), "POST", server.URL+"/event-logout", "", "SESSION_ID: "+in.SessionID, "USER_NAME: JaneDee")
	if code := closed(t, conn); out.MessageType != "LOGOUT_ACK" || code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d after %s", code, out.raw)
	}
	again := logIn(t, bystander)
	send(t, bystander, `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","DETAILS":{"REFRESH_AUTH_TOKEN":"`+again.Refresh+`"}}`)
	decoded(t, receive(t, bystander), "EVENT_LOGIN_AUTH_ACK")
	gate.endElsewhere()
	if code := closed(t, bystander); code != websocket.ClosePolicyViolation {
		t.Errorf("after a refresh: closed with %d", code)
	}
}

// The browser client does not close its socket on logout: it logs in again over the same one.
func TestSocketOutlivesItsLogout(t *testing.T) {
	for _, form := range []string{
		`"SESSION_AUTH_TOKEN":"$T","SESSION_ID":"$S"`, `"SESSION_AUTH_TOKEN":"$T"`, `"SESSION_ID":"$S"`,
		`"DETAILS":{"USER_NAME":"JaneDee","SESSION_ID":"$S"}`, `"SESSION_AUTH_TOKEN":null`,
	} {
		server, gate, _ := serve(t, quick())
		conn := dial(t, server, "/")
		for range 2 {
			in := logIn(t, conn)
			send(t, conn, strings.NewReplacer("$T", in.Access, "$S", in.SessionID).Replace(`{"MESSAGE_TYPE":"EVENT_LOGOUT","SOURCE_REF":"out",`+form+`}`))
			decoded(t, receive(t, conn), "LOGOUT_ACK")
		}
		logIn(t, conn)
		if gate.sessions() != 1 {
			t.Errorf("%s: %d sessions", form, gate.sessions())
		}
	}
}

// Stopping ends no session, leaves no goroutine, and closes so that the browser client comes back: not cleanly.
func TestShutdown(t *testing.T) {
	for clean, want := range map[bool]int{false: websocket.CloseAbnormalClosure, true: websocket.CloseServiceRestart} {
		t.Run(fmt.Sprintf("clean %v", clean), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			cfg := quick()
			cfg.CleanClose, cfg.Linger = clean, 20*time.Millisecond
			gate := newFakeGate(t)
			h := New(cfg, gate, discard)
			server := httptest.NewServer(h)
			conn := dial(t, server, "/")
			logIn(t, conn)
			done := make(chan error, 1)
			go func() { done <- h.Shutdown(context.Background()) }()
			if code := closed(t, conn); code != want {
				t.Errorf("closed with %d, want %d", code, want)
			}
			conn.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if _, response, err := handshake(server, "/", "", ""); err == nil || response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("a socket after the end: %v", err)
			}
			server.Close()
			if gate.sessions() != 1 || gate.disconnected() != 0 {
				t.Errorf("%d sessions, %d ended", gate.sessions(), gate.disconnected())
			}
			server.Client().CloseIdleConnections()
		})
	}
}

func TestSocketLimits(t *testing.T) {
	t.Run("rate", func(t *testing.T) {
		cfg := quick()
		cfg.MessageRate = 1
		server, _, _ := serve(t, cfg)
		conn := dial(t, server, "/")
		for i := range 10 {
			send(t, conn, fmt.Sprintf(`{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","SOURCE_REF":"%d"}`, i))
		}
		limited := 0
		for i := range 10 {
			r := decoded(t, receive(t, conn), loginNack)
			if r.SourceRef != fmt.Sprint(i) {
				t.Fatalf("reply %d carries %s", i, r.SourceRef)
			}
			if r.code() == "MAX_LOGON_LIMIT" {
				limited++
			}
		}
		if limited < 5 {
			t.Errorf("%d of 10 were limited", limited)
		}
		go func() {
			for conn.WriteMessage(websocket.TextMessage, []byte(`{}`)) == nil {
			}
		}()
		if code := closed(t, conn); code != websocket.ClosePolicyViolation {
			t.Errorf("a flood is closed with %d", code)
		}
	})
	t.Run("size", func(t *testing.T) {
		server, _, _ := serve(t, quick())
		conn := dial(t, server, "/")
		send(t, conn, `{"MESSAGE_TYPE":"HEARTBEAT_PING","X":"`+strings.Repeat("x", 1<<20)+`"}`)
		if r := decoded(t, receive(t, conn), messageNack); r.code() != "INVALID_MESSAGE" || !strings.HasPrefix(r.Error[0].StatusCode, "413 ") {
			t.Errorf("1 MiB: %s", r.raw)
		}
		logIn(t, conn)
		go conn.WriteMessage(websocket.TextMessage, make([]byte, 8<<20))
		if code := closed(t, conn); code != websocket.CloseMessageTooBig {
			t.Errorf("8 MiB: closed with %d", code)
		}
	})
	t.Run("sessions", func(t *testing.T) {
		server, gate, h := serve(t, quick())
		conn := dial(t, server, "/")
		first := logIn(t, conn)
		last := first
		for range maxHeld - 1 {
			last = logIn(t, conn)
		}
		send(t, conn, `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH",`+loginBody[1:])
		r := decoded(t, receive(t, conn), loginNack)
		if r.code() != "MAX_LOGON_LIMIT" || gate.sessions() != maxHeld || !strings.Contains(r.Error[0].Text, "log out of another session first") {
			t.Errorf("%s, %d sessions", r.raw, gate.sessions())
		}
		// A refresh opens none. That of a session from elsewhere goes on untied.
		elsewhere := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
		for _, token := range []string{last.Refresh, elsewhere.Refresh} {
			send(t, conn, `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","DETAILS":{"REFRESH_AUTH_TOKEN":"`+token+`"}}`)
			decoded(t, receive(t, conn), "EVENT_LOGIN_AUTH_ACK")
		}
		tied := h.linger.Held()
		if tied != maxHeld {
			t.Errorf("%d sessions are tied to the socket", tied)
		}
		// Room is made by a logout.
		send(t, conn, `{"MESSAGE_TYPE":"EVENT_LOGOUT","DETAILS":{"SESSION_ID":"`+first.SessionID+`"}}`)
		decoded(t, receive(t, conn), "LOGOUT_ACK")
		logIn(t, conn)
	})
	t.Run("sockets", func(t *testing.T) {
		cfg := quick()
		cfg.MaxSockets = 1
		server, _, _ := serve(t, cfg)
		dial(t, server, "/")
		if _, response, err := handshake(server, "/", "", ""); err == nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a second socket: %v", err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		cfg := quick()
		cfg.PingInterval, cfg.CallTimeout, cfg.WriteTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
		server, _, h := serve(t, cfg)
		dial(t, server, "/") // never reads, so it never answers a ping
		eventually(t, "the silent socket goes", func() bool { return h.sockets.Open() == 0 })
	})
	t.Run("a client that does not read", func(t *testing.T) {
		cfg := quick()
		cfg.MessageRate, cfg.WriteTimeout = 1<<30, 50*time.Millisecond
		server, gate, h := serve(t, cfg)
		gate.plant("t")
		conn := dial(t, server, "/")
		go func() {
			for conn.WriteMessage(websocket.TextMessage, []byte(`{"MESSAGE_TYPE":"RESOURCES_REQUEST","SESSION_AUTH_TOKEN":"t"}`)) == nil {
			}
		}()
		eventually(t, "the socket goes", func() bool { return h.sockets.Open() == 0 })
	})
}

// A handshake that fails is refused in the venue's words, whatever is wrong with it.
func TestFailedHandshakes(t *testing.T) {
	server, _, h := serve(t, quick())
	good := map[string]string{"Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	for _, test := range []struct{ name, value, code string }{
		{"Sec-WebSocket-Version", "8", "INVALID_MESSAGE"}, {"Sec-WebSocket-Version", "", "INVALID_MESSAGE"},
		{"Sec-WebSocket-Key", "", "INVALID_MESSAGE"}, {"Sec-WebSocket-Key", "c2hvcnQ=", "INVALID_MESSAGE"},
		{"Sec-WebSocket-Key", "rubbish", "INVALID_MESSAGE"}, {"Origin", "https://evil.example", "NOT_AUTHORISED"},
	} {
		var headers []string
		for name, value := range good {
			if name != test.name {
				headers = append(headers, name+": "+value)
			}
		}
		if test.value != "" {
			headers = append(headers, test.name+": "+test.value)
		}
		r := ask(t, server.Client(), "GET", server.URL+"/gwf/", "", headers...)
		if r.status < 400 || r.status >= 500 || r.MessageType != messageNack || r.code() != test.code ||
			r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %q: %d %s", test.name, test.value, r.status, r.raw)
		}
	}
	headers := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, path := range []string{"/other", "/gwf/other/", "/ws"} {
		if r := ask(t, server.Client(), "GET", server.URL+path, "", headers...); r.status != 404 || r.MessageType != messageNack || r.code() != "FEATURE_NOT_FOUND" {
			t.Errorf("a socket at %s: %d %s", path, r.status, r.raw)
		}
	}
	for _, connection := range []string{"xupgrade", "close"} { // no handshake at all, but a call of the root
		r := ask(t, server.Client(), "GET", server.URL+"/", "", "Upgrade: websocket", "Connection: "+connection)
		if r.code() != "FEATURE_NOT_FOUND" {
			t.Errorf("Connection: %s: %d %s", connection, r.status, r.raw)
		}
	}
	if got := repliestest.Counts(t, "genesis", h.Metrics())["socket INVALID_MESSAGE"]; got != 5 {
		t.Errorf("%v failed handshakes are counted", got)
	}
}

func TestSocketWhileTheBookIsAway(t *testing.T) {
	server, gate, _ := serve(t, quick())
	conn := dial(t, server, "/")
	in := logIn(t, conn)
	gate.set(func() { gate.away = errAway })
	for kind, nackType := range map[string]string{"HEARTBEAT_PING": messageNack, "EVENT_LOGIN_AUTH": loginNack, "EVENT_LOGOUT": logoutNack, "RESOURCES_REQUEST": messageNack} {
		send(t, conn, `{"MESSAGE_TYPE":"`+kind+`","SOURCE_REF":"`+kind+`","SESSION_AUTH_TOKEN":"`+in.Access+`","DETAILS":{"REFRESH_AUTH_TOKEN":"`+in.Refresh+`"}}`)
		if r := decoded(t, receive(t, conn), nackType); r.code() != "UNAVAILABLE" || r.SourceRef != kind {
			t.Errorf("%s: %s", kind, r.raw)
		}
	}
	gate.set(func() { gate.away = nil })
	send(t, conn, `{"MESSAGE_TYPE":"HEARTBEAT_PING","SESSION_AUTH_TOKEN":"`+in.Access+`"}`)
	if r := decoded(t, receive(t, conn), "HEARTBEAT_PONG"); !r.Pong {
		t.Errorf("after it has come back: %s", r.raw)
	}
}
