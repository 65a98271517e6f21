package zenith

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"rollbook/adapters"
	"rollbook/engine/session"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

const wireFiles = "../../testdata/wire/zenith/"

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
			for _, file := range frames(t, folder) {
				golden(t, file, indent(t, exchange(t, conn, read(t, file))))
			}
		})
	}
}

// TestSeedSample compares the reply with the one that the venue's document shows: each of its fields is there, in its
// order and with its value, and nothing is there that the document's table does not name but ExpiresIn.
func TestSeedSample(t *testing.T) {
	conn := open(t, "seed")
	messages := exchange(t, conn, read(t, wireFiles+"seed/01-authcode.request"))
	if len(messages) != 1 {
		t.Fatal(messages)
	}
	var want, got map[string]any
	decode := func(data []byte, into *map[string]any) {
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	decode(read(t, wireFiles+"seed/01-authcode.sample"), &want)
	decode([]byte(messages[0]), &got)
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
	file := wireFiles + folder + "/handshake.request"
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(read(t, file), '\n'))))
	if err != nil {
		t.Fatal(err)
	}
	conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http")+request.URL.String(), request.Header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	response.Header.Del("Date")
	response.Header.Del("Sec-Websocket-Accept")
	var dump bytes.Buffer
	dump.WriteString(response.Proto + " " + response.Status + "\n")
	_ = response.Header.Write(&dump)
	golden(t, file, bytes.ReplaceAll(dump.Bytes(), []byte("\r\n"), []byte("\n")))
	return conn
}

// exchange sends a frame, and a question behind it whose answer shows that all messages have come.
func exchange(t *testing.T, conn *websocket.Conn, frame []byte) (messages []string) {
	t.Helper()
	send(t, conn, strings.TrimSpace(string(frame)))
	send(t, conn, `{"Topic":"QueryConfigure","TransactionID":424242}`)
	for {
		message := receive(t, conn)
		if strings.Contains(message, `"TransactionID":424242`) {
			return messages
		}
		messages = append(messages, message)
	}
}

func frames(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(wireFiles + folder + "/[0-9]*.request")
	if err != nil || len(files) < 3 {
		t.Fatalf("%s has %d frames: %v", folder, len(files), err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// golden compares with the answer beside the request.
func golden(t *testing.T, request string, got []byte) {
	t.Helper()
	file := strings.TrimSuffix(request, ".request") + ".response"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
		t.Errorf("%s (-want +got; rewrite with -update):\n%s", file, diff)
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
