package advauth

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

const wireFiles = "../../testdata/wire/advauth/"

// TestWireGoldens sends the requests of each folder in order, byte for byte but for the line ends, and compares the
// replies. The clock and the token are the venue's sample's; the only volatile value is the header Date.
func TestWireGoldens(t *testing.T) {
	for _, folder := range []string{"seed", "clients", "refusals", "desfire"} {
		t.Run(folder, func(t *testing.T) {
			cfg := sample()
			if folder == "desfire" {
				cfg.Profile = DESFire
			}
			server, _ := serve(t, cfg)
			for _, file := range requests(t, folder) {
				response, body := exchange(t, server.Listener.Addr().String(), read(t, file))
				golden(t, file, dump(response, body))
				if header := response.Header; header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" ||
					response.StatusCode/100 == 3 {
					t.Errorf("%s: %d %v", file, response.StatusCode, header)
				}
			}
		})
	}
}

// TestSeedSamples holds the replies to the samples on the venue's pages: the same bytes, but for the page's indentation.
func TestSeedSamples(t *testing.T) {
	between := regexp.MustCompile(`\s*\n\s*`)
	squeeze := func(sample []byte) string { return between.ReplaceAllString(string(sample), "") }
	for form, file := range map[mediaType]string{"text/json": "response-json", "text/xml": "response-xml"} {
		want := squeeze(read(t, wireFiles+"seed/"+file+".sample"))
		got := string(render(form, loginResp{schemas: bothSchemas, Token: "sample string 1", ExpireInSec: 2}))
		if form == "text/json" {
			want = strings.ReplaceAll(want, `": `, `":`)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	want := entry{login: "sample string 1", rndA: "sample string 2", rndB: "sample string 3"}
	for file, decode := range map[string]func([]byte) (entry, error){"1-advauth-json": decodeJSON, "2-advauth-xml": decodeXML} {
		_, body, _ := strings.Cut(string(read(t, wireFiles+"seed/"+file+".request")), "\n\n")
		if got, err := decode([]byte(body)); got != want || err != nil {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	cfg := sample()
	cfg.ExpireDate = MicrosoftDate
	server, _ := serve(t, cfg)
	_, body := exchange(t, server.Listener.Addr().String(), read(t, wireFiles+"seed/3-login-json.request"))
	if want := squeeze(read(t, wireFiles+"seed/3-login-json.sample")); string(body) != want {
		t.Errorf("login: %s, want %s", body, want)
	}
}

func requests(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(wireFiles + folder + "/*.request")
	if err != nil || len(files) < 4 {
		t.Fatalf("%s has %d requests: %v", folder, len(files), err)
	}
	slices.Sort(files)
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

// exchange sends a request as it stands, over a connection of its own, and adds only its length where it has a body.
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
	if _, err := io.WriteString(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(head, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
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

// dump is the reply as a golden holds it: the headers sorted, the body as it came.
func dump(response *http.Response, body []byte) []byte {
	response.Header.Del("Date")
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s %s\n", response.Proto, response.Status)
	_ = response.Header.Write(&buf)
	return fmt.Appendf(bytes.ReplaceAll(buf.Bytes(), []byte("\r\n"), []byte("\n")), "\n%s\n", body)
}
