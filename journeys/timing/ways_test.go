package timing

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rollbook/engine/session"
)

// way is one way to log in. Everything that it presents but the name is the same from call to call, or of the same length.
type way struct {
	name  string
	venue session.Venue
	open  func(t *testing.T, url string) connection
	// request is a login by that name with a wrong secret.
	request func(name string) string
	// away is in a reply that says "not known": no sample, whatever the class.
	away string
	// silent: it asks the book nothing, so that it leaves no trace there.
	silent bool
}

// connection sends a request and gives the reply, all of it but the date. It is used by one goroutine.
type connection func(request string) (reply string, err error)

const wrong = "not the password of anybody"

var ways = []way{
	{name: "genesis, HTTP", venue: session.Genesis, open: overHTTP, away: "UNAVAILABLE", request: func(name string) string {
		return post("/event-login-auth", `{"DETAILS":{"USER_NAME":"`+name+`","PASSWORD":"`+wrong+`"}}`)
	}},
	{name: "genesis, socket", venue: session.Genesis, open: overSocket("/", ""), away: "UNAVAILABLE", request: func(name string) string {
		return `{"MESSAGE_TYPE":"EVENT_LOGIN_AUTH","SOURCE_REF":"1","DETAILS":{"USER_NAME":"` + name + `","PASSWORD":"` + wrong + `"}}`
	}},
	{name: "traderevolution", venue: session.TraderEvolution, open: overHTTP, away: " 500 ", request: func(name string) string {
		return post("/proftrading/rest/auth/token", `{"login":"`+name+`","password":"`+wrong+`"}`)
	}},
	{name: "advauth, key", venue: session.AdvAuth, open: overHTTP, away: " 500 ", request: func(name string) string {
		return post("/api/login", `{"UserLogin":"`+name+`","ApiKey":"`+base64.StdEncoding.EncodeToString(make([]byte, 16))+`"}`)
	}},
	{name: "advauth, challenge", venue: session.AdvAuth, open: overHTTP, away: " 500 ", silent: true, request: func(name string) string {
		return post("/api/login/advAuthInit", `{"UserLogin":"`+name+`"}`)
	}},
	{name: "advauth, answer", venue: session.AdvAuth, open: overHTTP, away: " 500 ", request: func(name string) string {
		return post("/api/login/advAuth", `{"UserLogin":"`+name+`","RndB":"`+strings.Repeat("00", 16)+`"}`)
	}},
	{name: "zenith, AuthOwner", venue: session.Zenith, open: overSocket("/Zenith?version=2.0", "ZenithJson"), away: "Unavailable", request: func(name string) string {
		return `{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{"Provider":"BasicAuth","ClientID":"timing","UserName":"` + name + `","Password":"` + wrong + `"}}`
	}},
	{name: "zenith, AuthCode", venue: session.Zenith, open: overSocket("/Zenith?version=2.0", "ZenithJson"), away: "Unavailable", request: func(name string) string {
		grant := base64.StdEncoding.EncodeToString([]byte(name + ":" + wrong))
		return `{"Controller":"Auth","Topic":"AuthCode","TransactionID":1,"Data":{"Provider":"BasicAuth","ClientID":"timing","AuthGrant":"` + grant + `"}}`
	}},
	{name: "nebula, HTTP", venue: session.Nebula, open: overHTTP, away: " 503 ", request: func(name string) string {
		return post("/trader-api/auth/token", `{"email":"`+name+`","password":"`+wrong+`"}`)
	}},
	{name: "nebula, password", venue: session.Nebula, open: overSocket("/", ""), away: "unavailable", request: func(name string) string {
		return `{"q":"exchange.market/createSession","sid":1,"d":{"username":"` + name + `","password":"` + wrong + `"}}`
	}},
	{name: "nebula, signature", venue: session.Nebula, open: overSocket("/", ""), away: "unavailable", request: func(name string) string {
		return fmt.Sprintf(`{"q":"exchange.market/createSession","sid":1,"d":{"apiKey":"%s","timestamp":%d,"signature":"%s"}}`, name, time.Now().UnixMilli(), strings.Repeat("00", 32))
	}},
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// overHTTP keeps one connection. Bytes are compared, so they are read as they come: no client library between.
func overHTTP(t *testing.T, url string) connection {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	from := bufio.NewReader(conn)
	return func(request string) (string, error) {
		if _, err := io.WriteString(conn, request); err != nil {
			return "", err
		}
		var reply bytes.Buffer
		length := -1
		for {
			line, err := from.ReadString('\n')
			if err != nil {
				return "", err
			}
			if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
					return "", err
				}
			}
			if !strings.HasPrefix(line, "Date: ") {
				reply.WriteString(line)
			}
			if line == "\r\n" {
				break
			}
		}
		if length < 0 {
			return "", fmt.Errorf("a reply without its length: %q", reply.String())
		}
		_, err := io.CopyN(&reply, from, int64(length))
		return reply.String(), err
	}
}

func overSocket(path, protocol string) func(*testing.T, string) connection {
	return func(t *testing.T, url string) connection {
		options := &websocket.DialOptions{}
		if protocol != "" {
			options.Subprotocols = []string{protocol}
		}
		conn, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http:", "ws:", 1)+path, options)
		must(t, err)
		t.Cleanup(func() { conn.CloseNow() })
		return func(request string) (string, error) {
			if err := conn.Write(context.Background(), websocket.MessageText, []byte(request)); err != nil {
				return "", err
			}
			_, reply, err := conn.Read(context.Background())
			return string(reply), err
		}
	}
}
