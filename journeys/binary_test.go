// Package journeys drives the real binary through real sockets, as its users do: the seed's own requests, a browser's
// WebSocket messages, kill -9 in the middle of it all, and a search of everything on disk for what must not be there.
package journeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollbook/journeys/portstest"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rollbook-journeys-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "rollbook")
	build := exec.Command("go", "build", "-o", binary, "rollbook/cmd/rollbook")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// instance is a running server on a data directory that outlives it.
type instance struct {
	t    *testing.T
	data string
	base int
	args []string
	cmd  *exec.Cmd
	log  *locked
	gone chan struct{} // closed when the process has ended

	patience time.Duration // how long it may take to be ready; zero: a minute
}

// locked is a buffer that a process writes while a test reads.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// newInstance prepares a server on a fresh data directory and a free range of ports; start starts it.
func newInstance(t *testing.T, args ...string) *instance {
	in := &instance{t: t, data: filepath.Join(t.TempDir(), "data"), base: portstest.Take(t), args: args, log: &locked{}}
	t.Cleanup(in.kill)
	return in
}

func (in *instance) start() {
	in.t.Helper()
	args := append([]string{"serve", "--port-base", fmt.Sprint(in.base)}, in.args...)
	if !slices.Contains(args, "--bus") {
		args = append(args, "--data", in.data)
	}
	in.cmd = exec.Command(binary, args...)
	in.cmd.Stdout, in.cmd.Stderr = in.log, in.log
	if err := in.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	gone := make(chan struct{})
	in.gone = gone
	go func() {
		_ = in.cmd.Wait() // a killed process is no failure here
		close(gone)
	}()
	in.ready()
}

// ready waits until the server says that it can serve.
func (in *instance) ready() {
	in.t.Helper()
	for deadline := time.Now().Add(max(in.patience, time.Minute)); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-in.gone:
			in.t.Fatalf("the server ended:\n%s", in.log)
		default:
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", in.base))
		if err != nil {
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	in.t.Fatalf("the server is not ready in time:\n%s", in.log)
}

// kill is kill -9.
func (in *instance) kill() {
	if in.cmd != nil && in.cmd.Process != nil {
		_ = in.cmd.Process.Kill()
		<-in.gone
	}
}

// stop is an orderly end; it must be quick and clean.
func (in *instance) stop() {
	in.t.Helper()
	if err := in.cmd.Process.Signal(os.Interrupt); err != nil {
		in.t.Fatal(err)
	}
	select {
	case <-in.gone:
	case <-time.After(30 * time.Second):
		in.t.Fatalf("the server does not end:\n%s", in.log)
	}
	if code := in.cmd.ProcessState.ExitCode(); code != 0 {
		in.t.Fatalf("the server ended with %d:\n%s", code, in.log)
	}
}

// genesis is the address of the venue.
func (in *instance) genesis(path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", in.base+4, path)
}

// run runs an operator's command with a line on standard input and gives what it printed.
func (in *instance) run(stdin string, args ...string) string {
	in.t.Helper()
	out, err := in.try(stdin, args...)
	if err != nil {
		in.t.Fatalf("rollbook %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (in *instance) try(stdin string, args ...string) (string, error) {
	cmd := exec.Command(binary, append(args, "--data", in.data)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out locked
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// message is a venue's JSON object.
type message map[string]any

func (m message) text(key string) string {
	s, _ := m[key].(string)
	return s
}

func (m message) object(key string) message {
	o, _ := m[key].(map[string]any)
	return o
}

// code is the code of the first error of a NACK, or "".
func (m message) code() string {
	list, _ := m["ERROR"].([]any)
	if len(list) == 0 {
		return ""
	}
	first, _ := list[0].(map[string]any)
	return message(first).text("CODE")
}

// call sends a request of the venue and decodes the answer. An error means that no answer came.
func call(method, url string, header map[string]string, body string) (message, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		req.Header[k] = []string{v} // as spelt: the venue's clients send underscores and capitals
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, data)
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %s", err, data)
	}
	return m, nil
}

func mustCall(t *testing.T, method, url string, header map[string]string, body string) message {
	t.Helper()
	m, err := call(method, url, header, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return m
}
