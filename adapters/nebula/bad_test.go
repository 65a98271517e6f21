package nebula

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/gorilla/websocket"

	"rollbook/adapters/adapterstest"
)

// bad makes requests and frames that are wrong in some way.
type bad struct{ adapterstest.Wrong }

func (b bad) value() string {
	return b.Pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `"\ud800"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`, `1.5`, `"1657556824000"`, `9223372036854775808`,
		`{"token":7}`, `{"token":"hunter2"}`, `{"token":"a.b.c"}`, `{"apiKey":"k"}`, `{"apiKey":"k","timestamp":1657556824000,"signature":"hunter2"}`, `{"username":"x","password":"hunter2"}`,
		`{"username":[]}`, `[[["a"]]]`, strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100), strings.Repeat(`{"d":`, 100)+"1"+strings.Repeat(`}`, 100))
}

func (b bad) object(names ...string) string { return b.spoil(b.Object(b.value, names...)) }

func (b bad) spoil(text string) string { return b.Spoil(text, strings.Repeat(" ", 61<<10)) }

// documented are the replies over HTTP, by status and code.
var documented = []string{"400 100", "400 400", "401 10000", "403 2", "404 404"}

func TestMalformedCalls(t *testing.T) {
	d := serve(t, Config{})
	b := bad{adapterstest.NewWrong(2022, 711)}
	run := adapterstest.Malformed{Requests: 1500, WarmUp: 100, Growth: 10 << 20, Documented: documented}
	counts := run.Run(t, func(int) adapterstest.Answer {
		method := b.Pick("POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "BREW")
		path := b.Pick(tokenPath, tokenPath, tokenPath, "/", "/trader-api/", "/trader-api/auth/token/", "//trader-api/auth/token", "/trader-api/../auth/token", "/TRADER-API/auth/token", "/trader-api/%2e%2e/x", "/api/auth/token", "/%ff")
		body, auth := b.object("email", "password", "email", "password", "x"), b.Pick("", "Bearer", "Bearer ", "Bearer hunter2", "bearer a.b.c", "Basic aHVudGVyMg==", "Bearer "+strings.Repeat("x.", 3000))
		response, reply := request(t, d.Server, method, path, body, "Authorization", auth, "Content-Type", b.Pick("", "application/json", "text/xml", "multipart/form-data"))
		a := adapterstest.Answer{Asked: fmt.Sprintf("%s %s %.60q %.300q", method, path, auth, body), Status: response.StatusCode, Reply: reply}
		var f struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal([]byte(reply), &f); err == nil && f.Message != "" && response.Header.Get("Content-Type") == "application/json" {
			a.Kind = fmt.Sprintf("%d %d", response.StatusCode, f.Code)
		}
		return a
	})
	for _, some := range []string{"400 400", "401 10000", "404 404"} {
		if counts[some] < 10 {
			t.Errorf("%d replies are %s: %v", counts[some], some, counts)
		}
	}
	if d.gate.sessions() != 0 {
		t.Errorf("%d sessions", d.gate.sessions())
	}
}

// documentedErrors are the errors of frames, by type and code.
var documentedErrors = []string{`"400" 400`, `"400" 6002`, `"401" 6000`, `"401" 6001`, `"401" 200`, `"401" 1007`, `"500" 500`, `"503" 503`}

func TestMalformedFrames(t *testing.T) {
	d := serve(t, Config{MessageRate: 1 << 20})
	conn := dial(t, d.Server, "/")
	b := bad{adapterstest.NewWrong(2022, 712)}
	run := adapterstest.Malformed{Requests: 1500, WarmUp: 100, Growth: 10 << 20, Documented: append([]string{passedOver, "answered"}, documentedErrors...)}
	counts := run.Run(t, func(int) adapterstest.Answer {
		frame := b.object("q", "sid", "sig", "d", "q", "sid", "x")
		if b.IntN(3) > 0 {
			frame = b.spoil(fmt.Sprintf(`{"q":%s,"sid":%s,"d":%s,"sig":%s}`,
				b.Pick(`"v1/broker.oms/createSession"`, `"exchange.market/createSession"`, `"v1/heartbeat/ping"`, `"v1/broker.oms/x"`, `"y"`, `7`, `null`), b.Pick(`1`, `"2"`, `0`, `-1`, `null`, `1.5`, `[]`), b.value(), b.Pick("null", "null", "1", "3", "9", `"3"`)))
		}
		kind := websocket.TextMessage
		if strings.Contains(frame, "\xff") || b.IntN(20) == 0 {
			kind = websocket.BinaryMessage
		}
		must(t, conn.WriteMessage(kind, []byte(frame)))
		a := answered(t, conn)
		a.Asked = fmt.Sprintf("%.300q", frame)
		return a
	})
	if silent := counts[passedOver]; silent < 200 || silent > 1300 || d.gate.sessions() != 0 {
		t.Errorf("%d of 1500 were passed over, %d sessions", silent, d.gate.sessions())
	}
	asks(t, conn, createFrame(d.token(t), 1), created)
}

const passedOver = "passed over"

// answered is what one frame gets: all that comes before the answer to a sound one that is sent behind it. Of several
// messages the first that is not documented counts, or else the last.
func answered(t *testing.T, conn *websocket.Conn) adapterstest.Answer {
	t.Helper()
	send(t, conn, createFrame("fence", -99))
	a := adapterstest.Answer{Kind: passedOver, Echoes: true} // a ping brings back what it is given
	for bad := false; ; {
		got := receive(t, conn)
		if strings.Contains(got, `"sid":-99`) {
			return a
		}
		a.Reply += got
		if bad {
			continue
		}
		var r struct {
			Sig       int
			Q         *string
			ErrorType string
			SID       *int64
			D         json.RawMessage
		}
		if err := json.Unmarshal([]byte(got), &r); err != nil || r.Q == nil {
			t.Fatal(got)
		}
		switch {
		case r.Sig == 2:
			parts := strings.SplitN(frameErrorOf(t, got), " ", 3)
			a.Kind = parts[0] + " " + parts[1]
			bad = !slices.Contains(documentedErrors, a.Kind)
		case r.SID == nil || r.Sig != 0 && r.Sig != 1 && r.Sig != 3 || r.Sig != 3 && *r.Q != heartbeat:
			a.Kind, bad = "unknown", true
		default:
			a.Kind = "answered"
		}
	}
}

// TestBodies: too large ones and ones that never end are refused in time.
func TestBodies(t *testing.T) {
	d := serve(t, Config{CallTimeout: 200 * time.Millisecond})
	for _, size := range []int{60 << 10, 700 << 10} {
		response, body := post(t, d.Server, `{"email":"`+strings.Repeat("x", size)+`"}`)
		if response.StatusCode != 400 || body != `{"code":400,"message":"The body is too large"}` {
			t.Errorf("%d bytes: %d %s", size, response.StatusCode, body)
		}
	}
	if response, body := post(t, d.Server, `{"x":"`+strings.Repeat("x", 50<<10)+`","email":"`+jane+`","password":"`+password+`"}`); response.StatusCode != 200 {
		t.Errorf("50 KiB: %d %s", response.StatusCode, body)
	}
	for _, head := range []string{"POST /trader-api/auth/token", "POST /trader-api/x", "PUT /", "GET /.well-known/jwks.json"} {
		reply := adapterstest.Raw(t, d.Server, head+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
		if !strings.HasPrefix(reply, "HTTP/1.1 ") || strings.HasPrefix(reply, "HTTP/1.1 5") {
			t.Errorf("%s: %.100q", head, reply)
		}
	}
}

func TestBadSettings(t *testing.T) {
	for n, cfg := range []Config{{KeyLead: 24 * time.Hour}, {KeyCache: time.Hour}, {TimestampWindow: 5 * time.Minute}, {MaxBody: -1}, {CallTimeout: -1}, {AllowedOrigins: []string{"example.com"}}} {
		if cfg.Validate() == nil {
			t.Errorf("no. %d is taken", n)
		}
	}
	good := Issuer{URL: "https://a.example/", Audience: "x", Alias: "a"}
	for n, issuers := range [][]Issuer{{{URL: "http://a.example/", Audience: "x", Alias: "a"}}, {{URL: "a.example", Audience: "x", Alias: "a"}}, {{URL: good.URL, Alias: "a"}}, {{URL: good.URL, Audience: "x"}}, {good, good},
		{good, {URL: "https://b.example/", Audience: "x", Alias: "a"}}, {{URL: DefaultConfig().Issuer, Audience: "x", Alias: "a"}}} {
		if (Config{Issuers: issuers}).Validate() == nil {
			t.Errorf("issuers no. %d are taken", n)
		}
	}
	for _, cfg := range []Config{{}, DefaultConfig(), {Issuers: []Issuer{good}}, {AllowedOrigins: []string{}}} {
		must(t, cfg.Validate())
	}
}

func FuzzDecodeFrame(f *testing.F) {
	for _, seed := range []string{`{"q":"v1/broker.oms/createSession","sid":15,"d":{"token":"Auth0Token"}}`, `{"q":"exchange.market/createSession","sid":"1","sig":3,"d":null}`,
		`{"d":{"apiKey":"1234567abcdz","timestamp":1795357539516,"signature":"9c74"},"q":"exchange.market/createSession","sid":1}`, `{"sid":1e3}`, `{"sid":0,"sid":-1}`, `[]`, ``, `{"d":[[[1]]]}`, `{"q":"\ud800"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, ok := decodeFrame(data)
		if !ok {
			return
		}
		if !json.Valid(data) || !frame.numbered && frame.sid != 0 || frame.body != nil && !json.Valid(frame.body) {
			t.Fatalf("%q gives %+v", data, frame)
		}
		for _, reply := range [][]byte{frame.error(&noSID), frame.signal(sigComplete), frame.value(frame.body)} {
			if !json.Valid(reply) {
				t.Fatalf("%q is no JSON", reply)
			}
		}
		for _, exchange := range []bool{false, true} {
			p, fault := decodePresented(frame.body, exchange)
			if fault == nil && (p.token == "" && (p.apiKey == "" || p.at == "" || p.signature == "") && (p.username == "" || p.password == "") || !exchange && p.token == "") {
				t.Fatalf("%q presents nothing", frame.body)
			}
		}
	})
}

func FuzzDecodeLogin(f *testing.F) {
	for _, seed := range []string{`{"email":"jane@example.com","password":"x"}`, `{"email":7}`, `{"email":"a","email":null,"password":""}`, `null`, ` {} `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		email, password, fault := decodeLogin(data)
		if fault == nil && (email == "" || password == "" || len(email) > maxName || len(password) > maxPassword || !json.Valid(data)) || fault != nil && fault.status != http.StatusBadRequest {
			t.Fatalf("%q gives %+v", data, fault)
		}
	})
}

func FuzzOutlineOf(f *testing.F) {
	good := forge(spareKeys()[0], `{"alg":"RS256","typ":"JWT","kid":"x"}`, `{"iss":"y"}`)
	for _, seed := range []string{good, good + ".", "a.b.c", "...", "eyJhbGciOiJub25lIn0.e30.", "e30.e30.e30"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		o, ok := outlineOf(token)
		if ok && (o.token != token || o.header.alg != "RS256" || o.header.kid == "" || strings.Count(token, ".") != 2) {
			t.Fatalf("%q gives %+v", token, o)
		}
		// The library that verifies it must not see another header.
		if signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256}); ok && err == nil &&
			(len(signed.Signatures) != 1 || signed.Signatures[0].Protected.KeyID != o.header.kid || signed.Signatures[0].Protected.Algorithm != o.header.alg) {
			t.Fatalf("%q gives %+v, and to the library %+v", token, o, signed.Signatures)
		}
	})
}
