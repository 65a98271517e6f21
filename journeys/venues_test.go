package journeys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// outcome is what a venue's reply means, whatever its form.
type outcome string

const (
	yes         outcome = "accepted"
	no          outcome = "refused"
	unavailable outcome = "unavailable"
)

// pass is what a client holds after a login.
type pass struct {
	access, refresh string
	socket          *socket // the venue's session is that of a connection
}

// door is one venue as its clients use it. Each function gives the reply's meaning and its text, without what changes
// from call to call; an error says that no reply of the venue came.
type door struct {
	name    string
	port    int  // above the base
	keyed   bool // clients log in with an API key, not with the password
	rotates bool
	login   func(at string, name, secret string) (pass, outcome, string, error)
	check   func(at string, p pass) (outcome, error)
	refresh func(at string, p pass) (pass, outcome, error) // nil: the venue has none
	logout  func(at string, p pass) (outcome, error)       // nil: the session is closed by an operator
}

// exchange sends a request and gives status and body.
func exchange(method, url string, header map[string]string, body string) (int, []byte, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		req.Header[k] = []string{v}
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

func object(data []byte) message {
	var m message
	_ = json.Unmarshal(data, &m) // what is no object has no members
	return m
}

// doors are the five venues.
var doors = []door{genesisDoor, traderEvolutionDoor, advAuthDoor, zenithDoor, nebulaDoor}

var genesisDoor = door{name: "genesis", port: 4,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		return genesisLogin(at, message{"USER_NAME": name, "PASSWORD": secret})
	},
	refresh: func(at string, p pass) (pass, outcome, error) {
		next, o, _, err := genesisLogin(at, message{"REFRESH_AUTH_TOKEN": p.refresh})
		return next, o, err
	},
	check: func(at string, p pass) (outcome, error) {
		_, data, err := exchange("GET", at+"/resources-request", map[string]string{"SESSION_AUTH_TOKEN": p.access}, "")
		return genesisMeans(object(data), "RESOURCES_REQUEST_ACK"), err
	},
	logout: func(at string, p pass) (outcome, error) {
		_, data, err := exchange("POST", at+"/event-logout", map[string]string{"SESSION_AUTH_TOKEN": p.access}, "")
		return genesisMeans(object(data), "LOGOUT_ACK"), err
	},
}

func genesisLogin(at string, details message) (pass, outcome, string, error) {
	body, _ := json.Marshal(message{"DETAILS": details})
	status, data, err := exchange("POST", at+"/event-login-auth", nil, string(body))
	m := object(data)
	return pass{access: m.text("SESSION_AUTH_TOKEN"), refresh: m.text("REFRESH_AUTH_TOKEN")}, genesisMeans(m, "EVENT_LOGIN_AUTH_ACK"),
		fmt.Sprintf("%d %s", status, data), err
}

func genesisMeans(m message, ack string) outcome {
	switch {
	case m.text("MESSAGE_TYPE") == ack:
		return yes
	case m.code() == "UNAVAILABLE":
		return unavailable
	}
	return no
}

var traderEvolutionDoor = door{name: "traderevolution", port: 5, rotates: true,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		body, _ := json.Marshal(message{"login": name, "password": secret})
		status, data, err := exchange("POST", at+"/proftrading/rest/auth/token", nil, string(body))
		m := object(data)
		return pass{access: m.text("accessToken"), refresh: m.text("refreshToken")}, byStatus(status), fmt.Sprintf("%d %s", status, data), err
	},
	refresh: func(at string, p pass) (pass, outcome, error) {
		status, data, err := exchange("GET", at+"/auth/token/refresh", map[string]string{"token": p.refresh}, "")
		m := object(data)
		return pass{access: m.text("accessToken"), refresh: m.text("refreshToken")}, byStatus(status), err
	},
	check: func(at string, p pass) (outcome, error) {
		status, _, err := exchange("GET", at+"/accounts", map[string]string{"Authorization": "Bearer " + p.access}, "")
		return byStatus(status), err
	},
}

// byStatus is the meaning where the status tells it. That there is nothing at a path is said to who may ask alone.
func byStatus(status int) outcome {
	switch {
	case status == http.StatusOK || status == http.StatusNotFound:
		return yes
	case status >= 500:
		return unavailable
	}
	return no
}

var advAuthDoor = door{name: "advauth", port: 6, keyed: true,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		body, _ := json.Marshal(message{"Result": nil, "UserLogin": name, "ApiKey": secret})
		status, data, err := exchange("POST", at+"/api/login", nil, string(body))
		return pass{access: object(data).text("Token")}, byStatus(status), fmt.Sprintf("%d %s", status, data), err
	},
	check: func(at string, p pass) (outcome, error) {
		status, _, err := exchange("GET", at+"/api/person/get?PersonId=1&Token="+p.access, nil, "")
		return byStatus(status), err
	},
}

