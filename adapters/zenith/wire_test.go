package zenith

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

var goldens = adapterstest.Goldens{Dir: "../../testdata/wire/zenith", Update: update}

// oauth stands for the authorisation server that the recorded clients had their tokens of.
type oauth struct{}

func (oauth) Understand(_ context.Context, grant string) (adapters.Login, error) {
	if !strings.HasPrefix(grant, "tok-") && !strings.HasPrefix(grant, "access-token-") {
		return adapters.Login{}, ErrGrant
	}
	return adapters.Login{Name: "JaneDee", Judge: func(context.Context) (session.Credential, error) {
		return session.Credential{User: "u1janedee", Generation: 1, Verdict: session.Matched}, nil
	}}, nil
}

// TestWireGoldens opens a socket with each folder's handshake, sends the folder's frames in order, and compares the
// messages that answer each. The clock and the tokens stand still; seed has the venue's samples, older, motif and owner
// what two clients were recorded to send.
func TestWireGoldens(t *testing.T) {
	for _, folder := range []string{"seed", "older", "motif", "owner", "refusals", "subscriptions"} {
		t.Run(folder, func(t *testing.T) {
			conn := open(t, folder)
			for _, file := range goldens.Requests(t, folder, "[0-9]*", 3) {
				goldens.Compare(t, file, indent(t, exchange(t, conn, goldens.Read(t, file))))
			}
		})
	}
}

// TestSeedSample compares the reply with the one that the venue's document shows: each of its fields is there, in its
// order and with its value, and nothing is there that the document's table does not name but ExpiresIn.
func TestSeedSample(t *testing.T) {
	conn := open(t, "seed")
	messages := exchange(t, conn, goldens.Read(t, "seed/01-authcode.request"))
	if len(messages) != 1 {
		t.Fatal(messages)
	}
	var want, got map[string]any
	decode := func(text string, into *map[string]any) { must(t, json.Unmarshal([]byte(text), into)) }
	decode(goldens.Read(t, "seed/01-authcode.sample"), &want)
	decode(messages[0], &got)
	data := got["Data"].(map[string]any)
	for _, added := range []string{"AccessToken", "DisplayName", "UserID", "ExpiryDate", "ExpiresIn"} {
		if text, ok := data[added].(string); !ok || text == "" {
			t.Errorf("%s is %v", added, data[added])
		}
		delete(data, added)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the sample (-) and the reply (+):\n%s", diff)
	}
	at := 0
	for _, field := range []string{"Controller", "Topic", "TransactionID", "Data", "Result", "Scope"} {
		place := strings.Index(messages[0], `"`+field+`":`)
		if place < at {
			t.Errorf("%s is out of order: %s", field, messages[0])
		}
		at = place
	}
}

// open makes the folder's handshake and compares the response.
func open(t *testing.T, folder string) *websocket.Conn {
	t.Helper()
	cfg := sample()
	cfg.Providers[bearer] = oauth{}
	server, _, _ := serve(t, cfg)
	file := goldens.Requests(t, folder, "handshake", 1)[0]
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(goldens.Read(t, file) + "\n")))
	must(t, err)
	conn, response, err := adapterstest.Handshake(server, request.URL.String(), request.Header)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	response.Header.Del("Sec-Websocket-Accept")
	goldens.Compare(t, file, adapterstest.Head(response))
	return conn
}

// exchange sends a frame, and a question behind it whose answer shows that all messages have come.
func exchange(t *testing.T, conn *websocket.Conn, frame string) (messages []string) {
	t.Helper()
	send(t, conn, strings.TrimSpace(frame))
	send(t, conn, `{"Topic":"QueryConfigure","TransactionID":424242}`)
	for {
		message := receive(t, conn)
		if strings.Contains(message, `"TransactionID":424242`) {
			return messages
		}
		messages = append(messages, message)
	}
}

// indent is the messages as a golden holds them.
func indent(t *testing.T, messages []string) []byte {
	t.Helper()
	var buf bytes.Buffer
	for _, message := range messages {
		if err := json.Indent(&buf, []byte(message), "", "    "); err != nil {
			t.Fatalf("%v: %s", err, message)
		}
		buf.WriteByte('\n')
	}
	return buf.Bytes()
}
