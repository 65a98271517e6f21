package genesis

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

const loginBody = `{"DETAILS":{"USER_NAME":"JaneDee","PASSWORD":"` + fakePassword + `"}}`

// reply is what any call gets.
type reply struct {
	MessageType string `json:"MESSAGE_TYPE"`
	SourceRef   string `json:"SOURCE_REF"`
	Access      string `json:"SESSION_AUTH_TOKEN"`
	Refresh     string `json:"REFRESH_AUTH_TOKEN"`
	SessionID   string `json:"SESSION_ID"`
	UserName    string `json:"USER_NAME"`
	Code        string `json:"CODE"`
	Pong        bool   `json:"IS_AUTHENTICATED"`
	Details     struct {
		Failed int `json:"FAILED_LOGIN_ATTEMPTS"`
	} `json:"DETAILS"`
	Error []nackError `json:"ERROR"`

	status int
	header http.Header
	raw    string
}

// code is the code of a refusal; empty for an acknowledgement.
func (r reply) code() string {
	if len(r.Error) == 0 {
		return ""
	}
	return r.Error[0].Code
}

// ask makes one call. Headers are given as "NAME: value".
func ask(t *testing.T, client *http.Client, method, url, body string, headers ...string) reply {
	t.Helper()
	response, raw := adapterstest.Call(t, client, method, url, body, adapterstest.Headers(headers...))
	r := reply{status: response.StatusCode, header: response.Header, raw: raw}
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &r); err != nil {
			t.Fatalf("%s %s: %v in %s", method, url, err, raw)
		}
	}
	return r
}

func TestEveryRefusalIsMapped(t *testing.T) {
	h := New(quick(), newFakeGate(t), discard)
	for _, code := range session.Refusals() {
		f, mapped := wire[code]
		if !mapped || f.code == "" || f.text == "" || http.StatusText(f.status) == "" {
			t.Errorf("%s is not mapped: %+v", code, f)
		}
		for _, got := range []*fault{h.refused(adapters.Refused{Code: code}), h.refreshRefused(adapters.Refused{Code: code})} {
			if !slices.Contains(documentedCodes, got.code) {
				t.Errorf("%s becomes %s, which is no code of the venue", code, got.code)
			}
		}
	}
	if len(wire) != len(session.Refusals()) {
		t.Errorf("%d refusals are mapped, there are %d", len(wire), len(session.Refusals()))
	}
}

// documentedCodes are the codes that the venue's documents and clients name.
var documentedCodes = []string{
	"UNKNOWN_ACCOUNT", "MAX_ACTIVE_SESSIONS_REACHED", "INCORRECT_CREDENTIALS", "LOCKED_ACCOUNT", "LOGIN_FAIL",
	"INTERNAL_ERROR", "SESSION_NOT_FOUND", "NO_USER_NAME", "NO_MESSAGE_TYPE", "UNKNOWN_MESSAGE_TYPE", "INVALID_MESSAGE",
	"MISSING_FIELD", "VALIDATION_ERROR", "FEATURE_NOT_PROVIDED", "LOGIN_ERROR", "NOT_AUTHORISED", "FEATURE_NOT_FOUND",
	"JSON_SCHEMA_NOT_FOUND", "SERVICE_NOT_FOUND", "OPERATION_TIMEOUT", "MAX_LOGON_LIMIT", "UNAVAILABLE",
}

