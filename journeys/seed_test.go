package journeys

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const seedPassword = "beONneON*74"

// TestSeedOverHTTP goes through the seed's samples, word by word, and through a kill -9 in between.
func TestSeedOverHTTP(t *testing.T) {
	in := newInstance(t, "--demo")
	in.start()
	loginBody := fmt.Sprintf(`{"DETAILS": {"USER_NAME": "JaneDee", "PASSWORD": %q}}`, seedPassword)
	login := mustCall(t, "POST", in.genesis("/event-login-auth"), map[string]string{"SOURCE_REF": "123456-789041"}, loginBody)
	want(t, login, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_ACK")
	want(t, login, "SOURCE_REF", "123456-789041")
	want(t, login, "USER_NAME", "JaneDee")
	matches(t, login.text("SESSION_AUTH_TOKEN"), `^[A-Za-z0-9]{32}$`)
	matches(t, login.text("REFRESH_AUTH_TOKEN"), `^[A-Za-z0-9]{32}$`)
	matches(t, login.text("SESSION_ID"), `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if _, wrong := login["ERROR"]; wrong {
		t.Error("an ACK with an ERROR key")
	}
	details := login.object("DETAILS")
	matches(t, details.object("SYSTEM").text("DATE"), `^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d UTC \d{4}$`)
	if details["HEARTBEAT_INTERVAL_SECS"] != 30.0 || details["FAILED_LOGIN_ATTEMPTS"] != 0.0 {
		t.Errorf("details %v", details)
	}

	refreshBody := fmt.Sprintf(`{"DETAILS": {"USER_NAME": "JaneDee", "REFRESH_AUTH_TOKEN": %q}}`, login.text("REFRESH_AUTH_TOKEN"))
	refreshed := mustCall(t, "POST", in.genesis("/event-login-auth"), map[string]string{"SOURCE_REF": "123456-789042"}, refreshBody)
	want(t, refreshed, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_ACK")
	want(t, refreshed, "SOURCE_REF", "123456-789042")
	want(t, refreshed, "REFRESH_AUTH_TOKEN", login.text("REFRESH_AUTH_TOKEN"))
	for _, key := range []string{"SESSION_AUTH_TOKEN", "SESSION_ID"} {
		if refreshed.text(key) == login.text(key) {
			t.Errorf("%s is the same after a refresh", key)
		}
	}
	if before, after := details["LAST_LOGIN_DATETIME"], refreshed.object("DETAILS")["LAST_LOGIN_DATETIME"]; before != after {
		t.Errorf("LAST_LOGIN_DATETIME was %v and is %v after a refresh", before, after)
	}

	in.kill()
	in.start()

	auth := map[string]string{"SOURCE_REF": "123456-789051", "SESSION_AUTH_TOKEN": refreshed.text("SESSION_AUTH_TOKEN")}
	resources := mustCall(t, "GET", in.genesis("/resources-request"), auth, "")
	want(t, resources, "MESSAGE_TYPE", "RESOURCES_REQUEST_ACK")
	want(t, resources, "SOURCE_REF", "123456-789051")
	list, _ := json.Marshal(resources["RESOURCES"])
	const seedList = `[{"RESOURCE_NAME":"EVENT_ORDER_INSERT","RESOURCE_TYPE":"EVENT_HANDLER"},{"RESOURCE_NAME":"EVENT_ORDER_AMEND","RESOURCE_TYPE":"EVENT_HANDLER"},` +
		`{"RESOURCE_NAME":"EVENT_ORDER_CANCEL","RESOURCE_TYPE":"EVENT_HANDLER"},{"RESOURCE_NAME":"COUNTERPARTY_DETAILS","RESOURCE_TYPE":"REQUESTSERVER"},` +
		`{"RESOURCE_NAME":"MY_TRADES","RESOURCE_TYPE":"DATASERVER"}]`
	if string(list) != seedList {
		t.Errorf("resources %s", list)
	}
	meta := mustCall(t, "GET", in.genesis("/meta-request?DETAILS[FEATURE]=MY_TRADES"), auth, "")
	want(t, meta, "MESSAGE_TYPE", "META_ACK")
	fields, _ := json.Marshal(meta.object("DETAILS")["FIELD"])
	if !strings.HasPrefix(string(fields), `[{"NAME":"TRADE_ID","TYPE":"STRING"},{"NAME":"INSTRUMENT_ID","TYPE":"STRING"}`) {
		t.Errorf("fields %s", fields)
	}
	auth["SESSION_AUTH_TOKEN"] = login.text("SESSION_AUTH_TOKEN")
	if old := mustCall(t, "GET", in.genesis("/resources-request"), auth, ""); old.text("MESSAGE_TYPE") == "RESOURCES_REQUEST_ACK" {
		t.Error("the token from before the refresh is still good")
	}

	auth["SESSION_AUTH_TOKEN"] = refreshed.text("SESSION_AUTH_TOKEN")
	out := mustCall(t, "POST", in.genesis("/event-logout"), map[string]string{
		"SOURCE_REF": "123456-789043", "SESSION_ID": refreshed.text("SESSION_ID"), "USER_NAME": "JaneDee"}, "")
	if got, _ := json.Marshal(out); string(got) != `{"MESSAGE_TYPE":"LOGOUT_ACK","SOURCE_REF":"123456-789043"}` {
		t.Errorf("logout %s", got)
	}
	if gone := mustCall(t, "GET", in.genesis("/resources-request"), auth, ""); gone.text("MESSAGE_TYPE") == "RESOURCES_REQUEST_ACK" {
		t.Error("the token is good after the logout")
	}
	in.stop()
}

// TestWhatTheBookKnowsShows: failures and the login before are real figures, also after a restart.
func TestWhatTheBookKnowsShows(t *testing.T) {
	in := newInstance(t, "--demo")
	in.start()
	body := func(password string) string {
		return fmt.Sprintf(`{"DETAILS": {"USER_NAME": "janedee", "PASSWORD": %q}}`, password)
	}
	first := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body(seedPassword))
	want(t, first, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_ACK")
	before := time.Now()
	for range 2 {
		nack := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body("wrong"))
		want(t, nack, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_NACK")
		if nack.code() != "INCORRECT_CREDENTIALS" {
			t.Errorf("code %q", nack.code())
		}
	}
	unknown := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, `{"DETAILS": {"USER_NAME": "nobody", "PASSWORD": "wrong"}}`)
	wrong := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body("wrong"))
	if a, b := fmt.Sprint(unknown), fmt.Sprint(wrong); a != b {
		t.Errorf("an unknown user and a wrong password differ:\n%s\n%s", a, b)
	}
	in.kill()
	in.start()
	second := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body(seedPassword)).object("DETAILS")
	last, _ := second["LAST_LOGIN_DATETIME"].(float64)
	if second["FAILED_LOGIN_ATTEMPTS"] != 3.0 || time.UnixMilli(int64(last)).After(before) || before.Sub(time.UnixMilli(int64(last))) > time.Minute {
		t.Errorf("details %v", second)
	}

	// Five failures in a row lock the account, also for the right password; an operator opens it again.
	for range 5 {
		mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body("wrong"))
	}
	if locked := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body(seedPassword)); locked.code() != "LOCKED_ACCOUNT" {
		t.Errorf("a locked account answers %v", locked)
	}
	in.run("", "user", "unlock", "JaneDee")
	if opened := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body(seedPassword)); opened.text("MESSAGE_TYPE") != "EVENT_LOGIN_AUTH_ACK" {
		t.Errorf("after unlock: %v", opened)
	}
	in.run("", "user", "disable", "JaneDee")
	if out := mustCall(t, "POST", in.genesis("/event-login-auth"), nil, body(seedPassword)); out.text("MESSAGE_TYPE") != "EVENT_LOGIN_AUTH_NACK" {
		t.Errorf("a disabled user: %v", out)
	}
	if got := in.run("", "session", "list", "--json"); strings.Contains(got, "{") {
		t.Errorf("sessions of a disabled user: %s", got)
	}
	in.stop()
}

// socket is a WebSocket connection that speaks JSON.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
	refs int
	said string // the last message, as round read it
}

func (in *instance) dial(path string) *socket {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, strings.Replace(in.genesis(path), "http:", "ws:", 1), nil)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { conn.CloseNow() })
	return &socket{t: in.t, conn: conn}
}

// ask sends a message with a SOURCE_REF of its own and returns the answer that carries it.
func (s *socket) ask(m message) message {
	s.t.Helper()
	s.refs++
	ref := fmt.Sprintf("ref-%d", s.refs)
	m["SOURCE_REF"] = ref
	data, _ := json.Marshal(m)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, data); err != nil {
		s.t.Fatal(err)
	}
	for {
		_, data, err := s.conn.Read(ctx)
		if err != nil {
			s.t.Fatalf("no answer to %s: %v", m.text("MESSAGE_TYPE"), err)
		}
		var answer message
		if err := json.Unmarshal(data, &answer); err != nil {
			s.t.Fatal(err)
		}
		if answer.text("SOURCE_REF") == ref {
			return answer
		}
	}
}

// TestWebSocketLife is what the venue's own client does over its default path, with the session ended from elsewhere.
func TestWebSocketLife(t *testing.T) {
	in := newInstance(t, "--demo")
	in.start()
	s := in.dial("//gwf/")
	pong := s.ask(message{"MESSAGE_TYPE": "HEARTBEAT_PING", "VERBOSE": false, "DETAILS": message{}, "SESSION_AUTH_TOKEN": nil})
	want(t, pong, "MESSAGE_TYPE", "HEARTBEAT_PONG")
	if pong["IS_AUTHENTICATED"] == true {
		t.Error("authenticated before the login")
	}
	login := s.ask(message{"MESSAGE_TYPE": "EVENT_LOGIN_AUTH", "DETAILS": message{"USER_NAME": "JaneDee", "PASSWORD": seedPassword}})
	want(t, login, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_ACK")
	token := login.text("SESSION_AUTH_TOKEN")
	pong = s.ask(message{"MESSAGE_TYPE": "HEARTBEAT_PING", "VERBOSE": false, "DETAILS": message{}, "SESSION_AUTH_TOKEN": token})
	if pong["IS_AUTHENTICATED"] != true {
		t.Errorf("pong %v", pong)
	}
	again := s.ask(message{"MESSAGE_TYPE": "EVENT_LOGIN_AUTH", "SESSION_AUTH_TOKEN": token,
		"DETAILS": message{"REFRESH_AUTH_TOKEN": login.text("REFRESH_AUTH_TOKEN"), "MFA_CODE": nil}})
	want(t, again, "MESSAGE_TYPE", "EVENT_LOGIN_AUTH_ACK")
	token = again.text("SESSION_AUTH_TOKEN")
	resources := s.ask(message{"MESSAGE_TYPE": "RESOURCES_REQUEST", "SESSION_AUTH_TOKEN": token})
	list, _ := json.Marshal(resources["RESOURCES"])
	if !strings.Contains(string(list), `"REQUEST_SERVER"`) {
		t.Errorf("resources %s", list)
	}
	meta := s.ask(message{"MESSAGE_TYPE": "META_REQUEST", "DETAILS": message{"FEATURE": "MY_TRADES"}, "SESSION_AUTH_TOKEN": token})
	want(t, meta, "MESSAGE_TYPE", "META_ACK")

	in.run("", "session", "revoke", "--user", "JaneDee", "--yes")
	deadline := time.Now().Add(20 * time.Second)
	for { // the server closes the socket, or says that it is not authenticated any more
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		data, _ := json.Marshal(message{"MESSAGE_TYPE": "HEARTBEAT_PING", "SOURCE_REF": "after", "SESSION_AUTH_TOKEN": token})
		err := s.conn.Write(ctx, websocket.MessageText, data)
		var answer message
		if err == nil {
			if _, data, err = s.conn.Read(ctx); err == nil {
				err = json.Unmarshal(data, &answer)
			}
		}
		cancel()
		if err != nil || answer.text("MESSAGE_TYPE") == "HEARTBEAT_PONG" && answer["IS_AUTHENTICATED"] != true {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket does not learn that its session has ended")
		}
		time.Sleep(10 * time.Millisecond)
	}
	in.stop()
}

func want(t *testing.T, m message, key, value string) {
	t.Helper()
	if m.text(key) != value {
		t.Fatalf("%s is %q, want %q, in %v", key, m.text(key), value, m)
	}
}

func matches(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%q does not match %s", text, pattern)
	}
}
