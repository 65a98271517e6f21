package zenith

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
)

// bad makes frames that are wrong in some way: by syntax, by type, by size, by name, by credentials.
type bad struct{ adapterstest.Wrong }

func (b bad) value() string {
	return b.Pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `"\ud800"`, `"\u0000"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`, `[[["a"]]]`,
		`{"Provider":"Rollbook","ClientID":"c","AuthGrant":"`+base64.StdEncoding.EncodeToString([]byte("JaneDee:hunter2"))+`"}`,
		`{"Provider":"Rollbook","ClientID":"c","AuthGrant":"{\"UserName\":7}"}`, `{"Provider":"BasicAuth","ClientID":"c","Username":"JaneDee","Password":"hunter2"}`,
		`{"Provider":"Bearer","AccessToken":"hunter2"}`, `{"Provider":"Bearer","AccessToken":"`+fakeToken(9)+`"}`, `{"Provider":"Rollbook","ClientID":"c","AuthGrant":"x","Scope":"all"}`,
		`{"Provider":"Rollbook","ClientID":"c","AuthGrant":"x","Scope":[`+strings.Repeat(`"a",`, 64)+`"a"]}`, `{"Provider":["Rollbook"]}`, `{"ActionTimeout":"-1"}`, `{"ActionTimeout":[]}`,
		strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100))
}

func (b bad) frame() string {
	var frame strings.Builder
	frame.WriteString("{")
	for i := range b.IntN(7) {
		if i > 0 {
			frame.WriteString(",")
		}
		switch name := b.Pick("Controller", "Topic", "Action", "TransactionID", "Data", "Data", "Confirm", "controller", "X"); {
		case b.IntN(3) > 0 && name == "Controller":
			fmt.Fprintf(&frame, `"Controller":"%s"`, b.Pick("Auth", "Auth", "Zenith", "Market", "auth", ""))
		case b.IntN(3) > 0 && name == "Topic":
			fmt.Fprintf(&frame, `"Topic":"%s"`, b.Pick("AuthCode", "AuthOwner", "AuthToken", "QueryIdentify", "Configure", "QueryMarkets", "Identify", "authcode"))
		case b.IntN(3) > 0 && name == "Action":
			fmt.Fprintf(&frame, `"Action":"%s"`, b.Pick("Publish", "Sub", "Unsub", "Cancel", "Error", "publish", "X"))
		case b.IntN(3) > 0 && name == "TransactionID":
			fmt.Fprintf(&frame, `"TransactionID":%s`, b.Pick("1", "-1", "0", "1.5", "1e3", "99999999999999999999", "007", `"1"`))
		default:
			fmt.Fprintf(&frame, "%q:%s", name, b.value())
		}
	}
	frame.WriteString("}")
	return b.Spoil(frame.String(), "")
}

// TestMalformedFrames: whatever a client sends, it gets a documented answer or a documented close code, no session, and
// costs no memory that stays.
func TestMalformedFrames(t *testing.T) {
	cfg := sample()
	cfg.MessageRate = 1 << 20
	server, gate, h := serve(t, cfg)
	conn := dial(t, server, nil)
	b := bad{adapterstest.NewWrong(2024, 3)}
	run := adapterstest.Malformed{Requests: 3000, WarmUp: 500, Growth: 16 << 20, Documented: append(kinds(), "close 1007")}
	counts := run.Run(t, func(n int) adapterstest.Answer {
		frame, kind := b.frame(), websocket.TextMessage
		if b.IntN(2) == 0 {
			frame = fmt.Sprintf(`{"Controller":"Auth","Topic":"%s","TransactionID":%d,"Data":%s}`, b.Pick("AuthCode", "AuthOwner", "AuthToken"), n, b.value())
		}
		if b.IntN(50) == 0 {
			kind = websocket.BinaryMessage
		}
		must(t, conn.WriteMessage(kind, []byte(frame)))
		a := answered(t, conn)
		if strings.HasPrefix(a.Kind, "close") {
			conn.Close()
			conn = dial(t, server, nil)
		}
		a.Asked = fmt.Sprintf("%q", frame)
		return a
	})
	errs := 0
	for _, code := range documented {
		errs += counts[code]
	}
	if live, _, _ := gate.count(); live != 0 || errs < 300 || counts["Reject"] < 20 || counts["close 1007"] < 300 {
		t.Errorf("%d sessions, %v", live, counts)
	}
	logIn(t, conn)
	conn.Close()
	eventually(t, "the sockets go", func() bool { return h.sockets.Open() == 0 })
}

