package traderevolution

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
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

const wireFiles = "../../testdata/wire/traderevolution/"

// TestWireGoldens sends the requests of each folder in order to a real gate, byte for byte but for the line ends and the
// tokens, and compares the replies. A token stands in the files as the name of the member that gave it, in braces;
// {operatorToken} is an operator's access token. The clock stands still but for the work, which lifetimes do not show.
func TestWireGoldens(t *testing.T) {
	for folder, cfg := range map[string]Config{"seed": free(), "clients": free(), "refusals": free(), "standard": {CallRate: -1, StandardStatus: true}} {
		t.Run(folder, func(t *testing.T) {
			c := newClient(t, cfg, newHouse(t, nil).gate(nil))
			tokens := map[string]string{"operatorToken": c.login("admin", "secret").AccessToken}
			for _, file := range requests(t, folder) {
				request := string(read(t, file))
				for name, token := range tokens {
					request = strings.ReplaceAll(request, "{"+name+"}", token)
				}
				response, body := exchange(t, c.server.Listener.Addr().String(), request)
				var members map[string]any
				if err := json.Unmarshal(body, &members); err != nil {
					t.Fatalf("%s: %v in %q", file, err, body)
				}
				for _, name := range []string{"accessToken", "refreshToken", "token"} {
					if token, is := members[name].(string); is {
						tokens[name] = token
						body = bytes.ReplaceAll(body, []byte(token), []byte("{"+name+"}"))
					}
				}
				response.Header.Del("Content-Length") // of the reply as it was sent
				golden(t, file, dump(response, body))
			}
		})
	}
}

func requests(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(wireFiles + folder + "/*.request")
	if err != nil || len(files) < 3 {
		t.Fatalf("%s has %d requests: %v", folder, len(files), err)
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	return data
}

// golden compares with the reply beside the request.
func golden(t *testing.T, request string, got []byte) {
	t.Helper()
	file := strings.TrimSuffix(request, ".request") + ".response"
	if *update {
		must(t, os.WriteFile(file, got, 0o644))
		return
	}
	if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
		t.Errorf("%s (-want +got; rewrite with -update):\n%s", file, diff)
	}
}

// exchange sends a request as it stands, over a connection of its own, and adds only its length.
func exchange(t *testing.T, address, request string) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	head, body, _ := strings.Cut(request, "\n\n")
	head, body = strings.TrimSuffix(head, "\n"), strings.TrimSuffix(body, "\n")
	if body != "" {
		head += fmt.Sprintf("\nContent-Length: %d", len(body))
	}
	_, err = io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body)
	must(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer response.Body.Close()
	reply, err := io.ReadAll(response.Body)
	must(t, err)
	return response, reply
}

// dump is the reply as a golden holds it: the headers sorted.
func dump(response *http.Response, body []byte) []byte {
	response.Header.Del("Date")
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s %s\n", response.Proto, response.Status)
	_ = response.Header.Write(&buf)
	return append(append(bytes.ReplaceAll(buf.Bytes(), []byte("\r\n"), []byte("\n")), '\n'), body...)
}
