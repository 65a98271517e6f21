package nebula

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"rollbook/adapters/adapterstest"
)

func byPassword(sid int) string {
	return fmt.Sprintf(`{"q":"exchange.market/createSession","sid":%d,"d":{"username":"%s","password":"%s"}}`, sid, jane, password)
}

func byPasswordDone(sid int) string {
	return fmt.Sprintf(`{"sig":1,"q":"exchange.market/createSession","sid":%d}`, sid)
}

func byKey(millis int64, secret string) string {
	return fmt.Sprintf(`{"q":"exchange.market/createSession","sid":1,"d":{"apiKey":"jane-key","timestamp":%d,"signature":"%x"}}`, millis,
		signature([]byte(secret), "jane-key", fmt.Sprint(millis)))
}

func TestSocketsOpenAnywhere(t *testing.T) {
	d := serve(t, Config{})
	token := d.token(t)
	for _, path := range []string{"/", "", "/any/where", "//", "/trader-api/auth/token", "/.well-known/jwks.json"} {
		asks(t, dial(t, d.Server, path), createFrame(token, 1), created)
	}
	if d.gate.sessions() != 1 {
		t.Errorf("%d sessions", d.gate.sessions())
	}
	conn := dial(t, d.Server, "/")
	must(t, conn.WriteMessage(websocket.BinaryMessage, []byte(createFrame(token, 1))))
	if got := receive(t, conn); got != created {
		t.Errorf("a binary frame: %s", got)
	}
}

// TestTokenOutlivesItsSockets: a token is good for several sockets, and closing them does not end its session; ending
// the session closes them all.
func TestTokenOutlivesItsSockets(t *testing.T) {
	d := serve(t, Config{})
	token := d.token(t)
	one, two, three := dial(t, d.Server, "/"), dial(t, d.Server, "/"), dial(t, d.Server, "/")
	for _, conn := range []*websocket.Conn{one, two, three} {
		asks(t, conn, createFrame(token, 1), created)
	}
	one.Close()
	eventually(t, "the socket goes", func() bool { return d.h.sockets.Open() == 2 })
	if d.gate.sessions() != 1 || d.gate.ends != 0 {
		t.Errorf("%d sessions, %d ended", d.gate.sessions(), d.gate.ends)
	}
	d.gate.endElsewhere()
	for _, conn := range []*websocket.Conn{two, three} {
		if code := closed(t, conn); code != websocket.ClosePolicyViolation {
			t.Errorf("closed with %d", code)
		}
	}
	asks(t, dial(t, d.Server, "/"), createFrame(token, 1), notCreated)
}

// TestBoundSessions: what was opened over the socket ends with it, at once, or with the next that takes its place; a
// failed attempt leaves it; and the socket closes when it ends.
func TestBoundSessions(t *testing.T) {
	d := serve(t, Config{})
	token, millis := d.token(t), d.clock.now().UnixMilli()
	conn := dial(t, d.Server, "/")
	asks(t, conn, byPassword(2), byPasswordDone(2))
	asks(t, conn, strings.Replace(byPassword(3), password, "wrong", 1),
		`{"sig":2,"q":"exchange.market/createSession","errorType":"401","sid":3,"d":{"errorCode":6000,"errorMessage":"Authentication failed"}}`)
	if d.gate.sessions() != 2 {
		t.Fatalf("%d sessions", d.gate.sessions())
	}
	asks(t, conn, byKey(millis, hex.EncodeToString(janeKey)), byPasswordDone(1))
	eventually(t, "the session before ends", func() bool { return d.gate.sessions() == 2 })
	asks(t, conn, createFrame(token, 1), created)
	eventually(t, "the session before ends", func() bool { return d.gate.sessions() == 1 })
	asks(t, conn, createFrame(token, 1), created) // again: the same
	asks(t, conn, byPassword(2), byPasswordDone(2))
	conn.Close()
	eventually(t, "the session ends with its socket", func() bool { return d.gate.sessions() == 1 })
	if d.gate.ends != 3 {
		t.Errorf("%d ended", d.gate.ends)
	}
	last := dial(t, d.Server, "/")
	asks(t, last, byPassword(1), byPasswordDone(1))
	d.gate.endElsewhere()
	if code := closed(t, last); code != websocket.ClosePolicyViolation {
		t.Errorf("closed with %d", code)
	}
}