func TestRefusedLogins(t *testing.T) {
	other := session.Session{Handle: session.Handle{1, 2, 3}, LastActive: session.At(time.UnixMilli(1700000000123))}
	now := session.At(newFakeGate(t).now())
	for _, test := range []struct {
		name    string
		refused adapters.Refused
		code    string
		status  int // in strict mode
		retry   string
		text    string
	}{
		{"locked for a while", adapters.Refused{Code: session.Locked, RetryAt: now.Add(29500 * time.Millisecond)}, "LOCKED_ACCOUNT", 403, "30", "try again in 30 s"},
		{"locked for good", adapters.Refused{Code: session.Locked, RetryAt: session.Forever}, "LOCKED_ACCOUNT", 403, "", "ask an operator"},
		{"disabled", adapters.Refused{Code: session.Disabled}, "LOGIN_FAIL", 403, "", "disabled"},
		{"no room", adapters.Refused{Code: session.TooManySessions, Sessions: []session.Session{other}}, "MAX_ACTIVE_SESSIONS_REACHED", 403, "", "Problem logging in"},
		{"wrong", adapters.Refused{Code: session.WrongCredentials}, "INCORRECT_CREDENTIALS", 401, "", ""},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, strict %v", test.name, strict), func(t *testing.T) {
				cfg := quick()
				cfg.StrictStatus = strict
				server, gate, _ := serve(t, cfg)
				gate.set(func() { gate.refuse = test.refused })
				r := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody, "SOURCE_REF: a")
				want, retry := 200, ""
				if strict {
					want, retry = test.status, test.retry
				}
				if r.status != want || r.header.Get("Retry-After") != retry || r.MessageType != loginNack || r.code() != test.code ||
					r.SourceRef != "a" || !strings.Contains(r.Error[0].Text, test.text) || r.Error[0].Type != "LoginError" {
					t.Errorf("%d Retry-After %q: %s", r.status, r.header.Get("Retry-After"), r.raw)
				}
				if list := `"DETAILS":{"SESSION":[{"SESSION_ID":"` + other.Handle.String() + `","LAST_ACCESS_TIME":1700000000123}]}`; (test.code == "MAX_ACTIVE_SESSIONS_REACHED") != strings.Contains(r.raw, list) {
					t.Errorf("the sessions in the way: %s", r.raw)
				}
			})
		}
	}
}

// When the outcome is not known nothing may look like a refused token, nor like an accepted one.
func TestBookAway(t *testing.T) {
	for _, away := range []error{errAway, adapters.ErrBusy} {
		for _, strict := range []bool{false, true} {
			cfg := quick()
			cfg.StrictStatus = strict
			server, gate, _ := serve(t, cfg)
			gate.set(func() { gate.away = away })
			for path, nackType := range map[string]string{
				"POST /event-login-auth":               loginNack,
				"POST /event-logout":                   logoutNack,
				"POST /event-login-details":            detailsNack,
				"GET /event-login-details":             detailsNack,
				"GET /heartbeat-ping":                  messageNack,
				"GET /resources-request":               messageNack,
				"GET /meta-request?DETAILS[FEATURE]=X": messageNack,
			} {
				method, path, _ := strings.Cut(path, " ")
				body := ""
				if method == "POST" {
					body = loginBody
				}
				r := ask(t, server.Client(), method, server.URL+path, body, "SESSION_AUTH_TOKEN: x", "SOURCE_REF: s")
				want, retry := 200, ""
				if strict {
					want, retry = 503, "1"
				}
				if r.status != want || r.header.Get("Retry-After") != retry || r.MessageType != nackType || r.code() != "UNAVAILABLE" ||
					r.Error[0].StatusCode != "503 Service Unavailable" || r.SourceRef != "s" {
					t.Errorf("%s %s, strict %v: %d %s", method, path, strict, r.status, r.raw)
				}
			}
			if r := ask(t, server.Client(), "GET", server.URL+"/heartbeat-ping", ""); r.status != 200 || r.MessageType != "HEARTBEAT_PONG" || r.Pong {
				t.Errorf("without a token a heartbeat asks nobody: %d %s", r.status, r.raw)
			}
		}
	}
}

