package zenith

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// reply is any message from the server.
type reply struct {
	Controller, Topic, Action string
	TransactionID             *int64
	Confirm                   bool
	Data                      json.RawMessage
	raw                       string
	authority                 // of Data, where that is one
}

func next(t *testing.T, conn *websocket.Conn) reply {
	t.Helper()
	r := reply{raw: receive(t, conn)}
	if err := json.Unmarshal([]byte(r.raw), &r); err != nil {
		t.Fatalf("%v: %s", err, r.raw)
	}
	_ = json.Unmarshal(r.Data, &r.authority) // an error's Data is a text
	return r
}

func ask(t *testing.T, conn *websocket.Conn, frame string) reply {
	t.Helper()
	send(t, conn, frame)
	return next(t, conn)
}

func (r reply) code() string {
	var code string
	if r.Action != "Error" || json.Unmarshal(r.Data, &code) != nil {
		return ""
	}
	return code
}

const (
	loginFrame = `{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{"Provider":"BasicAuth","ClientID":"test","Username":"JaneDee","Password":"` + fakePassword + `"}}`
	whoFrame   = `{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":2}`
)

func tokenFrame(provider, token string) string {
	return `{"Controller":"Auth","Topic":"AuthToken","TransactionID":3,"Data":{"Provider":"` + provider + `","AccessToken":"` + token + `"}}`
}

func logIn(t *testing.T, conn *websocket.Conn) reply {
	t.Helper()
	r := ask(t, conn, loginFrame)
	if r.Result != "Success" || r.Topic != "AuthOwner" || r.AccessToken == "" {
		t.Fatal(r.raw)
	}
	return r
}

func TestHandshake(t *testing.T) {
	server, gate, _ := serve(t, sample())
	for _, test := range []struct {
		method, target string
		header         []string
		status         int
	}{
		{"GET", "/", nil, 404}, {"POST", "/Zenith", nil, 405}, {"GET", "/Zenith", nil, 426}, {"GET", "//Zenith", nil, 404},
		{"GET", "/Zenith", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: ZenithBson"}, 400},
		{"GET", "/Zenith?version=3.0", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, 400},
		{"GET", "/Zenith", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Authorization: Bearer"}, 403},
		{"GET", "/Zenith", []string{"Upgrade: websocket"}, 426},
	} {
		request, err := http.NewRequest(test.method, server.URL+test.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range test.header {
			name, value, _ := strings.Cut(line, ": ")
			request.Header.Set(name, value)
		}
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s %q: %s, Cache-Control %q", test.method, test.target, test.header, response.Status, response.Header.Get("Cache-Control"))
		}
	}
	if conn := dial(t, server, nil); conn.Subprotocol() != "ZenithJson" {
		t.Errorf("the subprotocol is %q", conn.Subprotocol())
	}
	if conn, _, err := handshake(server, nil); err != nil {
		t.Error("without a subprotocol:", err)
	} else {
		logIn(t, conn)
		conn.Close()
	}
	conn, _, err := handshake(server, nil, "ZenithMsgPack", "ZenithJson")
	if err != nil || conn.Subprotocol() != "ZenithJson" {
		t.Error("as the second choice:", err)
	}
	conn.Close()

	in := logIn(t, dial(t, server, nil))
	if in.AccessToken != fakeToken(2) {
		t.Errorf("the token is %q", in.AccessToken)
	}
	for _, header := range []string{"Bearer " + in.AccessToken, "BasicAuth  " + in.AccessToken, "Bearer " + base64.StdEncoding.EncodeToString([]byte(in.AccessToken)),
		"Bearer " + strings.TrimRight(in.AccessToken, "="), "bearer " + in.AccessToken, "BEARER " + in.AccessToken, "basicauth " + in.AccessToken} {
		conn := dial(t, server, http.Header{"Authorization": {header}})
		if r := ask(t, conn, whoFrame); r.Result != "Success" || r.UserID != "u1janedee" || r.AccessToken != in.AccessToken {
			t.Errorf("%s: %s", header, r.raw)
		}
	}
	for _, header := range []string{"Bearer x", "Bearer " + fakeToken(99), "Nobody " + in.AccessToken, "bearers " + in.AccessToken, "Basic amFuZTpkZWU=", "Bearer access" + in.AccessToken} {
		if _, response, err := handshake(server, http.Header{"Authorization": {header}}, "ZenithJson"); err == nil || response == nil || response.StatusCode != 403 {
			t.Errorf("%s: %v", header, err)
		}
	}
	gate.set(func() { gate.away = errAway })
	if _, response, err := handshake(server, http.Header{"Authorization": {"Bearer " + in.AccessToken}}, "ZenithJson"); err == nil || response == nil || response.StatusCode != 503 {
		t.Errorf("while the book is away: %v", err)
	}
}

func TestRoomForSockets(t *testing.T) {
	cfg := sample()
	cfg.MaxSockets = 1
	server, _, _ := serve(t, cfg)
	conn := dial(t, server, nil)
	if _, response, err := handshake(server, nil, "ZenithJson"); err == nil || response == nil || response.StatusCode != 503 {
		t.Errorf("a second socket: %v", err)
	}
	conn.Close()
	eventually(t, "there is room again", func() bool {
		conn, _, err := handshake(server, nil, "ZenithJson")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// The close codes of the venue.
func TestCloseCodes(t *testing.T) {
	t.Run("the session ended elsewhere", func(t *testing.T) {
		server, gate, _ := serve(t, sample())
		conn := dial(t, server, nil)
		logIn(t, conn)
		gate.endElsewhere()
		if code := closed(t, conn); code != 4000 {
			t.Error(code)
		}
	})
	t.Run("silence", func(t *testing.T) {
		cfg := sample()
		cfg.PingInterval = 50 * time.Millisecond
		server, _, _ := serve(t, cfg)
		conn := dial(t, server, nil)
		conn.SetPingHandler(func(string) error { return nil })
		if code := closed(t, conn); code != websocket.ClosePolicyViolation {
			t.Error(code)
		}
	})
	t.Run("restart", func(t *testing.T) {
		server, gate, h := serve(t, sample())
		conn := dial(t, server, nil)
		logIn(t, conn)
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(t.Context()) }()
		if code := closed(t, conn); code != websocket.CloseServiceRestart {
			t.Error(code)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if live, ended, _ := gate.count(); live != 1 || ended != 0 {
			t.Errorf("stopping ended %d sessions", ended)
		}
		if _, response, err := handshake(server, nil, "ZenithJson"); err == nil || response.StatusCode != 503 {
			t.Errorf("after it: %v", err)
		}
	})
	for name, send := range map[string]func(*websocket.Conn) error{
		"7 a binary frame": func(c *websocket.Conn) error { return c.WriteMessage(websocket.BinaryMessage, []byte(whoFrame)) },
		"7 no JSON":        func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte(`{"Topic"`)) },
		"7 a list":         func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte(`[]`)) },
		"7 nothing":        func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, nil) },
		"9 too large": func(c *websocket.Conn) error {
			return c.WriteMessage(websocket.TextMessage, []byte(`"`+strings.Repeat("x", 64<<10)+`"`))
		},
		"8 too many": func(c *websocket.Conn) error {
			for c.WriteMessage(websocket.TextMessage, []byte(`{"Action":"Cancel"}`)) == nil {
			}
			return nil
		},
	} {
		t.Run(name[2:], func(t *testing.T) {
			cfg := sample()
			cfg.MessageRate = 5
			server, _, _ := serve(t, cfg)
			conn := dial(t, server, nil)
			go send(conn)
			if code := closed(t, conn); code != 1000+int(name[0]-'0') {
				t.Error(code)
			}
		})
	}
}

