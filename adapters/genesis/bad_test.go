package genesis

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"rollbook/adapters/adapterstest"
)

func decoded(t *testing.T, frame, messageType string) reply {
	t.Helper()
	r := reply{raw: frame}
	if err := json.Unmarshal([]byte(frame), &r); err != nil || r.MessageType != messageType {
		t.Fatalf("%v: %s is no %s", err, frame, messageType)
	}
	return r
}

// anybodys is the kind of an acknowledgement that anybody may have.
const anybodys = "acknowledged"

// judged is a reply as the run judges it: its kind is the code of a documented refusal, or anybodys.
func judged(asked string, r reply) adapterstest.Answer {
	a := adapterstest.Answer{Asked: asked, Reply: r.raw, Status: r.status, Kind: "no refusal", Echoes: r.SourceRef == adapterstest.Presented}
	switch {
	case r.MessageType == "HEARTBEAT_PONG" && !r.Pong, r.MessageType == "LOGOFF_ACK":
		a.Kind = anybodys
	case strings.HasSuffix(r.MessageType, "_NACK") && len(r.Error) == 1 && r.Error[0].Text != "" && r.Error[0].StatusCode[0] == '4':
		a.Kind = r.code()
	}
	return a
}

// bad makes requests that are wrong in some way: by method, by path, by syntax, by type, by size, by credentials.
type bad struct{ adapterstest.Wrong }

func (b bad) path() string {
	path := b.Pick("event-login-auth", "EVENT_LOGOUT", "resources-request", "meta-request", "meta-request?DETAILS[FEATURE]=X", "heartbeat-ping",
		"event-login-details", "no-such", "", "data-logon", "DATA_LOGOFF", "req-x", "event-change-user-password", "%2e%2e/x", "event-login-auth?%zz", "%ff")
	return "/" + b.Pick("", "/", "gwf/", "sm//") + path
}

func (b bad) value() string {
	return b.Pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `"null"`, `"undefined"`, `"\ud800"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`,
		`[[["a"]]]`, `{"USER_NAME":"JaneDee","PASSWORD":"hunter2"}`, `{"USER_NAME":1}`, `{"PASSWORD":[]}`, `{"SESSION_ID":{}}`, `{"FEATURE":false}`,
		`{"REFRESH_AUTH_TOKEN":"hunter2"}`, strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100), `{"DETAILS":{"DETAILS":{}}}`)
}

func (b bad) body() string {
	return b.Spoil(b.Object(b.value, "DETAILS", "DETAILS", "SOURCE_REF", "MESSAGE_TYPE", "SESSION_AUTH_TOKEN", "SESSION_ID", "USER_NAME", "VERBOSE", "X"))
}

func (b bad) header() []string {
	var headers []string
	for _, name := range []string{"SOURCE_REF", "source-ref", "SESSION_AUTH_TOKEN", "SESSION-AUTH-TOKEN", "SESSION_ID", "USER_NAME", "REFRESH_AUTH_TOKEN", "Content-Type", "Origin", "Cookie"} {
		if b.IntN(3) == 0 {
			headers = append(headers, name+": "+b.Pick("x", "null", "undefined", "", "hunter2", "\xff\xfe", strings.Repeat("z", 300), "7043f539-160a-418a-be92-d5813a13a5fd", "a=b; c"))
		}
	}
	return headers
}

func TestMalformedCalls(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for _, cookies := range []bool{false, true} {
			cfg := quick()
			cfg.StrictStatus, cfg.Cookies = strict, cookies
			server, gate, _ := serve(t, cfg)
			b := bad{adapterstest.NewWrong(2018, 121)}
			const toHEAD = "to HEAD"
			run := adapterstest.Malformed{Requests: 1000, WarmUp: 100, Growth: 10 << 20, Documented: append([]string{anybodys, toHEAD}, documentedCodes...)}
			counts := run.Run(t, func(int) adapterstest.Answer {
				method, path, body, headers := b.Pick("POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "PATCH", "BREW"), b.path(), b.body(), b.header()
				r := ask(t, server.Client(), method, server.URL+strings.ReplaceAll(path, "%zz", "%25zz"), body, headers...)
				a := judged(fmt.Sprintf("%s %s %q %q", method, path, headers, body), r)
				switch {
				case method == "HEAD":
					a.Kind = toHEAD
				case cookies && r.MessageType == "LOGOUT_ACK": // in cookie mode a logout without a session succeeds
					a.Kind = anybodys
				case r.code() != "" && !strict && r.status != 200 && r.MessageType != detailsNack, r.status != 200 && r.status < 400:
					a.Kind = fmt.Sprintf("%s with status %d", r.code(), r.status)
				}
				return a
			})
			if refused := 1000 - counts[anybodys] - counts[toHEAD]; refused < 667 || gate.sessions() != 0 {
				t.Errorf("%d refusals of 1000, %d sessions: %v", refused, gate.sessions(), counts)
			}
		}
	}
}