// A client may name its session by any one of several means; each ends the session that it names and no other.
func TestLogoutForms(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers []string
		body    string // $T, $S: token and id of the session
		ack     bool
	}{
		{"seed: id and name", []string{"SESSION_ID: $S", "USER_NAME: janedee"}, "", true},
		{"id alone", []string{"SESSION-ID: $S"}, "", true},
		{"token alone", []string{"SESSION-AUTH-TOKEN: $T"}, "", true},
		{"token in the body", nil, `{"SESSION_AUTH_TOKEN":"$T"}`, true},
		{"dead token, good id", []string{"SESSION_AUTH_TOKEN: old", "SESSION_ID: $S"}, "", true},
		{"token, the text null as id", []string{"SESSION_AUTH_TOKEN: $T", "SESSION_ID: null"}, "", true},
		{"another's, by id and name, without being logged in", nil, `{"MESSAGE_TYPE":"EVENT_LOGOUT","DETAILS":{"USER_NAME":"JaneDee","SESSION_ID":"$S"}}`, true},
		{"wrong user", []string{"SESSION_ID: $S", "USER_NAME: JohnDee"}, "", false},
		{"wrong user, right token", []string{"SESSION_AUTH_TOKEN: $T", "USER_NAME: JohnDee"}, "", false},
		{"unknown id", []string{"SESSION_ID: 00000000-0000-4000-8000-00000000ffff"}, "", false},
		{"no id at all", []string{"SESSION_ID: tea"}, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, gate, _ := serve(t, quick())
			login := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
			fill := strings.NewReplacer("$T", login.Access, "$S", login.SessionID)
			var headers []string
			for _, h := range test.headers {
				headers = append(headers, fill.Replace(h))
			}
			r := ask(t, server.Client(), "POST", server.URL+"/event-logout", fill.Replace(test.body), headers...)
			if test.ack && (r.MessageType != "LOGOUT_ACK" || gate.sessions() != 0) {
				t.Errorf("%s, %d sessions", r.raw, gate.sessions())
			}
			if !test.ack && (r.MessageType != logoutNack || r.Code != "SESSION_NOT_FOUND" || gate.sessions() != 1) {
				t.Errorf("%s, %d sessions", r.raw, gate.sessions())
			}
		})
	}
	t.Run("DETAILS names another session than the caller's own", func(t *testing.T) {
		server, gate, _ := serve(t, quick())
		mine := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
		other := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
		r := ask(t, server.Client(), "POST", server.URL+"/event-logout", `{"DETAILS":{"USER_NAME":"JaneDee","SESSION_ID":"`+other.SessionID+`"}}`,
			"SESSION_AUTH_TOKEN: "+mine.Access)
		still := ask(t, server.Client(), "GET", server.URL+"/heartbeat-ping", "", "SESSION_AUTH_TOKEN: "+mine.Access)
		if r.MessageType != "LOGOUT_ACK" || !still.Pong || gate.sessions() != 1 {
			t.Errorf("%s, then %s", r.raw, still.raw)
		}
	})
}

// What is given in several places is taken from the header first, underscores before hyphens, then from the body.
func TestPrecedence(t *testing.T) {
	server, _, _ := serve(t, quick())
	token := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody).Access
	for _, test := range []struct {
		name    string
		headers []string
		body    string
		pong    bool
		ref     string
	}{
		{"underscore header wins", []string{"SESSION_AUTH_TOKEN: " + token, "SESSION-AUTH-TOKEN: x"}, `{"SESSION_AUTH_TOKEN":"y"}`, true, ""},
		{"hyphen header before body", []string{"SESSION-AUTH-TOKEN: x"}, `{"SESSION_AUTH_TOKEN":"` + token + `"}`, false, ""},
		{"empty header is none", []string{"SESSION_AUTH_TOKEN: "}, `{"SESSION_AUTH_TOKEN":"` + token + `"}`, true, ""},
		{"undefined is none", []string{"SESSION_AUTH_TOKEN: undefined", "SESSION-AUTH-TOKEN: " + token}, `{}`, true, ""},
		{"null is none", []string{"SESSION_AUTH_TOKEN: null"}, `{"SESSION_AUTH_TOKEN":null,"DETAILS":{"SESSION_AUTH_TOKEN":"` + token + `"}}`, true, ""},
		{"source ref of the header", []string{"SOURCE_REF: h"}, `{"SOURCE_REF":"b"}`, false, "h"},
		{"source ref of the body", nil, `{"SOURCE_REF":"b \u00e9 \" <"}`, false, `b é " <`},
	} {
		r := ask(t, server.Client(), "POST", server.URL+"/heartbeat-ping", test.body, test.headers...)
		if r.status != 200 || r.MessageType != "HEARTBEAT_PONG" || r.Pong != test.pong || r.SourceRef != test.ref {
			t.Errorf("%s: %d %s", test.name, r.status, r.raw)
		}
	}
}

