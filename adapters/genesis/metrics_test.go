package genesis

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"rollbook/adapters"
	"rollbook/adapters/repliestest"
)

// An outage, and logins that are turned away, show though the HTTP status is 200; a socket's replies count alike.
func TestRepliesAreCounted(t *testing.T) {
	server, gate, h := serve(t, quick())
	post := func(path, body string) { ask(t, server.Client(), "POST", server.URL+path, body) }
	conn := dial(t, server, "/")
	over := func(frame string) {
		send(t, conn, frame)
		receive(t, conn)
	}
	login := `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH",` + loginBody[1:]
	post("/event-login-auth", loginBody)
	post("/gwf/EHANDLER_LOGIN_AUTH", `{"DETAILS":{"USER_NAME":"JaneDee","PASSWORD":"wrong"}}`)
	over(login)
	gate.set(func() { gate.away = adapters.ErrBusy })
	post("/txn-login-auth", loginBody)
	over(login)
	gate.set(func() { gate.away = errAway })
	post("/event-login-auth", loginBody)
	over(login)
	post("/no-such-thing-4711", "{}")
	over(`{"MESSAGE_TYPE":"NO_SUCH_THING_4711"}`)
	repliestest.Same(t, repliestest.Counts(t, "genesis", h.Metrics()), map[string]float64{"login ACK": 2,
		"login INCORRECT_CREDENTIALS": 1, "login BUSY": 2, "login UNAVAILABLE": 2, "other FEATURE_NOT_FOUND": 1,
		"other UNKNOWN_MESSAGE_TYPE": 1, "socket ACK": 1})
}

// Whatever paths, message types and names clients make up, the labels stay the few of the table.
func TestLabelsAreBounded(t *testing.T) {
	server, _, h := serve(t, quick())
	conn := dial(t, server, "/")
	random := rand.New(rand.NewPCG(3, 7))
	for range 40 {
		word := strconv.FormatUint(random.Uint64(), 36)
		ask(t, server.Client(), "POST", server.URL+"/"+word, `{"SOURCE_REF":"`+word+`"}`)
		ask(t, server.Client(), "POST", server.URL+"/event-login-auth", `{"DETAILS":{"USER_NAME":"`+word+`","PASSWORD":"x"}}`)
		for _, frame := range []string{`{"MESSAGE_TYPE":"` + word + `"}`, `{"MESSAGE_TYPE":"META_REQUEST","DETAILS":{"FEATURE":"` + word + `"}}`} {
			send(t, conn, frame)
			receive(t, conn)
		}
	}
	repliestest.Bounded(t, repliestest.Counts(t, "genesis", h.Metrics()), []string{"login", "meta", "socket", classOther},
		[]string{"ACK", "INCORRECT_CREDENTIALS", "FEATURE_NOT_FOUND", "UNKNOWN_MESSAGE_TYPE", "LOGIN_ERROR", "MAX_LOGON_LIMIT"})
}

func TestClassesAreFew(t *testing.T) {
	for path, want := range map[string]string{
		"/event-login-auth": "login", "/gwf//EVENT_LOGIN_AUTH": "login", "/ehandler-login-auth": "login", "/TXN_LOGIN_AUTH/": "login",
		"/event-logout": "logout", "/ehandler-logout": "logout", "/sm/txn-logout": "logout", "/sm/event-login-details": "details",
		"/resources-request": "resources", "/META_REQUEST": "meta", "/heartbeat-ping/": "heartbeat", "/data-logoff": "logoff",
		"/": "socket", "/gwf/": "socket", "//": "socket", "/etc/passwd": "other", "/event-login-auth/x": "other", "/smart": "other",
	} {
		if got := Class(path); got != want {
			t.Errorf("%s is of class %s, not %s", path, got, want)
		}
	}
	for name, s := range calls {
		if s.class == "" || s.class == classOther || s.class == classSocket {
			t.Errorf("%s has the class %q", name, s.class)
		}
	}
}
