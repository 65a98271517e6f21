package adapterstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// witness stands for a test, to see it fail.
type witness struct {
	testing.TB
	mu   sync.Mutex
	says []string
	end  []func()
}

func (w *witness) Helper()             {}
func (w *witness) Logf(string, ...any) {}
func (w *witness) Cleanup(f func())    { w.end = append(w.end, f) }
func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.says = append(w.says, fmt.Sprintf(format, args...))
}
func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	panic(w)
}
func (w *witness) Fatal(args ...any) { w.Fatalf("%s", fmt.Sprint(args...)) }

func (w *witness) Error(args ...any) { w.Errorf("%s", fmt.Sprint(args...)) }

func (w *witness) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.says) > 0
}

// fails lists what a test said that failed.
func fails(t *testing.T, test func(testing.TB)) []string {
	w := &witness{TB: t}
	func() {
		defer func() {
			if ended := recover(); ended != nil && ended != any(w) {
				panic(ended)
			}
		}()
		test(w)
	}()
	for _, f := range slices.Backward(w.end) {
		f()
	}
	return w.says
}

// TestMalformedIsStrict: each thing that must hold of an answer is seen when it does not, and a good run passes.
func TestMalformedIsStrict(t *testing.T) {
	good := Answer{Asked: "asked", Kind: "400", Status: 400, Reply: "no"}
	var kept [][]byte
	for name, test := range map[string]struct {
		run    Malformed
		answer func() Answer
		want   string
	}{
		"nothing wrong":  {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { return good }, ""},
		"too few":        {Malformed{Requests: 999, Growth: 1 << 20}, func() Answer { return good }, "proves nothing"},
		"never measured": {Malformed{Requests: 1000, WarmUp: 1000, Growth: 1 << 20}, func() Answer { return good }, "proves nothing"},
		"another kind":   {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { a := good; a.Kind = "418"; return a }, `no documented answer, but "418"`},
		"a redirect":     {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { a := good; a.Status = 302; return a }, "status 302"},
		"a failure":      {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { a := good; a.Status = 500; return a }, "status 500"},
		"a secret":       {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { a := good; a.Reply = "wrong: hunter2"; return a }, "holds what was presented"},
		"an echo":        {Malformed{Requests: 1000, Growth: 1 << 20}, func() Answer { a := good; a.Reply, a.Echoes = "hunter2", true; return a }, ""},
		"a leak": {Malformed{Requests: 1000, WarmUp: 100, Growth: 1 << 20}, func() Answer {
			kept = append(kept, make([]byte, 4<<10))
			return good
		}, "the heap grew"},
	} {
		t.Run(name, func(t *testing.T) {
			test.run.Documented = []string{"400"}
			said := fails(t, func(tb testing.TB) { test.run.Run(tb, func(int) Answer { return test.answer() }) })
			if (test.want == "") != (len(said) == 0) || len(said) > 0 && !strings.Contains(said[0], test.want) {
				t.Errorf("it says %q, want %q", said, test.want)
			}
		})
	}
	if len(kept) != 1000 {
		t.Errorf("%d requests were sent", len(kept))
	}
}

// TestGoldens: a difference is seen, a missing file and a missing folder too, and only the flag writes.
func TestGoldens(t *testing.T) {
	update := false
	g := Goldens{Dir: t.TempDir(), Update: &update}
	folder := filepath.Join(g.Dir, "seed")
	Must(t, os.Mkdir(folder, 0o755))
	for _, name := range []string{"2-b.request", "1-a.request", "1-a.response", "x.request"} {
		Must(t, os.WriteFile(filepath.Join(folder, name), []byte(name), 0o644))
	}
	files := g.Requests(t, "seed", "[0-9]*", 2)
	if len(files) != 2 || g.Read(t, files[0]) != "1-a.request" || g.Read(t, "seed/x.request") != "x.request" {
		t.Errorf("the requests are %q", files)
	}
	g.Compare(t, files[0], []byte("1-a.response"))
	for _, test := range []func(testing.TB){
		func(t testing.TB) { g.Compare(t, files[0], []byte("1-a.respons")) },
		func(t testing.TB) { g.Compare(t, files[1], nil) },
		func(t testing.TB) { g.Requests(t, "seed", "*", 4) },
		func(t testing.TB) { g.Requests(t, "seeds", "*", 1) },
	} {
		if said := fails(t, test); len(said) != 1 {
			t.Errorf("it says %q", said)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "2-b.response")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a comparison has written: %v", err)
	}
	update = true
	g.Compare(t, files[1], []byte("new"))
	if got := g.Read(t, "seed/2-b.response"); got != "new" {
		t.Errorf("with the flag: %q", got)
	}
}

// TestExchange: what stands in the text is what is sent, and the head of the response is what a golden holds.
func TestExchange(t *testing.T) {
	server := Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
		w.Header().Set("B", "2")
		w.Header().Set("A", "1")
		fmt.Fprintf(w, "%s %s %q %s", r.Method, r.RequestURI, r.Header["X"], body)
	}))
	response, body := Exchange(t, server, "POST //a/%2e?b HTTP/1.1\nHost: x\nX: 1\nX: 2\n\n{\n}\n")
	const head = "HTTP/1.1 200 OK\nA: 1\nB: 2\nContent-Length: 28\nContent-Type: text/plain; charset=utf-8\n"
	if want := `POST //a/%2e?b ["1" "2"] ` + "{\n}"; body != want || string(Head(response)) != head {
		t.Errorf("%q, want %q, under %q", body, want, Head(response))
	}
	if response, body := Exchange(t, server, "HEAD / HTTP/1.1\nHost: x\n"); response.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", response.StatusCode, body)
	}
	response, body = Call(t, server.Client(), "PUT", server.URL+"/p", "text", Headers("X: a: b", "X: c"))
	if want := `PUT /p ["a: b" "c"] text`; body != want || response.StatusCode != 200 {
		t.Errorf("%q, want %q", body, want)
	}
	if got := Raw(t, server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "GET / [] ") {
		t.Errorf("%q", got)
	}
	moved := Serve(t, http.RedirectHandler("/", http.StatusFound))
	if response, _ := Call(t, moved.Client(), "GET", moved.URL, "", nil); response.StatusCode != http.StatusFound {
		t.Errorf("a redirect was followed: %d", response.StatusCode)
	}
}

// stuck is a handler that cannot be shut down.
type stuck struct{ http.Handler }

func (stuck) Shutdown(context.Context) error { return errors.New("it does not stop") }

// TestWhatIsStarted: a part that ends by itself, and a handler that does not stop, fail the test.
func TestWhatIsStarted(t *testing.T) {
	said := fails(t, func(tb testing.TB) {
		Runs(tb, func(context.Context) error { return errors.New("broken") })
		Eventually(t, "it is noticed", tb.(*witness).failed)
	})
	if len(said) != 1 || said[0] != "a part ended by itself: broken" {
		t.Errorf("a part that ends: %q", said)
	}
	said = fails(t, func(tb testing.TB) { Serve(tb, stuck{http.NotFoundHandler()}) })
	if len(said) != 1 || said[0] != "it does not stop" {
		t.Errorf("a handler that does not stop: %q", said)
	}
	stopped := 0
	said = fails(t, func(tb testing.TB) {
		stop := Runs(tb, func(ctx context.Context) error { <-ctx.Done(); stopped++; return ctx.Err() })
		stop()
		stop()
	})
	if len(said) != 0 || stopped != 1 {
		t.Errorf("a part that is stopped: %q, %d times", said, stopped)
	}
}
