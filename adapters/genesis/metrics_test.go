package genesis

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/adapters"
)

// counted is the handler's counter by "class outcome".
func counted(t *testing.T, h *Handler) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h.Metrics())
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			label := map[string]string{}
			for _, pair := range metric.GetLabel() {
				label[pair.GetName()] = pair.GetValue()
			}
			if family.GetName() != "rollbook_replies_total" || label["venue"] != "genesis" || len(label) != 3 {
				t.Errorf("unexpected: %s %v", family.GetName(), label)
			}
			counts[label["call"]+" "+label["outcome"]] = metric.GetCounter().GetValue()
		}
	}
	return counts
}

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
	got := counted(t, h)
	for name, want := range map[string]float64{"login ACK": 2, "login INCORRECT_CREDENTIALS": 1, "login BUSY": 2, "login UNAVAILABLE": 2,
		"other FEATURE_NOT_FOUND": 1, "other UNKNOWN_MESSAGE_TYPE": 1, "socket ACK": 1} {
		if got[name] != want {
			t.Errorf("%s is counted %v times, not %v", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("counted too: %v", got)
	}
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