func TestPaths(t *testing.T) {
	server, _, _ := serve(t, quick())
	for _, path := range []string{"/event-login-auth", "/EVENT_LOGIN_AUTH", "/gwf/event-login-auth", "//gwf//Event_Login-AUTH/", "/sm/event-login-auth",
		"/ehandler-login-auth", "/txn-login-auth", "/GWF/EVENT_LOGIN_AUTH"} {
		r := ask(t, server.Client(), "POST", server.URL+path, loginBody)
		if r.status != 200 || r.MessageType != "EVENT_LOGIN_AUTH_ACK" || r.UserName != "JaneDee" {
			t.Errorf("%s: %d %s", path, r.status, r.raw)
		}
	}
	for _, path := range []string{"/", "/gwf/", "/sm", "/gwf/gwf/event-login-auth", "/../event-login-auth", "/event-login-auth/x"} {
		if r := ask(t, server.Client(), "POST", server.URL+path, loginBody); r.status != 200 || r.code() != "FEATURE_NOT_FOUND" {
			t.Errorf("%s: %d %s", path, r.status, r.raw)
		}
	}
}

// A client that asks and asks and never reads loses its connection.
func TestClientThatDoesNotRead(t *testing.T) {
	cfg := quick()
	cfg.WriteTimeout = 100 * time.Millisecond
	server, gate, _ := serve(t, cfg)
	gate.plant("t")
	gate.set(func() { gate.resources = slices.Repeat(gate.resources, 1000) })
	for _, request := range []string{
		"GET /resources-request HTTP/1.1\r\nHost: localhost\r\nSESSION_AUTH_TOKEN: t\r\n\r\n",
		"OPTIONS /resources-request HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
		for err == nil {
			_, err = io.WriteString(conn, request)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.7s: the connection is still there", request)
		}
	}
	// A pause between two requests of one connection is none of this.
	client := server.Client()
	for range 2 {
		if r := ask(t, client, "GET", server.URL+"/heartbeat-ping", ""); r.MessageType != "HEARTBEAT_PONG" {
			t.Error(r.raw)
		}
		time.Sleep(2 * cfg.WriteTimeout)
	}
}

func TestLoginTellsTheBooksFigures(t *testing.T) {
	server, _, _ := serve(t, quick())
	for range 3 {
		ask(t, server.Client(), "POST", server.URL+"/event-login-auth", `{"DETAILS":{"USER_NAME":"JaneDee","PASSWORD":"wrong"}}`)
	}
	first := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
	again := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", loginBody)
	if first.Details.Failed != 3 || again.Details.Failed != 0 ||
		!strings.Contains(first.raw, `"LAST_LOGIN_DATETIME":1516567765917`) || !strings.Contains(again.raw, `"LAST_LOGIN_DATETIME":1516568024000`) {
		t.Errorf("%s\n%s", first.raw, again.raw)
	}
	renewed := ask(t, server.Client(), "POST", server.URL+"/event-login-auth", `{"DETAILS":{"REFRESH_AUTH_TOKEN":"`+first.Refresh+`"}}`)
	if renewed.Refresh != first.Refresh || renewed.Access == first.Access || renewed.SessionID == first.SessionID || renewed.Details.Failed != 3 {
		t.Errorf("refresh: %s", renewed.raw)
	}
	stale := ask(t, server.Client(), "GET", server.URL+"/resources-request", "", "SESSION_AUTH_TOKEN: "+first.Access)
	if stale.code() != "LOGIN_ERROR" {
		t.Errorf("the old token: %s", stale.raw)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, bad := range []Config{
		{AllowedOrigins: []string{"*"}}, {AllowedOrigins: []string{"https://*.example.com"}}, {AllowedOrigins: []string{"app.example.com"}},
		{AllowedOrigins: []string{"https://app.example.com/"}}, {MaxBody: -1},
		{Cookie: CookieConfig{Insecure: true, SameSite: http.SameSiteNoneMode}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
