// Package zenith speaks the authentication part of the Paritech Zenith protocol: the controller Auth over a WebSocket.
//
// A handshake may present a token in its header . Each text frame of the socket (socket.go) is one
// envelope (envelope.go) for a topic (topics.go): a login or a restored connection (auth.go), which asks a [Provider]
// (provider.go, oidc.go) what a grant means and then the gate; a question who one is (identity.go); a subscription or a
// setting (subscribe.go). docs/protocols/zenith.md has the field tables and says where this service
// departs from Zenith, and why.
//
// Invariants:
//   - A login that is refused is answered with a Result, never with an error and never with an access token: the
//     vendor's client takes any reply with a token for a success.
//   - "Not known" (the book or an issuer is away) is the error Authority.Unavailable, and never looks like a refusal.
//   - One socket has one session at most; its messages are answered one after the other, in order.
//   - The access token of the protocol is the session's refresh token: it stays the same, it restores a connection,
//     and to present it renews the session. The session's own access token is handed to nobody.
//   - A session ends with its socket, but not at once: clients reconnect. Stopping the service ends none.
//   - No token, grant or password is ever logged, nor named to anybody but the client that it belongs to.
package zenith

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Gate is what this adapter asks of *[adapters.Gate], which documents each method.
type Gate interface {
	Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error)
	Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error)
	Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error)
	Session(id session.SessionID) (session.Session, bool)
	Find(name string) (session.UserID, bool)
	Profile(user session.UserID) session.Profile
	Use(id session.SessionID, user session.UserID)
	Watch(id session.SessionID) (ended <-chan struct{}, stop func())
}

var _ Gate = (*adapters.Gate)(nil)

// Handler serves the sockets at /Zenith. It is an http.Handler and safe for concurrent use.
type Handler struct {
	cfg     Config
	gate    Gate
	log     *slog.Logger
	warning rate.Sometimes // bounds the log while the book or an issuer is away

	// closing ends the waits that outlive a request: sockets, and the ends of sessions that linger.
	closing context.Context
	close   context.CancelFunc
	work    sync.WaitGroup // a socket, or a lingering end that has begun

	mu      sync.Mutex
	stopped bool                        // guarded by mu: Shutdown has begun, nothing new starts
	sockets int                         // guarded by mu: how many are open
	held    map[session.SessionID]*held // guarded by mu: the sessions that are on sockets, or were until lately
	ends    chan struct{}               // a slot for each lingering end that runs

	retryEnd time.Duration // when the end of a session is asked for again after nobody could say what came of it
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one. Nothing runs
// until requests arrive; [Handler.Shutdown] joins what they started.
func New(cfg Config, gate Gate, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("zenith: New was given an invalid configuration: " + err.Error())
	}
	h := &Handler{
		cfg: cfg.withDefaults(), gate: gate, log: log.With("adapter", "zenith"), warning: rate.Sometimes{Interval: time.Second},
		held: make(map[session.SessionID]*held), ends: make(chan struct{}, 16), retryEnd: 5 * time.Second,
	}
	h.closing, h.close = context.WithCancel(context.Background())
	return h
}

// ServeHTTP keeps a socket until it closes. Anything else gets a status and one line of text: 404 for another path,
// 405 for another method, 426 for a call that asks for no socket, and what [Handler.handshake] says. It never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store") // RFC 9111, 5.2.2.5; OWASP ASVS 5.0, 14.3.2
	header.Set("X-Content-Type-Options", "nosniff")
	switch {
	case !strings.EqualFold(strings.TrimSuffix(r.URL.Path, "/"), "/Zenith"):
		http.Error(w, "the sockets are at /Zenith", http.StatusNotFound)
	case r.Method != http.MethodGet:
		header.Set("Allow", http.MethodGet)
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		header.Set("Upgrade", "websocket")
		http.Error(w, "only sockets are served here", http.StatusUpgradeRequired)
	default:
		h.handshake(w, r)
	}
}

// Shutdown closes all sockets with code 1012, which tells clients to come back, and forgets the sessions that linger,
// without ending any. It returns when everything that the handler started has ended, or with ctx's error. New sockets
// are refused from here on.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.stopped = true
	for _, e := range h.held {
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	h.mu.Unlock()
	h.close()

	done := make(chan struct{})
	go func() {
		h.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("some sockets have not closed in time"), ctx.Err())
	}
}