// TestEndIsTriedAgain: a session whose end could not be asked for is not forgotten.
func TestEndIsTriedAgain(t *testing.T) {
	d := serve(t, Config{})
	d.h.linger.Retry = 10 * time.Millisecond
	conn := dial(t, d.Server, "/")
	asks(t, conn, byPassword(1), byPasswordDone(1))
	d.gate.set(func() { d.gate.away = errAway })
	conn.Close()
	eventually(t, "the socket goes", func() bool { return d.h.sockets.Open() == 0 })
	d.gate.set(func() { d.gate.away = nil })
	eventually(t, "the session ends", func() bool { return d.gate.sessions() == 0 })
}

// TestSIDs: an open sid is taken; cancelling frees it at once, and what its call then opens is ended; calls are answered
// in order, and others meanwhile.
func TestSIDs(t *testing.T) {
	d := serve(t, Config{})
	conn := dial(t, d.Server, "/")
	hold := make(chan struct{})
	d.gate.set(func() { d.gate.hold = hold })
	send(t, conn, byPassword(0))
	asks(t, conn, byPassword(0), `{"sig":2,"q":"exchange.market/createSession","errorType":"400","sid":0,"d":{"errorCode":400,"errorMessage":"sid=0 is already registered"}}`)
	asks(t, conn, `{"sid":0}`, `{"sig":2,"q":"scalecube/error","errorType":"400","sid":0,"d":{"errorCode":400,"errorMessage":"sid=0 is already registered"}}`)
	asks(t, conn, `{"q":"v1/heartbeat/ping","sid":1}`, `{"sig":1,"q":"v1/heartbeat/ping","sid":1}`)
	asks(t, conn, `{"q":"exchange.market/createSession","sid":0,"sig":3}`, `{"sig":3,"q":"exchange.market/createSession","sid":0}`)
	send(t, conn, byPassword(0)) // the Daml client does not wait between these two
	send(t, conn, byPassword(5))
	d.gate.set(func() { d.gate.hold = nil })
	close(hold)
	for _, sid := range []int{0, 5} {
		if got := receive(t, conn); got != byPasswordDone(sid) {
			t.Errorf("%s, want sid %d", got, sid)
		}
	}
	eventually(t, "what was given up ends", func() bool { return d.gate.sessions() == 1 })
	asks(t, conn, byPassword(0), byPasswordDone(0)) // free again

	hold = make(chan struct{})
	d.gate.set(func() { d.gate.hold = hold })
	for sid := range maxOpen + 2 {
		send(t, conn, byPassword(100+sid))
	}
	if got := frameErrorOf(t, receive(t, conn)); got != `"503" 1 System is unavailable` {
		t.Errorf("too many at once: %s", got)
	}
	conn.Close()
	d.gate.set(func() { d.gate.hold = nil })
	close(hold)
	eventually(t, "all ends with the socket", func() bool {
		return d.h.sockets.Open() == 0 && d.gate.sessions() == 0
	})
}

func TestAPIKeySettings(t *testing.T) {
	d := serve(t, Config{RawSecrets: true, ReusableSignatures: true, TimestampWindow: 10 * time.Second})
	conn, now := dial(t, d.Server, "/"), d.clock.now()
	for range 2 {
		asks(t, conn, byKey(now.UnixMilli(), string(janeKey)), byPasswordDone(1))
	}
	failed := `{"sig":2,"q":"exchange.market/createSession","errorType":"401","sid":1,"d":{"errorCode":6000,"errorMessage":"Authentication failed"}}`
	asks(t, conn, byKey(now.UnixMilli(), hex.EncodeToString(janeKey)), failed)
	asks(t, conn, byKey(now.Add(10*time.Second).UnixMilli(), string(janeKey)), byPasswordDone(1))
	asks(t, conn, byKey(now.Add(-10*time.Second).UnixMilli(), string(janeKey)), byPasswordDone(1))
	logins := d.gate.logins
	for _, off := range []time.Duration{10*time.Second + time.Millisecond, -10*time.Second - time.Millisecond} {
		asks(t, conn, byKey(now.Add(off).UnixMilli(), string(janeKey)),
			`{"sig":2,"q":"exchange.market/createSession","errorType":"401","sid":1,"d":{"errorCode":6001,"errorMessage":"Wrong timestamp"}}`)
	}
	if d.gate.logins != logins {
		t.Error("a wrong time counts as a login")
	}
	if d.gate.failed[janeID] != 1 {
		t.Errorf("%d failures are counted", d.gate.failed[janeID])
	}
}

