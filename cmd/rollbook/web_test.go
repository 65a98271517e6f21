package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rollbook/adapters/genesis"
)

func serveSlowly(t *testing.T, drain time.Duration, log *slog.Logger) (ask chan error, entered, leave chan struct{}, stop func() error, sockets *bool) {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ask, entered, leave, sockets = make(chan error, 1), make(chan struct{}), make(chan struct{}), new(bool)
	w := newWeb("test", at, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	}), log)
	w.drain = drain
	w.sockets = func(context.Context) error { *sockets = true; return nil }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	go func() {
		answer, err := http.Get("http://" + at.Addr().String())
		if err == nil {
			var body []byte
			body, err = io.ReadAll(answer.Body)
			answer.Body.Close()
			if string(body) != "done" {
				err = errors.Join(err, errors.New("the answer is cut off"))
			}
		}
		ask <- err
	}()
	return ask, entered, leave, func() error { cancel(); return <-ended }, sockets
}

func TestRequestsInProgressAreAnswered(t *testing.T) {
	ask, entered, leave, stop, sockets := serveSlowly(t, time.Minute, slog.New(slog.DiscardHandler))
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		t.Fatalf("the server ended with a request in progress: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	if err := <-ask; err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil || !*sockets {
		t.Errorf("the server ended with %v; sockets closed: %v", err, *sockets)
	}
}

// TestDrainEnds: a request that takes too long is cut off. That is worth a warning, and no failure of the service.
func TestDrainEnds(t *testing.T) {
	var log bytes.Buffer
	ask, entered, leave, stop, sockets := serveSlowly(t, 20*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil)))
	defer close(leave)
	<-entered
	if err := stop(); err != nil || !*sockets {
		t.Errorf("the server ended with %v; sockets closed: %v", err, *sockets)
	}
	if got := log.String(); !strings.Contains(got, `level=WARN msg="some requests were cut off" server=test drain=20ms`) {
		t.Errorf("the log has %s", got)
	}
	if <-ask == nil {
		t.Error("the request was answered, though it was to be cut off")
	}
}

// TestClientsAreSentAway: clients that keep their connections are told to close them while the server still answers, so that
// none of them sends a request into a connection that is being closed.
func TestClientsAreSentAway(t *testing.T) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWeb("test", at, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") }),
		slog.New(slog.DiscardHandler))
	w.farewell = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	var clients errgroup.Group
	var asked sync.WaitGroup
	for range 8 {
		asked.Add(1)
		clients.Go(func() error {
			client := &http.Client{Transport: &http.Transport{}}
			for n := 0; ; n++ {
				answer, err := client.Post("http://"+at.Addr().String(), "text/plain", strings.NewReader("a request that is not repeated"))
				if err != nil {
					return fmt.Errorf("request %d: %w", n, err)
				}
				body, err := io.ReadAll(answer.Body)
				answer.Body.Close()
				if err != nil || string(body) != "done" {
					return fmt.Errorf("request %d: %q, %w", n, body, err)
				}
				if n == 0 {
					asked.Done()
				}
				if answer.Close { // it would go to another pod
					return nil
				}
			}
		})
	}
	asked.Wait()
	cancel()
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSilentConnectionsAreNotWaitedFor: one that has sent nothing and one with half a header hold nobody up. The
// server by itself would give them five seconds, which the drain would cut off with an error.
func TestSilentConnectionsAreNotWaitedFor(t *testing.T) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWeb("test", at, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	w.drain = 4 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for _, sent := range []string{"", "GET / HT"} {
		c, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, sent); err != nil {
			t.Fatal(err)
		}
	}
	for accepted := 0; accepted < 2; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		accepted = len(w.silent)
		w.mu.Unlock()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestFailingPartEndsTheGroup: a part that ends untold is a failure, whatever it returns; one that is told is none.
func TestFailingPartEndsTheGroup(t *testing.T) {
	g, failing := errgroup.WithContext(context.Background())
	waiting := begin(failing, g, "the patient one", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	begin(failing, g, "the hasty one", func(context.Context) error { return nil })
	<-failing.Done()
	select {
	case <-waiting.done:
		t.Error("a part ended before its turn")
	case <-time.After(10 * time.Millisecond):
	}
	waiting.stop()
	if err := g.Wait(); err == nil || err.Error() != "the hasty one: it ended by itself" {
		t.Errorf("the group ended with %v", err)
	}
}

// TestTrafficCountsWhatWasAnswered looks at the labels of an answer with and without an explicit status.
func TestTrafficCountsWhatWasAnswered(t *testing.T) {
	traffic := newTraffic()
	for _, status := range []int{0, http.StatusServiceUnavailable} {
		handler := traffic.count("genesis", genesis.Class, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status != 0 {
				w.WriteHeader(status)
			}
			_, _ = io.WriteString(w, "x")
		}))
		request, _ := http.NewRequest(http.MethodGet, "/event-logout", nil)
		handler.ServeHTTP(nowhere{}, request)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(traffic.collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, family := range families {
		if family.GetName() != "rollbook_http_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				seen = append(seen, label.GetValue())
			}
		}
	}
	if got := strings.Join(seen, " "); got != "logout 200 genesis logout 503 genesis" {
		t.Errorf("counted under %s", got)
	}
}

// nowhere is a ResponseWriter that drops what it gets.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
