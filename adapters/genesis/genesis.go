// Package genesis speaks the login, logout and metadata protocol of the Genesis Global router, over HTTP and WebSocket.
//
// A request arrives as an HTTP call (http.go) or as a frame of a socket (socket.go). Both become one [call] (call.go):
// which of the protocol's messages it is, and what it presents. [Handler.answer] (answer.go) asks the gate and gives
// the acknowledgement (ack.go) or the refusal (nack.go) that the venue's clients know; the transport it came by writes
// it back. docs/protocols/genesis.md has the field tables and says where this service departs from Genesis, and why.
//
// Invariants:
//   - Every reply carries the SOURCE_REF of its own request: a client waits for ever on any other.
//   - An acknowledgement never has a field ERROR, a refusal always has one. Whatever a client sends, it gets one of
//     both: no 5xx for bad input, no redirect, no silence.
//   - "Not known" (the book is away) is UNAVAILABLE, and never looks like a refused token.
//   - A socket's messages are answered one after the other, in order.
//   - A session opened over a socket ends with it, but not at once: the clients reconnect. Stopping the service ends none.
//   - No token and no password is ever logged, nor named in a reply that did not create it or was not asked with it.
package genesis

import (
	"context"
	"log/slog"
	"net/http"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Gate is what this adapter asks of *[adapters.Gate], which documents each method.
type Gate interface {
	Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error)
	Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error)
	Logout(ctx context.Context, r adapters.Logout) (adapters.Refused, error)
	Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error)
	Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error)
	Session(id session.SessionID) (session.Session, bool)
	Resources() []session.Resource
	Resource(ctx context.Context, name session.ResourceName) (session.Resource, adapters.Refused, error)
	Name(user session.UserID) string
	Use(id session.SessionID, user session.UserID)
	Watch(id session.SessionID) (ended <-chan struct{}, stop func())
}

var _ Gate = (*adapters.Gate)(nil)

// Handler serves the protocol on every path below its root. It is an http.Handler and safe for concurrent use.
type Handler struct {
	cfg     Config
	gate    Gate
	log     *slog.Logger
	origins *adapters.Origins
	replies *adapters.Replies
	outage  *adapters.Outage
	sockets *adapters.Sockets
	linger  *adapters.Linger
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one. Nothing runs
// until requests arrive; [Handler.Shutdown] joins what they started.
func New(cfg Config, gate Gate, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("genesis: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", "genesis")
	sockets := adapters.NewSockets(cfg.MaxSockets)
	return &Handler{
		cfg: cfg, gate: gate, log: log, origins: adapters.NewOrigins(cfg.origins()),
		replies: adapters.NewReplies(session.Genesis), outage: adapters.NewOutage(log), sockets: sockets,
		// A client that reconnects goes on with the token it has, so a use counts as much as a refresh.
		linger: adapters.NewLinger(adapters.LingerConfig{Gate: gate, Uses: gate, Sockets: sockets, Timeout: cfg.CallTimeout,
			Now: cfg.Now, Log: log}),
	}
}

// Metrics is what the handler counts.
func (h *Handler) Metrics() *adapters.Replies { return h.replies }

// ServeHTTP answers an HTTP call, or keeps a socket until it closes. Paths are read without regard to case, to "-" or
// "_", to doubled slashes and to a leading /gwf or /sm; it never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	adapters.NeverStore(w.Header())
	h.origins.Allow(w, r)
	at := route(r.URL.Path)
	_, call := calls[at]
	switch {
	case r.Method == http.MethodOptions:
		h.bounded(w, func() { h.origins.Preflight(w) })
	case adapters.IsUpgrade(r) && !call: // a call is answered as one, whatever else it offers (RFC 9110, 7.8)
		h.serveSocket(w, r, at)
	default:
		h.serveCall(w, r, at)
	}
}

// Shutdown closes all sockets and forgets the sessions that linger, without ending any: their clients come back to
// another pod. It returns when everything that the handler started has ended, or with ctx's error. Calls in progress
// are the http.Server's to wait for; new sockets are refused from here on.
func (h *Handler) Shutdown(ctx context.Context) error {
	defer h.linger.Forget()
	return h.sockets.Shutdown(ctx)
}
