package journeys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
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

// answer is an HTTP reply.
type answer struct {
	status int
	body   []byte
	whole  string // status, header and body; the date is left out, and the seconds left of a lock
}

var secondsLeft = regexp.MustCompile(`(Retry-After: |try again in )\d+`)

// exchange sends a request and gives the answer.
func exchange(method, url string, header map[string]string, body string) (answer, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
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
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	a.body, err = io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	var whole strings.Builder
	fmt.Fprintf(&whole, "%s\n", resp.Status)
	_ = resp.Header.Write(&whole) // sorted by name; a strings.Builder takes all
	fmt.Fprintf(&whole, "\n%s", a.body)
	a.whole = secondsLeft.ReplaceAllString(whole.String(), "${1}N")
	return a, err
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
		a, err := exchange("GET", at+"/resources-request", map[string]string{"SESSION_AUTH_TOKEN": p.access}, "")
		return genesisMeans(object(a.body), "RESOURCES_REQUEST_ACK"), err
	},
	logout: func(at string, p pass) (outcome, error) {
		a, err := exchange("POST", at+"/event-logout", map[string]string{"SESSION_AUTH_TOKEN": p.access}, "")
		return genesisMeans(object(a.body), "LOGOUT_ACK"), err
	},
}

func genesisLogin(at string, details message) (pass, outcome, string, error) {
	body, _ := json.Marshal(message{"DETAILS": details})
	a, err := exchange("POST", at+"/event-login-auth", nil, string(body))
	m := object(a.body)
	return pass{access: m.text("SESSION_AUTH_TOKEN"), refresh: m.text("REFRESH_AUTH_TOKEN")}, genesisMeans(m, "EVENT_LOGIN_AUTH_ACK"), a.whole, err
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
		a, err := exchange("POST", at+"/proftrading/rest/auth/token", nil, string(body))
		m := object(a.body)
		return pass{access: m.text("accessToken"), refresh: m.text("refreshToken")}, byStatus(a.status), a.whole, err
	},
	refresh: func(at string, p pass) (pass, outcome, error) {
		a, err := exchange("GET", at+"/auth/token/refresh", map[string]string{"token": p.refresh}, "")
		m := object(a.body)
		return pass{access: m.text("accessToken"), refresh: m.text("refreshToken")}, byStatus(a.status), err
	},
	check: func(at string, p pass) (outcome, error) {
		a, err := exchange("GET", at+"/accounts", map[string]string{"Authorization": "Bearer " + p.access}, "")
		return byStatus(a.status), err
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
		a, err := exchange("POST", at+"/api/login", nil, string(body))
		return pass{access: object(a.body).text("Token")}, byStatus(a.status), a.whole, err
	},
	check: func(at string, p pass) (outcome, error) {
		a, err := exchange("GET", at+"/api/person/get?PersonId=1&Token="+p.access, nil, "")
		return byStatus(a.status), err
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
	if m.text("Action") == "Error" {
		return pass{}, unavailable, s.said, nil
	}
	return pass{}, no, s.said, nil
}

var nebulaDoor = door{name: "nebula", port: 8,
	login: func(at, name, secret string) (pass, outcome, string, error) {
		body, _ := json.Marshal(message{"email": name, "password": secret})
		a, err := exchange("POST", at+"/trader-api/auth/token", nil, string(body))
		return pass{access: object(a.body).text("token")}, byStatus(a.status), a.whole, err
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
	s.said = string(data)
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