func TestMalformedMessages(t *testing.T) {
	cfg := quick()
	cfg.MessageRate = 1 << 20
	server, gate, _ := serve(t, cfg)
	conn := dial(t, server, "/")
	b := bad{adapterstest.NewWrong(2018, 122)}
	run := adapterstest.Malformed{Requests: 1000, WarmUp: 100, Growth: 10 << 20, Documented: append([]string{anybodys}, documentedCodes...)}
	run.Run(t, func(int) adapterstest.Answer {
		body := b.body()
		if b.IntN(2) == 0 {
			body = fmt.Sprintf(`{"MESSAGE_TYPE":"%s","DETAILS":%s,"SESSION_AUTH_TOKEN":%s}`, b.Pick("EVENT_LOGIN_AUTH", "EVENT_LOGOUT", "META_REQUEST",
				"RESOURCES_REQUEST", "EVENT_LOGIN_DETAILS", "HEARTBEAT_PING", "DATA_LOGON", "MORE_ROWS", "EVENT_X", "REQ_X"), b.value(), b.value())
		}
		kind := websocket.TextMessage
		if strings.ContainsRune(body, '\uFFFD') || strings.Contains(body, "\xff") || b.IntN(20) == 0 {
			kind = websocket.BinaryMessage
		}
		if err := conn.WriteMessage(kind, []byte(body)); err != nil {
			t.Fatal(err)
		}
		r := reply{raw: receive(t, conn)}
		if err := json.Unmarshal([]byte(r.raw), &r); err != nil {
			t.Fatal(err)
		}
		return judged(fmt.Sprintf("%q", body), r)
	})
	if gate.sessions() != 0 {
		t.Errorf("%d sessions", gate.sessions())
	}
	logIn(t, conn)
}

func TestLargeBodies(t *testing.T) {
	server, _, _ := serve(t, quick())
	for _, size := range []int{256 << 10, 1 << 20, 3 << 20} {
		for _, path := range []string{"/event-login-auth", "/no-such"} {
			r := ask(t, server.Client(), "POST", server.URL+path, `{"DETAILS":"`+strings.Repeat("x", size)+`"}`, "SOURCE_REF: big")
			if r.status != 200 || r.code() != "INVALID_MESSAGE" || r.Error[0].StatusCode != "413 Payload Too Large" || r.SourceRef != "big" {
				t.Errorf("%d bytes to %s: %d %s", size, path, r.status, r.raw)
			}
		}
	}
	padded := strings.Replace(loginBody, "{", `{"X":"`+strings.Repeat("x", 200<<10)+`",`, 1)
	if r := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", padded); r.MessageType != "EVENT_LOGIN_AUTH_ACK" {
		t.Errorf("200 KiB: %s", r.raw)
	}
}

// A body that never ends is answered too.
func TestSlowBody(t *testing.T) {
	cfg := quick()
	cfg.CallTimeout = 100 * 1e6
	server, _, _ := serve(t, cfg)
	for request, nackType := range map[string]string{"POST /event-login-auth": loginNack, "PUT /event-logout": logoutNack,
		"GET /heartbeat-ping": messageNack, "POST /no-such": messageNack} {
		response, body := adapterstest.Exchange(t, server, request+" HTTP/1.1\nHost: x\nSOURCE_REF: slow\nContent-Length: 100\n")
		r := decoded(t, body, nackType)
		if response.StatusCode != 200 || r.code() != "OPERATION_TIMEOUT" && !strings.HasPrefix(request, "PUT") || r.SourceRef != "slow" {
			t.Errorf("%s: %d %s", request, response.StatusCode, r.raw)
		}
	}
}

// FuzzDecodeMessage holds the decoder to JSON's own rules, and a call to its bounds.
func FuzzDecodeMessage(f *testing.F) {
	for _, seed := range []string{loginBody, `{"DETAILS":{"FEATURE":"X","SESSION_ID":"undefined"},"VERBOSE":true,"MESSAGE_TYPE":"META_REQUEST"}`, `{"a":"\"{[\\"}`,
		`{"SOURCE_REF":"x","SOURCE_REF":7}`, `[]`, ``, ` {} `, `{"DETAILS":null}`, strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40), `{"a":1e999}`, "\f{}", "\u00a0{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, fault := decodeMessage(data)
		if (m == nil) == (fault == nil) {
			t.Fatalf("message %v, fault %v", m, fault)
		}
		if fault != nil {
			if fault.code != "INVALID_MESSAGE" || fault.status != http.StatusBadRequest {
				t.Fatalf("%+v", fault)
			}
			return
		}
		if len(bytes.TrimSpace(data)) > 0 && !json.Valid(data) {
			t.Fatalf("%q is not JSON", data)
		}
		for _, name := range []string{"", "event-login-auth", "meta-request"} {
			c := &call{name: name, socket: &socketTimes{}}
			if fault := c.readBody(m); fault != nil {
				if !slices.Contains(documentedCodes, fault.code) || fault.status != http.StatusBadRequest {
					t.Fatalf("%+v", fault)
				}
				continue
			}
			if len(c.user) > maxUserName || len(c.password) > maxPassword || len(c.ref) > 4*maxRef {
				t.Fatalf("out of bounds: %d %d %d", len(c.user), len(c.password), len(c.ref))
			}
			for _, token := range []string{c.access, c.refresh, c.handle} {
				if token == "null" || token == "undefined" {
					t.Fatalf("%q is a token", token)
				}
			}
		}
	})
}
