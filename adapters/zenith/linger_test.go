package zenith

import (
	"testing"
	"time"
)

// A session ends with its socket, unless its client comes back with the token.
func TestSessionEndsWithItsSocket(t *testing.T) {
	for _, test := range []struct {
		name   string
		linger time.Duration
		ends   int
	}{{"at once", 0, 1}, {"after a while", 30 * time.Millisecond, 1}, {"never", -1, 0}, {"not yet", time.Hour, 0}} {
		t.Run(test.name, func(t *testing.T) {
			cfg := sample()
			cfg.Linger = test.linger
			server, gate, h := serve(t, cfg)
			conn := dial(t, server, nil)
			logIn(t, conn)
			conn.Close()
			eventually(t, "the socket is dismissed", func() bool { return h.sockets.Open() == 0 })
			if test.ends > 0 {
				eventually(t, "the session ends", func() bool { _, ended, _ := gate.count(); return ended == test.ends })
			}
			if err := h.Shutdown(t.Context()); err != nil { // joins what lingers
				t.Error(err)
			}
			if live, ended, _ := gate.count(); ended != test.ends || live != 1-test.ends {
				t.Errorf("%d ends, %d sessions", ended, live)
			}
		})
	}
	for _, early := range []bool{true, false} {
		cfg := sample()
		cfg.Linger = 200 * time.Millisecond
		server, gate, h := serve(t, cfg)
		sockets := h.sockets.Open
		before := dial(t, server, nil)
		in := logIn(t, before)
		if early {
			before.Close()
			eventually(t, "the socket is dismissed", func() bool { return sockets() == 0 })
		}
		after := dial(t, server, nil)
		if r := ask(t, after, tokenFrame("BasicAuth", in.AccessToken)); r.Result != "Success" || r.AccessToken != in.AccessToken {
			t.Fatal(r.raw)
		}
		before.Close()
		eventually(t, "the first socket is dismissed", func() bool { return sockets() == 1 })
		time.Sleep(2 * cfg.Linger)
		if live, ended, _ := gate.count(); live != 1 || ended != 0 {
			t.Errorf("early %v: %d sessions, %d ended", early, live, ended)
		}
		after.Close()
		eventually(t, "it ends with the new socket", func() bool { _, ended, _ := gate.count(); return ended == 1 })
	}
}

func TestEndIsTriedAgain(t *testing.T) {
	cfg := sample()
	cfg.Linger = 0
	server, gate, h := serve(t, cfg)
	h.linger.Retry = 200 * time.Millisecond
	conn := dial(t, server, nil)
	logIn(t, conn)
	gate.set(func() { gate.away = errAway })
	conn.Close()
	eventually(t, "it is to be tried again", func() bool { return h.sockets.Open() == 0 && h.linger.Held() == 1 })
	gate.set(func() { gate.away = nil })
	eventually(t, "the second try", func() bool { _, ended, _ := gate.count(); return ended == 1 })
}

// A socket has one session: another login ends the one before, and does not close the socket.
func TestOneSessionASocket(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn := dial(t, server, nil)
	logIn(t, conn)
	second := logIn(t, conn)
	eventually(t, "the first session ends", func() bool { _, ended, _ := gate.count(); return ended == 1 })
	if r := ask(t, conn, whoFrame); r.Result != "Success" || r.AccessToken != second.AccessToken {
		t.Error(r.raw)
	}
	if r := ask(t, conn, tokenFrame("Bearer", fakeToken(77))); r.Result != "Reject" || r.AccessToken != "" {
		t.Error(r.raw)
	}
	if r := ask(t, conn, whoFrame); r.Result != "Success" {
		t.Errorf("after a token that was refused: %s", r.raw)
	}
}