// kinds are the answers to a frame, the gravest last.
func kinds() []string { return append([]string{"nothing", "no failure", "Reject"}, documented...) }

// answered is what one frame gets: all up to the answer of a sound question that is sent behind it, or the close. Of
// several messages the gravest counts, and all are looked at for what was presented.
func answered(t *testing.T, conn *websocket.Conn) adapterstest.Answer {
	t.Helper()
	_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"Topic":"QueryConfigure","TransactionID":424242}`)) // it may be closed by now
	known := kinds()
	a := adapterstest.Answer{Kind: known[0], Echoes: true}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, message, err := conn.ReadMessage()
		if e := (*websocket.CloseError)(nil); errors.As(err, &e) {
			a.Kind = fmt.Sprint("close ", e.Code)
			return a
		}
		must(t, err)
		if strings.Contains(string(message), `"TransactionID":424242`) {
			return a
		}
		r := reply{raw: string(message)}
		must(t, json.Unmarshal(message, &r))
		_ = json.Unmarshal(r.Data, &r.authority)
		a.Reply += r.raw
		// A topic and a controller are given back as they came.
		a.Echoes = a.Echoes && (!strings.Contains(r.raw, adapterstest.Presented) || r.Topic == adapterstest.Presented || r.Controller == adapterstest.Presented)
		grave := slices.Index(known, kindOf(r))
		if grave < 0 {
			a.Kind = kindOf(r)
			return a
		}
		a.Kind = known[max(grave, slices.Index(known, a.Kind))]
	}
}

// kindOf is what a message says, in short.
func kindOf(r reply) string {
	code, _, _ := strings.Cut(r.code(), " ")
	switch {
	case r.Action == "Error":
		return code
	case r.Result == "Reject" && r.AccessToken == "":
		return "Reject"
	case r.Action == "Sub", r.Action == "Unsub", string(r.Data) == "null", r.Topic == "QueryConfigure", r.Topic == "Configure":
		return "no failure"
	}
	return "unknown"
}

// TestMalformedHandshakes: a handshake that is not good has a status below 500, and no redirect.
func TestMalformedHandshakes(t *testing.T) {
	server, gate, _ := serve(t, sample())
	b := bad{adapterstest.NewWrong(2024, 4)}
	run := adapterstest.Malformed{Requests: 1000, WarmUp: 100, Growth: 16 << 20, Documented: []string{"101", "400", "403", "404", "405", "426"}}
	run.Run(t, func(int) adapterstest.Answer {
		target := b.Pick("/Zenith", "/Zenith", "/zenith/", "/", "//Zenith", "/Zenith/x", "/Zenith?version=", "/Zenith?version=9", "/Zenith?version=%ff", "/Zenith?version=2.0&version=1", "/%2e%2e/Zenith")
		method, header := b.Pick("GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "BREW"), http.Header{}
		for _, field := range []struct {
			name   string
			values []string
		}{
			{"Upgrade", []string{"websocket", "h2c", ""}}, {"Connection", []string{"Upgrade", "close"}}, {"Sec-WebSocket-Version", []string{"13", "12", "x"}},
			{"Sec-WebSocket-Key", []string{"x", "dGhlIHNhbXBsZSBub25jZQ=="}}, {"Sec-WebSocket-Protocol", []string{"ZenithBson", ",,", "zenithjson"}},
			{"Authorization", []string{"Bearer", "Bearer hunter2", "Basic x", "\xff", "Bearer " + strings.Repeat("z", 20000), "BasicAuth " + fakeToken(5)}},
		} {
			if b.IntN(3) > 0 {
				header.Set(field.name, b.Pick(field.values...))
			}
		}
		r, body := adapterstest.Call(t, server.Client(), method, server.URL+target, "", header)
		a := adapterstest.Answer{Asked: fmt.Sprintf("%s %s %q", method, target, header), Status: r.StatusCode, Kind: fmt.Sprint(r.StatusCode), Reply: body}
		if r.Header.Get("Cache-Control") != "no-store" {
			a.Kind += ", may be stored"
		}
		return a
	})
	if live, _, _ := gate.count(); live != 0 {
		t.Errorf("%d sessions", live)
	}
}

// FuzzDecodeEnvelope holds the decoder to JSON's own rules and to its bounds.
func FuzzDecodeEnvelope(f *testing.F) {
	for _, seed := range []string{loginFrame, whoFrame, tokenFrame("Bearer", "x"), `{}`, `[]`, `null`, ``, `{"TransactionID":1.0}`, `{"Data":"x"}`, `{"Data":null,"Action":"Sub","Confirm":true}`,
		`{"controller":"x","Controller":7}`, `{"Topic":"a","Topic":"b"}`, strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, code, err := decodeEnvelope(data)
		if err != nil {
			if err != errPacket || code != "" {
				t.Fatalf("%v, %s", err, code)
			}
			return
		}
		if !json.Valid(data) || !utf8.Valid(data) || code != "" && code != badData {
			t.Fatalf("%q: %q", data, code)
		}
		if r.controller == "" || r.action == "" || len(r.controller) > maxName || len(r.topic) > maxName || len(r.action) > maxName || len(r.transaction) > 20 {
			t.Fatalf("out of bounds: %+v", r)
		}
		for _, e := range r.failed(code) {
			if !json.Valid(adapters.RenderJSON(e)) {
				t.Fatalf("the answer is %s", adapters.RenderJSON(e))
			}
		}
	})
}

// FuzzGrants: no grant breaks its decoder, and none gives a login without a name and something to check.
func FuzzGrants(f *testing.F) {
	for _, seed := range []string{"authGrant", "SmFuZURlZTpiZU9Obk9OKjc0", `{"UserName":"a","Password":"b"}`, "", "=", "eyJhbGciOiJub25lIn0.e30.", `{"code":"x","redirect_uri":"y"}`, `{"id_token":"a.b.c"}`, `{"id_token":7}`, fakeToken(1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, grant string) {
		l, err := (passwords{}).Understand(t.Context(), grant)
		if (err == nil) == (l.Name == "" || l.Password == "") || err == nil && !utf8.ValidString(l.Name) || len(l.Name) > maxUser || len(l.Password) > maxPassword {
			t.Fatalf("%q: %+v, %v", grant, l, err)
		}
		if g, ok := readGrant(grant); ok && (g.IDToken == "") == (g.Code == "") {
			t.Fatalf("%q: %+v", grant, g)
		}
		if token, ok := issued(grant); ok {
			again, ok := issued(token)
			if data, err := base64.StdEncoding.DecodeString(token); err != nil || len(data) != tokenBytes || !ok || again != token {
				t.Fatalf("%q is the token %q", grant, token)
			}
		}
	})
}

// FuzzScopes: what is granted is never more than the user has, and fits the book.
func FuzzScopes(f *testing.F) {
	for _, seed := range []string{"Paritech.Zenith", "Zenith", "Zenith/Market", "Paritech.Zenith.Market.Data", "openid profile", "Zenith/*", "Paritech.Zenith..", "Zenith/a/b/c", "Paritech.Zenith.*"} {
		f.Add(seed, "00:01:00.5")
	}
	own := []right{"Market", "Trading.Read"}
	f.Fuzz(func(t *testing.T, asked, span string) {
		if len(asked) > 4096 {
			return
		}
		granted := grantScopes(strings.Fields(asked), own)
		if len(granted) > maxGranted {
			t.Fatalf("%d scopes", len(granted))
		}
		for _, scope := range granted {
			r := parseScope(scope)
			if len(scope) > maxScope || !slices.ContainsFunc(own, func(o right) bool { return o.covers(r) }) {
				t.Fatalf("%q was granted for %q", scope, asked)
			}
		}
		if d, ok := parseTime(span); ok && d >= 100 {
			if back, ok := parseTime(formatTime(d)); !ok || d-back >= 100 || d < back {
				t.Fatalf("%q is %s, and back %s", span, d, back)
			}
		}
	})
}
