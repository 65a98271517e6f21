package journeys

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// onSocket is a way to open a session over a socket.
type onSocket struct {
	name   string
	door   door
	path   string
	proto  string
	lives  time.Duration // after the socket, before it ends
	access bool          // the client gets a token that is good elsewhere
	login  func(s *socket, name, secret string) (pass, error)
}

// lingers is how long sessions outlive their sockets in this test: long enough to be told from at once.
const lingers = 1500 * time.Millisecond

var onSockets = []onSocket{
	{name: "genesis", door: genesisDoor, path: "/", lives: lingers, access: true, login: func(s *socket, name, secret string) (pass, error) {
		m, err := s.round(message{"MESSAGE_TYPE": "EVENT_LOGIN_AUTH", "SOURCE_REF": "1", "DETAILS": message{"USER_NAME": name, "PASSWORD": secret}})
		return pass{access: m.text("SESSION_AUTH_TOKEN"), refresh: m.text("REFRESH_AUTH_TOKEN")}, err
	}},
	{name: "zenith", door: zenithDoor, path: "/Zenith?version=2.0", proto: "ZenithJson", lives: lingers, access: true, login: func(s *socket, name, secret string) (pass, error) {
		m, err := s.round(message{"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1,
			"Data": message{"Provider": "BasicAuth", "ClientID": "journey", "UserName": name, "Password": secret}})
		return pass{access: m.object("Data").text("AccessToken")}, err
	}},
	{name: "nebula", door: nebulaDoor, path: "/", login: func(s *socket, name, secret string) (pass, error) {
		m, err := s.round(message{"q": "exchange.market/createSession", "sid": 1, "d": message{"username": name, "password": secret}})
		if err == nil && m["sig"] != 1.0 {
			err = fmt.Errorf("createSession: %v", m)
		}
		return pass{}, err
	}},
}

// TestSocketCloses: a session that was opened over a socket ends with it, after the linger where the venue has one. Both
// other processes see it: an operator's command and another pod. A session of the same user that came over HTTP stays.
func TestSocketCloses(t *testing.T) {
	in := newInstance(t, "--genesis-linger", lingers.String(), "--zenith-linger", lingers.String())
	in.start()
	other := in.second()
	for _, w := range onSockets {
		t.Run(w.name, func(t *testing.T) {
			name := w.name + "-user"
			secret := in.newUser(w.door, name)
			s, err := connect(in.at(w.door)+w.path, w.proto)
			if err != nil {
				t.Fatal(err)
			}
			defer s.conn.CloseNow()
			p, err := w.login(s, name, secret)
			if err != nil || w.access && p.access == "" {
				t.Fatalf("login: %s, %v", s.said, err)
			}
			opened := in.sessionsOf(name)
			if len(opened) != 1 || !opened[0].Bound {
				t.Fatalf("after the login there are %+v", opened)
			}
			stays := 0
			if w.name != "zenith" { // which has nothing but sockets
				mustLogin(t, in.at(w.door), w.door, name, secret)
				stays = 1
			}

			closing := time.Now()
			s.conn.CloseNow() // as a network does that fails
			for deadline := closing.Add(time.Minute); has(in.sessionsOf(name), opened[0].ID); {
				if time.Now().After(deadline) {
					t.Fatal("the session of a closed socket does not end")
				}
			}
			if took := time.Since(closing); took < w.lives {
				t.Errorf("the session ended %s after its socket, before the linger of %s", took, w.lives)
			}
			if left := in.sessionsOf(name); len(left) != stays {
				t.Errorf("after the socket there are %+v, want %d", left, stays)
			}
			if w.access {
				refusedSoon(t, "the token at the other process", w.door, other.at(w.door), p)
			}
		})
	}
	in.stop()
}

// listed is what `session list` says of a session.
type listed struct {
	ID    string `json:"session"`
	Venue string `json:"venue"`
	Bound bool   `json:"bound"`
}

func has(list []listed, id string) bool {
	for _, l := range list {
		if l.ID == id {
			return true
		}
	}
	return false
}

// sessionsOf lists a user's sessions as an operator sees them: by a process of its own.
func (in *instance) sessionsOf(name string) (list []listed) {
	in.t.Helper()
	out := in.run("", "session", "list", "--user", name, "--json")
	for line := range strings.Lines(out) {
		var l listed
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			in.t.Fatalf("session list printed %q: %v", line, err)
		}
		list = append(list, l)
	}
	return list
}
