package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gorilla/websocket"

	"rollbook/engine/session"
)

// hostile is what a client may send to steer a terminal, to turn the text beside it, or to be a formula.
const hostile = "=1+1\x1b[2J\x07\r\n\t\u009b31m\u202egpj\u2066\u2028\ufeff\U000e0041"

// hostileAgent is as much of it as a header can hold.
const hostileAgent = "@SUM(1)\u009b31m\u202egpj\u2066\u2028\ufeff\U000e0041"

// runWith runs a command of the program in this process, with a text on its standard input.
func runWith(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "in"), []byte(input))
	in, err := os.Open(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var files [2]*os.File
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	was := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	os.Stdin, os.Stdout, os.Stderr = in, files[0], files[1]
	code = run(args)
	os.Stdin, os.Stdout, os.Stderr = was[0], was[1], was[2]
	var texts [2]string
	for i, f := range files {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	return texts[0], texts[1], code
}

// plain reports what of a text is not printable.
func plain(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s shows %q", what, line)
		}
	}
}

// TestHostileTexts has a client log in under names that are no good to a terminal, a page or a spreadsheet, and an operator
// try such names, and looks at whatever the program prints of them.
func TestHostileTexts(t *testing.T) {
	dir := t.TempDir()
	h := startDemo(t, "--data", dir)
	hostileLogin(t, h)
	hostileOperator(t, dir)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // until the feed has it
		if out, _, _ := runWith(t, "", "tail", "--type", "SessionStarted", "--data", dir); out != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the feed does not have the login")
		}
	}
	user, _ := h.directory.Find(demoName)
	id := h.sessions.ByUser(user)[0].ID.String()

	page := filepath.Join(t.TempDir(), "report.html")
	for _, c := range []struct {
		args  string
		shows []string // in any line of the output
	}{
		{"session list", []string{"JaneDee"}},
		{"session show " + id, []string{`=1+1\x1b[2J`, `@SUM(1)\u009b31m\u202egpj`}},
		{"user list", []string{"JaneDee"}},
		{"user scope ann", []string{`read\u202e`}},
		{"resource show HOSTILE", []string{`=1+1\x1b[2J`}},
		{"resource list", []string{`=1+1\x1b[2J`}},
		{"webhook list", nil},
		{"audit replay", []string{`"=1+1\x1b[2J\x07\r\n\t\u009b31m\u202egpj`}},
		{"audit replay --csv", []string{`,'=1+1\x1b[2J\x07\r\n\t\u009b31m\u202egpj`}},
		{"audit at now", []string{`=1+1\x1b[2J`}},
		{"audit at now --csv", []string{`,'=1+1\x1b[2J`, `,'@SUM(1)\u009b31m\u202e`}},
		{"audit stats", nil},
		{"audit stats --csv", nil},
		{"tail", []string{`=1+1\x1b[2J\x07\r\n\t\u009b31m\u202egpj`}},
		{"audit replay --html " + page, nil},
	} {
		out, said, code := runWith(t, "", append(strings.Fields(c.args), "--data", dir)...)
		if code != exitDone {
			t.Fatalf("%s exits with %d: %s", c.args, code, said)
		}
		plain(t, c.args, out)
		plain(t, c.args, said)
		for _, want := range c.shows {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not show %s:\n%s", c.args, want, out)
			}
		}
		if strings.HasSuffix(c.args, "--csv") {
			rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
			if err != nil {
				t.Errorf("%s: %v", c.args, err)
			}
			for _, row := range rows {
				for _, cell := range row {
					if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") {
						t.Errorf("%s has a cell %q", c.args, cell)
					}
				}
			}
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	plain(t, "the report", string(text))
	if !bytes.Contains(text, []byte(`=1+1\x1b[2J`)) && !bytes.Contains(text, []byte(`=1&#43;1\x1b[2J`)) {
		t.Error("the report does not show the client")
	}
	hostileJSON(t, dir, id)
}

// hostileJSON: JSON is printable and exact.
func hostileJSON(t *testing.T, dir, id string) {
	for _, args := range []string{"session list --json", "session show --json " + id, "user list --json", "audit replay --type SessionStarted --json",
		"audit at now --json", "tail --type SessionStarted --json", "resource show HOSTILE --json"} {
		out, said, code := runWith(t, "", append(strings.Fields(args), "--data", dir)...)
		if code != exitDone {
			t.Fatalf("%s exits with %d: %s", args, code, said)
		}
		plain(t, args, out)
		exact := false
		for line := range strings.Lines(out) {
			var value map[string]any
			if err := json.Unmarshal([]byte(line), &value); err != nil {
				t.Errorf("%s: %v: %s", args, err, line)
			}
			for _, name := range []string{"client", "last", "description"} {
				exact = exact || value[name] == hostile
			}
		}
		if !exact {
			t.Errorf("%s has not what was sent: %s", args, out)
		}
	}
}

// hostileLogin logs the demo's user in at Zenith, with the text as the client's name and in its header.
func hostileLogin(t *testing.T, h *house) {
	dialer := &websocket.Dialer{Subprotocols: []string{"ZenithJson"}, HandshakeTimeout: 10 * time.Second}
	conn, _, err := dialer.Dial(h.doorURL(h.door(t, session.Zenith), "ws")+"/Zenith", http.Header{"User-Agent": {hostileAgent}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() }) // the session is the connection's
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	err = conn.WriteJSON(map[string]any{"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1,
		"Data": map[string]string{"Provider": "Rollbook", "ClientID": hostile, "UserName": demoName, "Password": demoPassword}})
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := conn.ReadMessage()
	if err != nil || !strings.Contains(string(text), `"Result":"Success"`) {
		t.Fatalf("%s, %v", text, err)
	}
}

// hostileOperator tries such names as an operator: what is refused is said in printable words, and what is taken is kept.
func hostileOperator(t *testing.T, dir string) {
	hooks := filepath.Join(t.TempDir(), "hooks.toml")
	putFile(t, hooks, []byte("[[endpoint]]\nname = \"a\\u001b\\u202e\"\nurl = \"https://127.0.0.1/\"\n"))
	if _, err := readEndpoints(hooks); err == nil {
		t.Error("a webhook may be called anything")
	} else {
		plain(t, "a webhook's name", sentence(err))
	}
	resources, err := json.Marshal(map[string]any{"resources": []any{map[string]any{"name": "HOSTILE", "type": "DATASERVER", "description": hostile}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{exitRefused, []string{"user", "add", "ann" + hostile}},
		{exitDone, []string{"user", "add", "ann", "--first", "Ann", "--last", hostile}},
		{exitDone, []string{"user", "scope", "ann", "--add", "read\u202e"}},
		{exitRefused, []string{"user", "enable", hostile}},
		{exitRefused, []string{"session", "show", hostile}},
		{exitRefused, []string{"audit", "replay", "--user", hostile}},
		{exitRefused, []string{"audit", "at", hostile}},
		{exitRefused, []string{"resource", "show", hostile}},
		{exitRefused, []string{"webhook", "parked", hostile}},
		{exitDone, []string{"resource", "apply", "-"}},
	} {
		input := "open sesame, open sesame\n"
		if c.args[0] == "resource" {
			input = string(resources)
		}
		out, said, code := runWith(t, input, append(c.args, "--data", dir)...)
		if code != c.want {
			t.Errorf("%q exits with %d: %s", c.args, code, said)
		}
		plain(t, fmt.Sprintf("%q", c.args), out+said)
	}
}
