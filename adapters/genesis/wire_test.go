package genesis

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

const wireFiles = "../../testdata/wire/genesis/"

// TestWireGoldens sends the requests of each folder in order, byte for byte but for the line ends, and compares the
// replies. The clock and the tokens are the samples'; the only volatile value is the header Date.
func TestWireGoldens(t *testing.T) {
	for _, folder := range []string{"seed", "clients", "refusals"} {
		t.Run(folder, func(t *testing.T) {
			server, gate, _ := serve(t, quick())
			gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0") // the token that the metadata samples use
			for _, file := range requests(t, folder) {
				response, body := exchange(t, server.Listener.Addr().String(), read(t, file))
				golden(t, file, dump(response, body))
			}
		})
	}
	t.Run("strict", func(t *testing.T) {
		cfg := quick()
		cfg.StrictStatus = true
		server, gate, _ := serve(t, cfg)
		gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0")
		for _, file := range requests(t, "refusals") {
			response, body := exchange(t, server.Listener.Addr().String(), read(t, file))
			var n nack
			if err := json.Unmarshal(body, &n); err != nil || len(n.Error) != 1 {
				t.Fatalf("%s: %s", file, body)
			}
			if got := response.Status; !strings.HasPrefix(n.Error[0].StatusCode, got[:3]+" ") || got[0] != '4' {
				t.Errorf("%s: status %s where the reply says %s", file, got, n.Error[0].StatusCode)
			}
		}
	})
	t.Run("socket", func(t *testing.T) {
		server, _, _ := serve(t, quick())
		conn := dial(t, server, "//gwf/")
		for _, file := range requests(t, "socket") {
			send(t, conn, strings.TrimSpace(string(read(t, file))))
			golden(t, file, indent(t, receive(t, conn)))
		}
	})
}

// TestSeedSamples compares the replies with those that the venue's document shows: each of its fields is there, in its
// order and with its value. Of the refresh three values differ: the document's reply echoes the wrong SOURCE_REF, is
// four seconds later, and comes from another installation.
func TestSeedSamples(t *testing.T) {
	server, gate, _ := serve(t, quick())
	gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0")
	for _, file := range requests(t, "seed") {
		_, body := exchange(t, server.Listener.Addr().String(), read(t, file))
		differ := map[string]bool{}
		if strings.Contains(file, "refresh") {
			differ = map[string]bool{".SOURCE_REF": true, ".DETAILS.SYSTEM.DATE": true, ".DETAILS.PRODUCT[0].NAME": true}
			if !bytes.Contains(body, []byte(`"SOURCE_REF":"123456-789042"`)) {
				t.Errorf("the refresh does not echo its own SOURCE_REF: %s", body)
			}
		}
		want, got := ordered(t, read(t, strings.TrimSuffix(file, ".request")+".sample")), ordered(t, body)
		covers(t, file, want, got, differ)
	}
}

// member is one field of an object, with its place kept.
type member struct {
	name  string
	value any
}

// ordered decodes JSON with objects as []member.
func ordered(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	var value func() any
	value = func() any {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		switch token {
		case json.Delim('{'):
			members := []member{}
			for d.More() {
				name, _ := d.Token()
				members = append(members, member{name.(string), value()})
			}
			_, _ = d.Token()
			return members
		case json.Delim('['):
			items := []any{}
			for d.More() {
				items = append(items, value())
			}
			_, _ = d.Token()
			return items
		}
		return token
	}
	return value()
}

// covers fails unless got has all that want has, in the same order. Below the paths in differ only the type counts.
func covers(t *testing.T, path string, want, got any, differ map[string]bool) {
	t.Helper()
	switch want := want.(type) {
	case []member:
		rest, ok := got.([]member)
		if !ok {
			t.Errorf("%s is %T, not an object", path, got)
			return
		}
		for _, m := range want {
			i := 0
			for ; i < len(rest) && rest[i].name != m.name; i++ {
			}
			if i == len(rest) {
				t.Errorf("%s.%s is missing or out of order", path, m.name)
				return
			}
			covers(t, path+"."+m.name, m.value, rest[i].value, differ)
			rest = rest[i+1:]
		}
	case []any:
		items, ok := got.([]any)
		if !ok || len(items) != len(want) {
			t.Errorf("%s is %v, not a list of %d", path, got, len(want))
			return
		}
		for i := range want {
			covers(t, fmt.Sprintf("%s[%d]", path, i), want[i], items[i], differ)
		}
	default:
		_, field, _ := strings.Cut(path, ".request")
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) || want != got && !differ[field] {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func requests(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(wireFiles + folder + "/*.request")
	if err != nil || len(files) < 5 {
		t.Fatalf("%s has %d requests: %v", folder, len(files), err)
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

// golden compares with the reply beside the request.
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

// exchange sends a request as it stands, over a connection of its own, and adds only its length.
func exchange(t *testing.T, address string, request []byte) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	head, body, _ := strings.Cut(string(request), "\n\n")
	head, body = strings.TrimSuffix(head, "\n"), strings.TrimSuffix(body, "\n")
	if body != "" {
		head += fmt.Sprintf("\nContent-Length: %d", len(body))
	}
	// The reply may come before the request is through.
	go io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%v after %s", err, head)
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, reply
}

// dump is the reply as a golden holds it: the headers sorted, the body indented.
func dump(response *http.Response, body []byte) []byte {
	response.Header.Del("Date")
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s %s\n", response.Proto, response.Status)
	_ = response.Header.Write(&buf)
	out := bytes.ReplaceAll(buf.Bytes(), []byte("\r\n"), []byte("\n"))
	if len(body) > 0 {
		out = append(append(out, '\n'), indentJSON(body)...)
	}
	return out
}

func indentJSON(body []byte) []byte {
	var buf bytes.Buffer
	if json.Indent(&buf, body, "", "    ") != nil {
		return body
	}
	return buf.Bytes()
}

func indent(t *testing.T, frame string) []byte {
	t.Helper()
	if !json.Valid([]byte(frame)) {
		t.Fatalf("not JSON: %s", frame)
	}
	return regexp.MustCompile(`\n?$`).ReplaceAll(indentJSON([]byte(frame)), []byte("\n"))
}