func TestSocketStaysOpenForAClientThatOnlyAnswersPings(t *testing.T) {
	cfg := sample()
	cfg.PingInterval = 500 * time.Millisecond // a busy machine takes its time; twice as long without a pong closes the socket
	server, gate, _ := serve(t, cfg)
	conn := dial(t, server, nil)
	conn.SetPingHandler(func(data string) error { // twice, as one of the clients does
		_ = conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	logIn(t, conn)
	gate.set(func() { gate.clock = gate.clock.Add(10 * time.Minute) })
	go func() {
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
	eventually(t, "its use is recorded", func() bool { _, _, used := gate.count(); return used > 0 })
	time.Sleep(4 * cfg.PingInterval)
	send(t, conn, whoFrame) // it is open
	if live, _, _ := gate.count(); live != 1 {
		t.Errorf("%d sessions", live)
	}
}

func TestRateIsLimited(t *testing.T) {
	cfg := sample()
	cfg.MessageRate = 1
	server, _, _ := serve(t, cfg)
	conn := dial(t, server, nil)
	for range 2 {
		ask(t, conn, whoFrame)
	}
	if r := ask(t, conn, whoFrame); r.code() != "Limited" || *r.TransactionID != 2 {
		t.Error(r.raw)
	}
}

func TestExpiry(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn := dial(t, server, nil)
	in := logIn(t, conn)
	if in.ExpiryDate != "2030-01-01T01:00:00Z" || in.ExpiresIn != "01:00:00.0000000" || !regexp.MustCompile(`^-?\d{2}:\d{2}:\d{2}\.\d+$`).MatchString(in.ExpiresIn) {
		t.Errorf("%s, in %s", in.ExpiryDate, in.ExpiresIn)
	}
	if r := ask(t, conn, `{"Controller":"Auth","Topic":"Identify","Action":"Sub"}`); r.Topic != "Identify" || r.Action != "" || r.TransactionID != nil || r.Result != "Success" {
		t.Error(r.raw)
	}
	gate.set(func() {
		gate.clock = gate.clock.Add(time.Hour)
		for _, l := range gate.live {
			l.LastActive = session.At(gate.clock) // it was used, but its token is as old as it is
		}
	})
	past := func(r reply) reply { // the expiry may be announced by itself, as soon as the socket looks at the clock again
		if r.Topic == "Identify" && r.TransactionID == nil && r.Result == "Reject" {
			return next(t, conn)
		}
		return r
	}
	if r := past(ask(t, conn, whoFrame)); r.Result != "Reject" || r.AccessToken != "" {
		t.Errorf("after the expiry: %s", r.raw)
	}
	if r := past(ask(t, conn, tokenFrame("Bearer", in.AccessToken))); r.Result != "Success" || r.ExpiryDate != "2030-01-01T02:00:00Z" {
		t.Errorf("restored: %s", r.raw)
	}
	if r := next(t, conn); r.Topic != "Identify" || r.TransactionID != nil || r.ExpiryDate != "2030-01-01T02:00:00Z" {
		t.Errorf("announced: %s", r.raw)
	}
	// The session runs out for good: the socket stays.
	gate.set(func() { gate.clock = gate.clock.Add(30 * time.Hour) })
	gate.endElsewhere()
	if r := next(t, conn); r.Topic != "Identify" || r.Result != "Reject" {
		t.Error(r.raw)
	}
	if r := ask(t, conn, tokenFrame("Bearer", in.AccessToken)); r.Result != "Reject" {
		t.Error(r.raw)
	}
	logIn(t, conn)
}

// A session that was renewed on another socket, and ended elsewhere after what this one was granted has run out.
func TestRenewedOnAnotherSocket(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn, other := dial(t, server, nil), dial(t, server, nil)
	in := logIn(t, conn)
	gate.set(func() { gate.clock = gate.clock.Add(50 * time.Minute) })
	ask(t, other, tokenFrame("Bearer", in.AccessToken))
	gate.set(func() { gate.clock = gate.clock.Add(20 * time.Minute) })
	if r := ask(t, conn, whoFrame); r.Result != "Success" || r.ExpiryDate != "2030-01-01T01:50:00Z" {
		t.Error(r.raw)
	}
	gate.endElsewhere()
	if code := closed(t, conn); code != 4000 {
		t.Error(code)
	}
}

// The socket finds out by itself that its authentication has expired.
func TestExpiryIsAnnounced(t *testing.T) {
	gate := newFakeGate(t)
	begun := time.Now()
	cfg := sample()
	cfg.Now = func() time.Time { return gate.now().Add(time.Hour - 100*time.Millisecond + time.Since(begun)) }
	server, _ := run(t, cfg, gate)
	conn := dial(t, server, nil)
	send(t, conn, `{"Controller":"Auth","Topic":"Identify","Action":"Sub","Confirm":true}`)
	if r := next(t, conn); r.Action != "Sub" || !r.Confirm {
		t.Fatal(r.raw)
	}
	ask(t, conn, loginFrame) // by the gate's clock, that is: what it grants is about to expire
	for {
		if r := next(t, conn); r.Topic == "Identify" && r.Result == "Reject" {
			break
		}
	}
}

func TestWhileTheBookIsAway(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn := dial(t, server, nil)
	in := logIn(t, conn)
	for _, away := range []error{errAway, adapters.ErrBusy} {
		gate.set(func() { gate.away = away })
		for _, frame := range []string{loginFrame, tokenFrame("Bearer", in.AccessToken)} {
			if r := ask(t, conn, frame); r.code() != "Authority.Unavailable" || r.TransactionID == nil {
				t.Errorf("%v: %s", away, r.raw)
			}
		}
		if r := ask(t, conn, whoFrame); r.Result != "Success" {
			t.Errorf("who is on the socket is known: %s", r.raw)
		}
	}
	gate.set(func() { gate.away, gate.hang = nil, make(chan struct{}) })
	if r := ask(t, conn, `{"Controller":"Auth","Topic":"Configure","TransactionID":9,"Data":{"ActionTimeout":"00:00:00.05"}}`); r.Data != nil || *r.TransactionID != 9 {
		t.Error(r.raw)
	}
	if r := ask(t, conn, loginFrame); r.code() != "Operation.Timeout" {
		t.Errorf("beyond the client's time-out: %s", r.raw)
	}
}

// A client that stops reading loses the socket, and nobody waits for it.
func TestClientThatDoesNotRead(t *testing.T) {
	cfg := sample()
	cfg.WriteTimeout, cfg.MessageRate = 200*time.Millisecond, 1<<20
	h := New(cfg, newFakeGate(t), discard)
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(conn net.Conn, _ http.ConnState) {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(4096)
		}
	}
	server.Start()
	defer server.Close()
	conn := dial(t, server, nil)
	go func() {
		for conn.WriteMessage(websocket.TextMessage, []byte(`{"Topic":"QueryConfigure","TransactionID":1}`)) == nil {
		}
	}()
	eventually(t, "the socket goes", func() bool { return h.sockets.Open() == 0 })
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
