package zenith

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"rollbook/adapters"
)

// bad makes frames that are wrong in some way: by syntax, by type, by size, by name, by credentials.
type bad struct{ *rand.Rand }

func (b bad) pick(of ...string) string { return of[b.IntN(len(of))] }

func (b bad) value() string {
	return b.pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `"\ud800"`, `"\u0000"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`, `[[["a"]]]`,
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
		switch name := b.pick("Controller", "Topic", "Action", "TransactionID", "Data", "Data", "Confirm", "controller", "X"); {
		case b.IntN(3) > 0 && name == "Controller":
			fmt.Fprintf(&frame, `"Controller":"%s"`, b.pick("Auth", "Auth", "Zenith", "Market", "auth", ""))
		case b.IntN(3) > 0 && name == "Topic":
			fmt.Fprintf(&frame, `"Topic":"%s"`, b.pick("AuthCode", "AuthOwner", "AuthToken", "QueryIdentify", "Configure", "QueryMarkets", "Identify", "authcode"))
		case b.IntN(3) > 0 && name == "Action":
			fmt.Fprintf(&frame, `"Action":"%s"`, b.pick("Publish", "Sub", "Unsub", "Cancel", "Error", "publish", "X"))
		case b.IntN(3) > 0 && name == "TransactionID":
			fmt.Fprintf(&frame, `"TransactionID":%s`, b.pick("1", "-1", "0", "1.5", "1e3", "99999999999999999999", "007", `"1"`))
		default:
			fmt.Fprintf(&frame, "%q:%s", name, b.value())
		}
	}
	frame.WriteString("}")
	text := frame.String()
	switch b.IntN(8) {
	case 0:
		return text[:b.IntN(len(text)+1)]
	case 1:
		at := b.IntN(len(text))
		return text[:at] + "\xff" + text[at:]
	case 2:
		return b.pick("[]", "null", "7", `"x"`, text+text, "\ufeff"+text, "<xml/>", strings.Repeat("{", 5000), strings.Repeat(`{"a":`, 5000), "\x00", "")
	}
	return text
}

// TestMalformedFrames: whatever a client sends, it gets a documented answer or a documented close code, no session, and
// costs no memory that stays.
func TestMalformedFrames(t *testing.T) {
	cfg := sample()
	cfg.MessageRate = 1 << 20
	server, gate, h := serve(t, cfg)
	conn := dial(t, server, nil)
	b := bad{rand.New(rand.NewPCG(2024, 3))}
	var before, after runtime.MemStats
	errs, rejects, closes := 0, 0, 0
	for i := range 3000 {
		if i == 500 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		frame, kind := b.frame(), websocket.TextMessage
		if b.IntN(2) == 0 {
			frame = fmt.Sprintf(`{"Controller":"Auth","Topic":"%s","TransactionID":%d,"Data":%s}`, b.pick("AuthCode", "AuthOwner", "AuthToken"), i, b.value())
		}
		if b.IntN(50) == 0 {
			kind = websocket.BinaryMessage
		}
		// A sound question behind it shows when all has been answered.
		if conn.WriteMessage(kind, []byte(frame)) != nil || conn.WriteMessage(websocket.TextMessage, []byte(`{"Topic":"QueryConfigure","TransactionID":424242}`)) != nil {
			t.Fatalf("frame %d: the socket does not take %q", i, frame)
		}
		for done := false; !done; {
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, message, err := conn.ReadMessage()
			if e := (*websocket.CloseError)(nil); errors.As(err, &e) {
				if e.Code != websocket.CloseInvalidFramePayloadData {
					t.Fatalf("frame %d: closed with %d after %q", i, e.Code, frame)
				}
				closes++
				conn.Close()
				conn = dial(t, server, nil)
				break
			} else if err != nil {
				t.Fatalf("frame %d: %v after %q", i, err, frame)
			}
			r := reply{raw: string(message)}
			if err := json.Unmarshal(message, &r); err != nil {
				t.Fatal(err)
			}
			_ = json.Unmarshal(r.Data, &r.authority)
			if strings.Contains(r.raw, "hunter2") && !strings.Contains(r.raw, `"Topic":"hunter2"`) && !strings.Contains(r.raw, `"Controller":"hunter2"`) {
				t.Errorf("frame %d: the answer holds what was presented: %s", i, r.raw)
			}
			code, _, _ := strings.Cut(r.code(), " ")
			switch {
			case strings.Contains(r.raw, `"TransactionID":424242`):
				done = true
			case r.Action == "Error" && slices.Contains(documented, code):
				errs++
			case r.Result == "Reject" && r.AccessToken == "":
				rejects++
			case r.Action == "Sub", r.Action == "Unsub", string(r.Data) == "null", r.Topic == "QueryConfigure", r.Topic == "Configure":
			default:
				t.Errorf("frame %d: %s after %q", i, r.raw, frame)
			}
		}
	}
	if live, _, _ := gate.count(); live != 0 || errs < 300 || rejects < 20 || closes < 300 {
		t.Errorf("%d sessions, %d errors, %d rejections, %d closes", live, errs, rejects, closes)
	}
	logIn(t, conn)
	conn.Close()
	eventually(t, "the sockets go", func() bool { return h.sockets.Open() == 0 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc > before.HeapAlloc+16<<20 {
		t.Errorf("the heap went from %d to %d bytes", before.HeapAlloc, after.HeapAlloc)
	}
}

// TestMalformedHandshakes: a handshake that is not good has a status below 500, and no redirect.
func TestMalformedHandshakes(t *testing.T) {
	server, gate, _ := serve(t, sample())
	b := bad{rand.New(rand.NewPCG(2024, 4))}
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("a redirect") }
	for i := range 500 {
		target := b.pick("/Zenith", "/Zenith", "/zenith/", "/", "//Zenith", "/Zenith/x", "/Zenith?version=", "/Zenith?version=9", "/Zenith?version=%ff", "/Zenith?version=2.0&version=1", "/%2e%2e/Zenith")
		request, err := http.NewRequest(b.pick("GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "BREW"), server.URL+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range map[string][]string{
			"Upgrade": {"websocket", "h2c", ""}, "Connection": {"Upgrade", "close"}, "Sec-WebSocket-Version": {"13", "12", "x"}, "Sec-WebSocket-Key": {"x", "dGhlIHNhbXBsZSBub25jZQ=="},
			"Sec-WebSocket-Protocol": {"ZenithBson", ",,", "zenithjson"}, "Authorization": {"Bearer", "Bearer hunter2", "Basic x", "\xff", "Bearer " + strings.Repeat("z", 20000), "BasicAuth " + fakeToken(5)}} {
			if b.IntN(3) > 0 {
				request.Header.Set(name, b.pick(values...))
			}
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatalf("%d: %v: %s %s %q", i, err, request.Method, target, request.Header)
		}
		response.Body.Close()
		if s := response.StatusCode; s != 101 && (s < 400 || s >= 500) || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d: %s: %s %s %q", i, response.Status, request.Method, target, request.Header)
		}
	}
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