// TestShutdown ends what was opened over sockets, leaves the tokens, and leaves no goroutine.
func TestShutdown(t *testing.T) {
	for clean, want := range map[bool]int{false: websocket.CloseAbnormalClosure, true: websocket.CloseServiceRestart} {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		c := newClock()
		gate := newFakeGate(t, c.now)
		h := New(Config{CleanClose: clean, Now: c.now}, gate, &memoryBoard{}, discard)
		useSpareKeys(h)
		_, err := h.keys.tend(context.Background())
		must(t, err)
		server := httptest.NewServer(h)
		one, two := dial(t, server, "/"), dial(t, server, "/")
		_, body := post(t, server, `{"email":"`+jane+`","password":"`+password+`"}`)
		asks(t, one, createFrame(strings.Split(body, `"`)[3], 1), created)
		asks(t, two, byPassword(1), byPasswordDone(1))
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(context.Background()) }()
		for _, conn := range []*websocket.Conn{one, two} {
			if code := closed(t, conn); code != want {
				t.Errorf("closed with %d, want %d", code, want)
			}
			conn.Close()
		}
		must(t, <-done)
		if gate.sessions() != 1 || gate.ends != 1 {
			t.Errorf("%d sessions, %d ended", gate.sessions(), gate.ends)
		}
		if _, response, err := adapterstest.Handshake(server, "", nil); err == nil || response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a socket after the end: %v", err)
		}
		server.Client().CloseIdleConnections()
		server.Close()
	}
}

