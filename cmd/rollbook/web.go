package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// web is one HTTP server on its listener.
type web struct {
	name     string
	log      *slog.Logger
	at       net.Listener
	server   *http.Server
	farewell time.Duration                   // how long clients are sent away before nothing is accepted any more
	drain    time.Duration                   // how long requests in progress may take at the end
	sockets  func(ctx context.Context) error // closes what the server does not know of; may be nil

	leaving atomic.Bool

	mu     sync.Mutex
	silent map[net.Conn]struct{} // guarded by mu: connections that have not asked anything yet
	kept   map[net.Conn]struct{} // guarded by mu: connections that have, and may again; no sockets
}

// The bounds of a request that is not a socket. Where the venue's handler has tighter ones, which it says in the venue's
// words, these are never met. They are for what it does not read or write itself: the body of a request that it refuses by its
// path or method, which the server waits for before it replies, and the replies to a client that asks and asks and never
// reads. Without them such a client would keep its connection, and a goroutine, for as long as it likes.
const (
	readWithin  = 20 * time.Second // from the first byte of the header to the end of the body
	writeWithin = 40 * time.Second // from the end of the header to the end of the reply: body, call and reply have 10 s each
)

func newWeb(name string, at net.Listener, handler http.Handler, log *slog.Logger) *web {
	w := &web{name: name, log: log.With("server", name), at: at, drain: time.Second, silent: map[net.Conn]struct{}{}, kept: map[net.Conn]struct{}{}}
	w.server = &http.Server{
		Handler: w.sendAway(handler),
		// A connection that becomes a socket leaves the server, and all of these behind.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readWithin,
		WriteTimeout:      writeWithin,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
		ConnState:         w.note,
	}
	return w
}

// sendAway has clients close their connection with the next answer, once the server leaves. Without it a client that keeps
// its connection would send the next request while the server closes it, and never know whether that was taken.
func (w *web) sendAway(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.leaving.Load() && r.Header.Get("Upgrade") == "" {
			rw.Header().Set("Connection", "close") // in HTTP/2 the server makes a GOAWAY of it
		}
		next.ServeHTTP(rw, r)
	})
}

// note keeps the lists of connections.
func (w *web) note(c net.Conn, state http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.silent, c)
	switch state {
	case http.StateNew:
		w.silent[c] = struct{}{}
	case http.StateActive, http.StateIdle:
		w.kept[c] = struct{}{}
	default: // closed, or a socket
		delete(w.kept, c)
	}
}

// part sends clients away until none keeps a connection, for as long as farewell.
func (w *web) part() {
	w.leaving.Store(true)
	for end := time.Now().Add(w.farewell); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		open := len(w.kept) + len(w.silent)
		w.mu.Unlock()
		if open == 0 {
			return
		}
	}
}

// hush closes the silent connections: the server would wait five seconds for each to ask something.
func (w *web) hush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.silent {
		_ = c.Close() // its goroutine notices, and takes it off the list
	}
}

// Run serves until ctx ends. Then it sends its clients away, stops accepting, waits for the requests in progress for as long as drain, and
// closes the sockets. Clients that are too slow for that are cut off; it is theirs to ask again, and no failure.
func (w *web) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(w.at) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", w.name, err)
	case <-ctx.Done():
	}
	w.part()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.drain)
	defer cancel()
	w.server.RegisterOnShutdown(w.hush) // called when nothing is accepted any more
	err := w.server.Shutdown(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		w.log.Warn("some requests were cut off", "drain", w.drain)
		err = w.server.Close()
	}
	<-ended
	if w.sockets == nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if late := w.sockets(closing); late != nil {
		w.log.Warn("some sockets were cut off", "err", late)
	}
	return err
}

// traffic counts HTTP requests. Its labels are bounded: a venue, a class of route, a status code.
type traffic struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	open     *prometheus.GaugeVec
}

func newTraffic() *traffic {
	return &traffic{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_http_requests_total",
			Help: "HTTP requests answered, by venue, class of route and status code."}, []string{"venue", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rollbook_http_request_seconds",
			Help:    "Time from a request's header to the end of its answer, by venue and class of route; of a socket, its life.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"venue", "route"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_http_requests_open",
			Help: "HTTP requests and sockets being served, by venue."}, []string{"venue"}),
	}
}

func (t *traffic) collectors() []prometheus.Collector {
	return []prometheus.Collector{t.requests, t.seconds, t.open}
}

// count has a venue's requests counted; class puts a path into one of a few classes.
func (t *traffic) count(venue string, class func(path string) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := t.open.WithLabelValues(venue)
		open.Inc()
		start, answer, route := time.Now(), &answerStatus{ResponseWriter: w}, class(r.URL.Path)
		defer func() {
			open.Dec()
			t.seconds.WithLabelValues(venue, route).Observe(time.Since(start).Seconds())
			t.requests.WithLabelValues(venue, route, answer.label()).Inc()
		}()
		next.ServeHTTP(answer, r)
	})
}

// answerStatus remembers the status of an answer.
type answerStatus struct {
	http.ResponseWriter
	code int
}

func (a *answerStatus) WriteHeader(code int) {
	if a.code == 0 || a.code < 200 && a.code != http.StatusSwitchingProtocols {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap lets [http.ResponseController] and the socket library find the connection.
func (a *answerStatus) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// status is that of the answer, once it is written.
func (a *answerStatus) status() int { return cmp.Or(a.code, http.StatusOK) }

func (a *answerStatus) label() string { return strconv.Itoa(a.status()) }
