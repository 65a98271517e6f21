package genesis

import (
	"testing"
	"time"

	"rollbook/engine/session"
)

func TestSessionEndsWithItsSocket(t *testing.T) {
	for _, test := range []struct {
		name   string
		linger time.Duration
		ends   int
	}{{"at once", 0, 1}, {"after a while", 30 * time.Millisecond, 1}, {"never", -1, 0}, {"not yet", time.Hour, 0}} {
		t.Run(test.name, func(t *testing.T) {
			cfg := quick()
			cfg.Linger = test.linger
			server, gate, h := serve(t, cfg)
			conn := dial(t, server, "/")
			logIn(t, conn)
			conn.Close()
			eventually(t, "the socket is dismissed", func() bool { return h.sockets.Open() == 0 })
			if test.ends > 0 {
				eventually(t, "the session ends", func() bool { return gate.disconnected() == test.ends })
			}
			if err := h.Shutdown(t.Context()); err != nil { // joins what lingers
				t.Error(err)
			}
			if gate.disconnected() != test.ends || gate.sessions() != 1-test.ends {
				t.Errorf("%d ends, %d sessions", gate.disconnected(), gate.sessions())
			}
		})
	}
}

// A page that reloads opens a socket and refreshes before, or after, its old socket is seen to be gone.
func TestRefreshKeepsTheSession(t *testing.T) {
	for _, early := range []bool{true, false} {
		cfg := quick()
		cfg.Linger = 500 * time.Millisecond
		server, gate, h := serve(t, cfg)
		sockets := h.sockets.Open
		before, after := dial(t, server, "/"), dial(t, server, "/")
		in := logIn(t, before)
		if early {
			before.Close()
			eventually(t, "the socket is dismissed", func() bool { return sockets() == 1 })
		}
		send(t, after, `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","SESSION_AUTH_TOKEN":"`+in.Access+`","DETAILS":{"REFRESH_AUTH_TOKEN":"`+in.Refresh+`","MFA_CODE":null}}`)
		decoded(t, receive(t, after), "EVENT_LOGIN_AUTH_ACK")
		before.Close()
		eventually(t, "the first socket is dismissed", func() bool { return sockets() == 1 })
		time.Sleep(2 * cfg.Linger)
		if gate.sessions() != 1 || gate.disconnected() != 0 {
			t.Errorf("early %v: %d sessions, %d ended", early, gate.sessions(), gate.disconnected())
		}
		after.Close()
		eventually(t, "it ends with the new socket", func() bool { return gate.disconnected() == 1 })
	}
	t.Run("at another pod", func(t *testing.T) {
		cfg := quick()
		cfg.Linger = 0
		server, gate, _ := serve(t, cfg)
		conn := dial(t, server, "/")
		logIn(t, conn)
		gate.set(func() {
			for _, l := range gate.live {
				l.Generation++
			}
		})
		conn.Close()
		eventually(t, "the end is asked for", func() bool {
			gate.mu.Lock()
			defer gate.mu.Unlock()
			return gate.calls[len(gate.calls)-1] == "disconnect"
		})
		if gate.sessions() != 1 {
			t.Error("a session that had moved on was ended")
		}
	})
}

// A client whose connection breaks comes back with the token that it has, and does not refresh.
func TestReconnectKeepsTheSession(t *testing.T) {
	for _, early := range []bool{true, false} {
		cfg := quick()
		cfg.Linger = 500 * time.Millisecond
		server, gate, h := serve(t, cfg)
		sockets := h.sockets.Open
		before := dial(t, server, "/")
		in := logIn(t, before)
		if early {
			before.Close()
			eventually(t, "the socket is dismissed", func() bool { return sockets() == 0 })
		}
		after := dial(t, server, "/")
		send(t, after, `{"MESSAGE_TYPE":"HEARTBEAT_PING","SESSION_AUTH_TOKEN":"`+in.Access+`"}`)
		decoded(t, receive(t, after), "HEARTBEAT_PONG")
		before.Close()
		eventually(t, "the first socket is dismissed", func() bool { return sockets() == 1 })
		time.Sleep(2 * cfg.Linger)
		if gate.sessions() != 1 || gate.disconnected() != 0 {
			t.Errorf("early %v: %d sessions, %d ended", early, gate.sessions(), gate.disconnected())
		}
		after.Close()
		eventually(t, "it ends with the new socket", func() bool { return gate.disconnected() == 1 })
	}
	t.Run("at another pod", func(t *testing.T) {
		cfg := quick()
		cfg.Linger = 50 * time.Millisecond
		server, gate, h := serve(t, cfg)
		conn := dial(t, server, "/")
		logIn(t, conn)
		gate.set(func() { // the use that the other pod has recorded
			for _, l := range gate.live {
				l.LastActive = session.At(gate.now()).Add(10 * time.Second)
			}
		})
		conn.Close()
		eventually(t, "it is thought of", func() bool { return h.sockets.Open() == 0 && h.linger.Held() == 0 })
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if gate.sessions() != 1 || gate.disconnected() != 0 {
			t.Errorf("%d sessions, %d ended", gate.sessions(), gate.disconnected())
		}
	})
}

func TestEndIsTriedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a retry")
	}
	cfg := quick()
	cfg.Linger = 0
	server, gate, _ := serve(t, cfg)
	conn := dial(t, server, "/")
	logIn(t, conn)
	gate.set(func() { gate.away = errAway })
	conn.Close()
	eventually(t, "the first try", func() bool {
		gate.mu.Lock()
		defer gate.mu.Unlock()
		return gate.calls[len(gate.calls)-1] == "disconnect"
	})
	gate.set(func() { gate.away = nil })
	eventually(t, "the second try", func() bool { return gate.disconnected() == 1 })
}

// A logout unties its own session alone: another, which this pod has granted and not seen yet, ends with the socket still.
func TestLogoutKeepsWhatIsNotSeenYet(t *testing.T) {
	cfg := quick()
	cfg.Linger = 0
	server, gate, h := serve(t, cfg)
	conn := dial(t, server, "/")
	over := logIn(t, conn)
	logIn(t, conn)
	gate.set(func() {
		gate.unseen = map[session.SessionID]bool{}
		for id, l := range gate.live {
			gate.unseen[id] = l.Access != session.HashToken(over.Access)
		}
	})
	send(t, conn, `{"MESSAGE_TYPE":"EVENT_LOGOUT","DETAILS":{"SESSION_ID":"`+over.SessionID+`"}}`)
	decoded(t, receive(t, conn), "LOGOUT_ACK")
	if gate.sessions() != 1 || h.linger.Held() != 1 {
		t.Errorf("%d sessions, %d tied", gate.sessions(), h.linger.Held())
	}
	conn.Close()
	eventually(t, "the other session ends", func() bool { return gate.disconnected() == 1 && gate.sessions() == 0 })
}