func TestSocketLimits(t *testing.T) {
	gone := func(d *desk) func() bool {
		return func() bool { return d.h.sockets.Open() == 0 }
	}
	t.Run("rate", func(t *testing.T) {
		d := serve(t, Config{MessageRate: 1})
		conn := dial(t, d.Server, "/")
		for range 10 {
			send(t, conn, `{"q":"v1/heartbeat/ping","sid":1}`)
		}
		limited := 0
		for range 10 {
			if got := receive(t, conn); strings.Contains(got, `"errorCode":1,`) {
				limited++
			}
		}
		if limited < 5 {
			t.Errorf("%d of 10 were limited", limited)
		}
		go func() {
			for conn.WriteMessage(websocket.TextMessage, []byte(`not JSON`)) == nil {
			}
		}()
		if code := closed(t, conn); code != websocket.ClosePolicyViolation {
			t.Errorf("a flood is closed with %d", code)
		}
	})
	t.Run("size", func(t *testing.T) {
		d := serve(t, Config{})
		conn := dial(t, d.Server, "/")
		pad := strings.Repeat("x", 64<<10-len(`{"q":"v1/heartbeat/ping","sid":1,"d":""}`))
		asks(t, conn, `{"q":"v1/heartbeat/ping","sid":1,"d":"`+pad+`"}`, `{"q":"v1/heartbeat/ping","sid":1,"d":"`+pad+`"}`)
		receive(t, conn)
		go conn.WriteMessage(websocket.TextMessage, []byte(`{"q":"v1/heartbeat/ping","sid":1,"d":"`+pad+`x"}`))
		if code := closed(t, conn); code != websocket.CloseMessageTooBig {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("sockets and origins", func(t *testing.T) {
		d := serve(t, Config{MaxSockets: 1, AllowedOrigins: []string{"https://app.example.com"}})
		for origin, want := range map[string]int{"https://evil.example": 403, "null": 403} {
			_, response, err := adapterstest.Handshake(d.Server, "", http.Header{"Origin": {origin}})
			if err == nil || response.StatusCode != want {
				t.Errorf("%s: %v", origin, err)
			}
			if response, _ := request(t, d.Server, "OPTIONS", tokenPath, "", "Origin", origin); response.Header.Get("Access-Control-Allow-Origin") != "" || response.StatusCode != 204 {
				t.Errorf("%s may call", origin)
			}
		}
		conn, _, err := adapterstest.Handshake(d.Server, "", http.Header{"Origin": {"https://App.example.com"}})
		must(t, err)
		defer conn.Close()
		if _, response, err := adapterstest.Handshake(d.Server, "", nil); err == nil || response.StatusCode != 503 {
			t.Errorf("a second socket: %v", err)
		}
		if response, _ := request(t, d.Server, "OPTIONS", tokenPath, "", "Origin", "https://app.example.com"); response.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Error("a listed page may not call")
		}
	})
	t.Run("silence", func(t *testing.T) {
		d := serve(t, Config{PingInterval: 20 * time.Millisecond, WriteTimeout: 20 * time.Millisecond})
		dial(t, d.Server, "/") // never reads, so it never answers a ping
		eventually(t, "the silent socket goes", gone(d))
	})
	t.Run("a client that does not read", func(t *testing.T) {
		d := serve(t, Config{MessageRate: 1 << 30, WriteTimeout: 50 * time.Millisecond})
		conn := dial(t, d.Server, "/")
		frame := []byte(`{"q":"v1/heartbeat/ping","sid":1,"d":"` + strings.Repeat("x", 60<<10) + `"}`)
		go func() {
			for conn.WriteMessage(websocket.TextMessage, frame) == nil {
			}
		}()
		eventually(t, "the socket goes", gone(d))
	})
	t.Run("watches do not pile up", func(t *testing.T) {
		d := serve(t, Config{MessageRate: 1 << 20})
		tokens := []string{d.token(t), d.token(t)}
		conn := dial(t, d.Server, "/")
		asks(t, conn, createFrame(tokens[1], 1), created)
		before := runtime.NumGoroutine()
		for n := range 200 {
			asks(t, conn, createFrame(tokens[n%2], 1), created)
		}
		eventually(t, "the goroutines of replaced sessions end", func() bool { return runtime.NumGoroutine() <= before+3 })
	})
}

// TestNothingSecretIsLogged: not with everything logged, at every door, answered and not.
func TestNothingSecretIsLogged(t *testing.T) {
	var log lockedBuffer
	p := newProvider(t)
	c := newClock()
	gate, board := newFakeGate(t, c.now), &memoryBoard{}
	h := New(Config{Now: c.now, Issuers: []Issuer{{URL: p.URL + "/", Audience: "exberry-trading", Alias: "corp"}}}, gate, board,
		slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	useSpareKeys(h)
	h.outage.Often = rate.Sometimes{Every: 1}
	_, err := h.keys.tend(context.Background())
	must(t, err)
	server := httptest.NewServer(h)
	defer server.Close()
	conn := dial(t, server, "/")
	_, body := post(t, server, `{"email":"`+jane+`","password":"`+password+`"}`)
	token, signed := strings.Split(body, `"`)[3], byKey(c.now().UnixMilli(), hex.EncodeToString(janeKey))
	external := p.issue(&desk{clock: c}, nil, nil)
	for _, away := range []error{nil, errAway} {
		gate.set(func() { gate.away = away })
		post(t, server, `{"email":"`+jane+`","password":"`+password+`"}`)
		for _, frame := range []string{createFrame(token, 1), createFrame(external, 1), createFrame(token[:len(token)-9]+"AAAAAAAAA", 1), signed, byPassword(1)} {
			send(t, conn, frame)
			receive(t, conn)
		}
		request(t, server, "GET", "/trader-api/x", "", "Authorization", "Bearer "+token)
	}
	p.set(func() { p.away = true })
	h.issuers[p.URL+"/"].mu.Lock()
	h.issuers[p.URL+"/"].tried = time.Time{}
	h.issuers[p.URL+"/"].mu.Unlock()
	asks(t, conn, createFrame(p.issue(&desk{clock: c}, []any{"kid", "other"}, nil), 1), cannotBeCreated)
	conn.Close()
	must(t, h.Shutdown(context.Background()))
	for _, secret := range []string{password, jane, token[:40], token[len(token)-40:], external[len(external)-40:], hex.EncodeToString(janeKey), string(janeKey), strings.Split(signed, `"`)[17]} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is logged: %s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "cannot be answered") {
		t.Errorf("nothing was logged: %s", log.String())
	}
}

// lockedBuffer is a buffer that many write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