var zenithDoor = door{name: "zenith", port: 7,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		return zenithAuth(at, message{"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1,
			"Data": message{"Provider": "BasicAuth", "ClientID": "journey", "UserName": name, "Password": secret}})
	},
	check: func(at string, p pass) (outcome, error) {
		next, o, _, err := zenithAuth(at, message{"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 1,
			"Data": message{"Provider": "Bearer", "AccessToken": p.access}})
		if next.socket != nil {
			next.socket.conn.CloseNow()
		}
		return o, err
	},
}

func zenithAuth(at string, request message) (pass, outcome, string, error) {
	s, err := connect(at+"/Zenith?version=2.0", "ZenithJson")
	if err != nil {
		return pass{}, no, "", err
	}
	m, err := s.round(request)
	if err != nil {
		s.conn.CloseNow()
		return pass{}, no, "", err
	}
	d := m.object("Data")
	if d.text("Result") == "Success" {
		return pass{access: d.text("AccessToken"), socket: s}, yes, "", nil
	}
	s.conn.CloseNow()
	text, _ := json.Marshal(m)
	if m.text("Action") == "Error" {
		return pass{}, unavailable, string(text), nil
	}
	return pass{}, no, string(text), nil
}

var nebulaDoor = door{name: "nebula", port: 8,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		body, _ := json.Marshal(message{"email": name, "password": secret})
		status, data, err := exchange("POST", at+"/trader-api/auth/token", nil, string(body))
		m := object(data)
		o := byStatus(status)
		if m["code"] == 1.0 {
			o = unavailable
		}
		return pass{access: m.text("token")}, o, fmt.Sprintf("%d %s", status, data), err
	},
	check: func(at string, p pass) (outcome, error) {
		s, err := connect(at+"/", "")
		if err != nil {
			return no, err
		}
		defer s.conn.CloseNow()
		m, err := s.round(message{"q": "v1/broker.oms/createSession", "sid": 15, "d": message{"token": p.access}})
		switch {
		case err != nil:
			return no, err
		case m["sig"] == 1.0:
			return yes, nil
		case m.object("d")["errorCode"] == 1.0:
			return unavailable, nil
		}
		return no, nil
	},
}

// connect opens a WebSocket.
func connect(at, protocol string) (*socket, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var options websocket.DialOptions
	if protocol != "" {
		options.Subprotocols = []string{protocol}
	}
	conn, _, err := websocket.Dial(ctx, strings.Replace(at, "http:", "ws:", 1), &options)
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn}, nil
}

// round sends a message and gives the next one that comes.
func (s *socket) round(m message) (message, error) {
	data, _ := json.Marshal(m)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return nil, err
	}
	_, data, err := s.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	return object(data), nil
}

// closed reports whether the other side closes the socket within the time.
func (s *socket) closed(within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		if _, _, err := s.conn.Read(ctx); err != nil {
			return !errors.Is(err, context.DeadlineExceeded)
		}
	}
}

func (in *instance) at(d door) string { return fmt.Sprintf("http://127.0.0.1:%d", in.base+d.port) }

// second starts another process on the bus of a running instance: another pod.
func (in *instance) second() *instance {
	in.t.Helper()
	url, err := os.ReadFile(filepath.Join(in.data, "bus.url"))
	if err != nil {
		in.t.Fatal(err)
	}
	other := newInstance(in.t)
	other.args = []string{"--bus", strings.TrimSpace(string(url)), "--creds", filepath.Join(in.data, "operator.nk"),
		"--deployment-key-file", filepath.Join(in.data, "deployment.key"), "--accept-loss-window"}
	other.start()
	return other
}

// newUser makes a user of the venue and gives what they log in with.
func (in *instance) newUser(d door, name string) (secret string) {
	in.t.Helper()
	in.run(name+"-has-a-long-password\n", "user", "add", name)
	if !d.keyed {
		return name + "-has-a-long-password"
	}
	out := in.run("", "user", "apikey", name, "--venue", d.name)
	for _, word := range strings.Fields(out) {
		if key, err := base64.StdEncoding.DecodeString(word); err == nil && len(key) == 16 {
			return word
		}
	}
	in.t.Fatalf("no API key in %q", out)
	return ""
}

// TestEveryVenue goes through the same life at every venue, on two processes.
func TestEveryVenue(t *testing.T) {
	in := newInstance(t)
	in.start()
	secrets := map[string]string{}
	for _, d := range doors {
		secrets[d.name] = in.newUser(d, d.name+"-user")
	}
	other := in.second()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) { life(t, in, other, d, d.name+"-user", secrets[d.name]) })
	}
	other.kill()

	// A kill -9 of the process in between: what was granted before is good after it.
	held := map[string]pass{}
	for _, d := range doors {
		held[d.name] = mustLogin(t, in.at(d), d, d.name+"-user", secrets[d.name])
	}
	in.kill()
	in.start()
	for _, d := range doors {
		if o, err := d.check(in.at(d), held[d.name]); o != yes || err != nil {
			t.Errorf("%s: after a kill -9 the token is %s, %v", d.name, o, err)
		}
	}
	in.stop()
}

