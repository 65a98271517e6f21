// Package nebula speaks the authentication protocol of the Exberry Nebula and Exchange APIs, over HTTP and WebSocket.
//
// A login by HTTP (token.go) gives a JSON Web Token (claims.go), signed with a key that this pod made and that every pod
// can verify (keys.go). A frame of a socket (socket.go, frame.go) asks for a session: with such a token, with one of
// another issuer that is configured (issuer.go), with an API key or with a password (create.go). All of them ask the
// gate; what it refuses is told in the venue's words by one table (fault.go). docs/protocols/nebula.md has the field
// tables and says where this service departs from Exberry's, and why.
//
// Invariants:
//   - A token is good by its signature and by its session: whoever ends the session ends the token, at once, everywhere.
//   - Signatures are RS256 by a key that stands on the board, and nothing in a token says where to find a key. The private
//     halves never leave the pod.
//   - "Not known" (the book or the board is away) is "System is unavailable", and never looks like a refused token.
//   - A session is on a socket as long as both live: the socket is closed when the session ends. A session that was
//     opened over the socket ends with it at once, because nobody else holds a token for it.
//   - Every frame with a sid and a qualifier that asks for something is answered with that sid; what the venue's gateway
//     passes over in silence is passed over here.
//   - No token, password, key or signature is logged, nor repeated in a reply that did not create it.
package nebula

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
	Disconnect(ctx context.Context, s session.Session) (adapters.Refused, error)
	Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error)
	Profile(user session.UserID) session.Profile
	Find(name string) (session.UserID, bool)
	Decoy(name string) session.UserID
	Key(user session.UserID, venue session.Venue) (key []byte, generation uint64, ok bool)
	Generation(user session.UserID, venue session.Venue) (generation uint64, ok bool)
	Watch(id session.SessionID) (ended <-chan struct{}, stop func())
}

var _ Gate = (*adapters.Gate)(nil)

// Handler serves the protocol: sockets on every path, the login and the public keys on theirs. It is an http.Handler and
// safe for concurrent use. [Handler.Run] must run beside it: until it has made and published a key, and while it cannot
// keep it published, tokens cannot be issued.
type Handler struct {
	cfg     Config
	gate    Gate
	log     *slog.Logger
	keys    *keyring
	issuers map[string]*issuer // by the issuer's name, as "iss" has it
	dummy   [32]byte           // makes the keys of names that have none
	origins *adapters.Origins
	replies *adapters.Replies
	outage  *adapters.Outage
	sockets *adapters.Sockets
	linger  *adapters.Linger // ends the sessions that were opened for a socket
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one. Nothing runs until
// [Handler.Run] is called or requests arrive; [Handler.Shutdown] joins what requests started.
func New(cfg Config, gate Gate, board KeyBoard, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("nebula: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", "nebula")
	sockets := adapters.NewSockets(cfg.MaxSockets)
	h := &Handler{
		cfg: cfg, gate: gate, log: log, keys: newKeyring(cfg, board, log), issuers: make(map[string]*issuer), dummy: randomKey(),
		origins: adapters.NewOrigins(cfg.origins()), replies: adapters.NewReplies(session.Nebula), outage: adapters.NewOutage(log),
		sockets: sockets,
		linger:  adapters.NewLinger(adapters.LingerConfig{Gate: gate, Sockets: sockets, Timeout: cfg.CallTimeout, AtOnce: 64, Log: log}),
	}
	for _, i := range cfg.Issuers {
		h.issuers[i.URL] = newIssuer(i, cfg.Now)
	}
	return h
}

// Metrics is what the handler counts.
func (h *Handler) Metrics() *adapters.Replies { return h.replies }

// Run makes, publishes and rotates this pod's signing keys until ctx ends. It always returns ctx's error: while the
// board is away it tries again.
func (h *Handler) Run(ctx context.Context) error { return h.keys.run(ctx) }

// ServeHTTP answers an HTTP call, or keeps a socket until it closes. Paths are read without regard to doubled slashes and
// to one at the end: clients put them together from a base that may end in one. It never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	adapters.NeverStore(w.Header())
	h.origins.Allow(w, r)
	if isUpgrade(r) {
		h.serveSocket(w, r)
		return
	}
	adapters.LimitReading(w, h.cfg.CallTimeout)
	switch path := "/" + strings.Join(strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' }), "/"); {
	case r.Method == http.MethodOptions:
		h.origins.Preflight(w)
	case path == tokenPath && r.Method == http.MethodPost:
		h.serveToken(w, r)
	case path == jwksPath && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		h.serveKeys(w, r)
	case strings.HasPrefix(path+"/", restPrefix) && path != tokenPath:
		h.serveRest(w, r)
	default:
		h.refuse(w, classOther, &notFound)
	}
}

// Shutdown closes all sockets and ends the sessions that were opened over them; those of tokens live on. It returns when
// everything that the handler started has ended, or with ctx's error. Calls in progress are the http.Server's to wait
// for; new sockets are refused from here on.
func (h *Handler) Shutdown(ctx context.Context) error {
	defer h.linger.Forget()
	return h.sockets.Shutdown(ctx)
}
