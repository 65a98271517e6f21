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
	"log/slog"
	"net/http"
	"strings"

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
	replies *adapters.Replies
	outage  *adapters.Outage // of the book or of an issuer
	sockets *adapters.Sockets
	linger  *adapters.Linger
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one. Nothing runs
// until requests arrive; [Handler.Shutdown] joins what they started.
func New(cfg Config, gate Gate, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("zenith: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", "zenith")
	sockets := adapters.NewSockets(cfg.MaxSockets)
	return &Handler{
		cfg: cfg, gate: gate, log: log, replies: adapters.NewReplies(session.Zenith), outage: adapters.NewOutage(log), sockets: sockets,
		// A client that comes back presents the token, here or at another pod, which makes it another generation.
		linger: adapters.NewLinger(adapters.LingerConfig{Gate: gate, Sockets: sockets, Timeout: cfg.CallTimeout, Now: cfg.Now, Log: log}),
	}
}

// Metrics is what the handler counts.
func (h *Handler) Metrics() *adapters.Replies { return h.replies }

// ServeHTTP keeps a socket until it closes. Anything else gets a status and one line of text: 404 for another path,
// 405 for another method, 426 for a call that asks for no socket, and what [Handler.handshake] says. It never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	adapters.NeverStore(header)
	switch {
	case !strings.EqualFold(strings.TrimSuffix(r.URL.Path, "/"), "/Zenith"):
		h.refuse(w, classOther, "the sockets are at /Zenith", http.StatusNotFound)
	case r.Method != http.MethodGet:
		header.Set("Allow", http.MethodGet)
		h.refuse(w, classOther, "use GET", http.StatusMethodNotAllowed)
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		header.Set("Upgrade", "websocket")
		h.refuse(w, classOther, "only sockets are served here", http.StatusUpgradeRequired)
	default:
		h.handshake(w, r)
	}
}

// Shutdown closes all sockets with code 1012, which tells clients to come back, and forgets the sessions that linger,
// without ending any. It returns when everything that the handler started has ended, or with ctx's error. New sockets
// are refused from here on.
func (h *Handler) Shutdown(ctx context.Context) error {
	defer h.linger.Forget()
	return h.sockets.Shutdown(ctx)
}