func mustLogin(t *testing.T, at string, d door, name, secret string) pass {
	t.Helper()
	p, o, text, err := d.login(at, name, secret)
	if o != yes || err != nil || p.access == "" {
		t.Fatalf("%s: login: %s, %v: %s", d.name, o, err, text)
	}
	return p
}

func life(t *testing.T, in, other *instance, d door, name, secret string) {
	expect := func(what string, want outcome) func(outcome, error) {
		return func(o outcome, err error) {
			t.Helper()
			if err != nil || o != want {
				t.Fatalf("%s: %s, %v; want %s", what, o, err, want)
			}
		}
	}
	here, there := in.at(d), other.at(d)
	// An end reaches the other process by the book, in some milliseconds: it is asked until it knows, and not for long.
	refusedSoon := func(what, at string, p pass) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			o, err := d.check(at, p)
			if err == nil && o == no {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s, %v", what, o, err)
			}
		}
	}
	wrong := "not-what-" + secret
	if d.keyed {
		wrong = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 16))
	}
	_, o, wrongText, err := d.login(here, name, wrong)
	expect("wrong secret", no)(o, err)
	_, o, unknownText, err := d.login(here, "nobody-at-all", wrong)
	expect("unknown user", no)(o, err)
	if wrongText != unknownText {
		t.Errorf("an unknown user is told from a wrong secret:\n%s\n%s", wrongText, unknownText)
	}

	p := mustLogin(t, here, d, name, secret)
	o, err = d.check(here, p)
	expect("the token here", yes)(o, err)
	o, err = d.check(there, p)
	expect("the token at the other process", yes)(o, err)
	o, err = d.check(there, pass{access: madeUp(p.access)})
	expect("a made-up token", no)(o, err)

	if d.refresh != nil {
		next, o, err := d.refresh(there, p)
		expect("refresh", yes)(o, err)
		refusedSoon("the token from before the refresh", here, p)
		o, err = d.check(here, next)
		expect("the token from the refresh", yes)(o, err)
		if (next.refresh != p.refresh) != d.rotates {
			t.Errorf("the refresh token changed: %t", next.refresh != p.refresh)
		}
		if d.rotates {
			again, o, err := d.refresh(here, p)
			expect("a repeated refresh within the grace", yes)(o, err)
			if again.access != next.access || again.refresh != next.refresh {
				t.Error("a repeated refresh gave another successor")
			}
			third, o, err := d.refresh(here, next)
			expect("the refresh after it", yes)(o, err)
			_, o, err = d.refresh(there, p)
			expect("a refresh token of two generations ago", no)(o, err)
			refusedSoon("the family after reuse", here, third)
			p = mustLogin(t, here, d, name, secret)
		} else {
			p = next
		}
	}
	if d.logout != nil {
		o, err = d.logout(here, p)
		expect("logout", yes)(o, err)
	} else {
		in.run("", "session", "revoke", "--user", name, "--yes")
	}
	refusedSoon("the token at the other process after the end", there, p)
	if p.socket != nil && !p.socket.closed(20*time.Second) {
		t.Error("the socket of a session that has ended stays open")
	}

	for range 6 { // one more than it takes to lock
		if _, _, _, err := d.login(here, name, wrong); err != nil {
			t.Fatal(err)
		}
	}
	_, o, _, err = d.login(there, name, secret)
	expect("the right secret of a locked account", no)(o, err)
	in.run("", "user", "unlock", name)
	mustLogin(t, there, d, name, secret)
}

// madeUp is a token of the same form that was never granted.
func madeUp(token string) string {
	other := "0"
	if token[5] == '0' {
		other = "1"
	}
	return token[:5] + other + token[6:]
}

// TestBusAway: a pod whose bus is gone says "unavailable" in each venue's form, of good tokens, unknown ones and logins
// alike; never "invalid".
func TestBusAway(t *testing.T) {
	in := newInstance(t)
	in.start()
	secrets, held := map[string]string{}, map[string]pass{}
	for _, d := range doors {
		secrets[d.name] = in.newUser(d, d.name+"-user")
	}
	other := in.second()
	for _, d := range doors {
		held[d.name] = mustLogin(t, other.at(d), d, d.name+"-user", secrets[d.name])
	}
	in.kill()                           // takes the bus along
	time.Sleep(2500 * time.Millisecond) // longer than a pod trusts what it knew
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for what, p := range map[string]pass{"a good token": held[d.name], "an unknown token": {access: madeUp(held[d.name].access)}} {
				if d.name == "nebula" && what == "an unknown token" {
					continue // its signature tells that it was never made
				}
				if o, err := d.check(other.at(d), p); o == no && err == nil {
					t.Errorf("%s is called invalid while the bus is away", what)
				}
			}
			if _, o, text, err := d.login(other.at(d), d.name+"-user", secrets[d.name]); o == no && err == nil {
				t.Errorf("a right login is called wrong while the bus is away: %s", text)
			}
		})
	}
}
