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
	warning rate.Sometimes     // bounds the log while the book is away

	// closing ends the waits that outlive a request: sockets, and ends of sessions that are tried again.
	closing context.Context
	close   context.CancelFunc
	work    sync.WaitGroup // a socket, or an end that is tried again

	mu      sync.Mutex
	stopped bool          // guarded by mu: Shutdown has begun, nothing new starts
	sockets int           // guarded by mu: how many are open
	ends    chan struct{} // a slot for each end of a session that is asked for
	retry   time.Duration // between two attempts to end one
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one. Nothing runs until
// [Handler.Run] is called or requests arrive; [Handler.Shutdown] joins what requests started.
func New(cfg Config, gate Gate, board KeyBoard, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("nebula: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", "nebula")
	h := &Handler{
		cfg: cfg, gate: gate, log: log, keys: newKeyring(cfg, board, log), issuers: make(map[string]*issuer),
		dummy: randomKey(), warning: rate.Sometimes{Interval: time.Second}, ends: make(chan struct{}, 64), retry: retryEnd,
	}
	for _, i := range cfg.Issuers {
		h.issuers[i.URL] = newIssuer(i, cfg.Now)
	}
	h.closing, h.close = context.WithCancel(context.Background())
	return h
}

// Run makes, publishes and rotates this pod's signing keys until ctx ends. It always returns ctx's error: while the
// board is away it tries again.
func (h *Handler) Run(ctx context.Context) error { return h.keys.run(ctx) }

// ServeHTTP answers an HTTP call, or keeps a socket until it closes. It never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store") // RFC 9111, 5.2.2.5; OWASP ASVS 5.0, 14.3.2
	header.Set("X-Content-Type-Options", "nosniff")
	h.allowOrigin(w, r)
	if isUpgrade(r) {
		h.serveSocket(w, r)
		return
	}
	// Of a body that does not come, the server would wait for the rest before it replies. Not every ResponseWriter has
	// deadlines; then the http.Server's ReadTimeout is the bound.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.cfg.CallTimeout))
	switch path := r.URL.Path; {
	case r.Method == http.MethodOptions:
		h.preflight(w)
	case path == tokenPath && r.Method == http.MethodPost:
		h.serveToken(w, r)
	case path == jwksPath && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		h.serveKeys(w, r)
	case strings.HasPrefix(path, restPrefix) && path != tokenPath:
		h.serveRest(w, r)
	default:
		write(w, &notFound)
	}
}

// Shutdown closes all sockets and ends the sessions that were opened over them; those of tokens live on. It returns when
// everything that the handler started has ended, or with ctx's error. Calls in progress are the http.Server's to wait
// for; new sockets are refused from here on.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.stopped = true
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
