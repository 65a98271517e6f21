// Package advauth speaks the login protocol of EFG's Aktion: a 20 s token for an API key, or for the answer to a challenge.
//
// A request is routed by its path (below), read (request.go, decode.go), and answered by one of five methods: the
// challenge, the answer to it, the plain login (login.go), whose token this is, and the check of the token that every
// other path asks for (token.go). challenge.go makes and recognises challenges without keeping any, profile.go holds
// what an answer has to be. The reply, or the refusal from the one table (fault.go), is written as JSON or XML, by the
// rules that the venue's framework negotiates by (negotiate.go, reply.go). docs/protocols/advauth.md has the field
// tables, and says what the venue's page documents and what is this service's own.
//
// Invariants:
//   - A challenge is good for one accepted login, whichever pods gave it and took the answer; the book sees to that.
//   - A login that nobody has costs and gets what a wrong answer costs and gets, in both steps.
//   - The server's proof goes out only after the client has proved itself.
//   - "Not known" (the book is away) never looks like a refused login or a refused token.
//   - No token, key, challenge or answer is ever logged, nor named in a reply that did not make it.
package advauth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"strings"

	"golang.org/x/time/rate"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Gate is what this adapter asks of *[adapters.Gate], which documents each method.
type Gate interface {
	Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error)
	Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error)
	Find(name string) (session.UserID, bool)
	Decoy(name string) session.UserID
	Key(user session.UserID, venue session.Venue) (key []byte, generation uint64, ok bool)
	Name(user session.UserID) string
}

var _ Gate = (*adapters.Gate)(nil)

// Handler serves the protocol on every path below its root. It is an http.Handler and safe for concurrent use. It starts
// nothing and holds no connection, so there is nothing to shut down.
type Handler struct {
	cfg        Config
	gate       Gate
	log        *slog.Logger
	challenges *challenges
	logins     *rate.Limiter
	ended      *tombstones
	replies    *adapters.Replies
	outage     *adapters.Outage
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one.
func New(cfg Config, gate Gate, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("advauth: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", "advauth")
	return &Handler{
		cfg: cfg, gate: gate, log: log, challenges: newChallenges(cfg.ChallengeKey),
		logins: rate.NewLimiter(rate.Limit(cfg.LoginRate), 2*cfg.LoginRate), ended: newTombstones(),
		replies: adapters.NewReplies(session.AdvAuth), outage: adapters.NewOutage(log),
	}
}

// Metrics is what the handler counts.
func (h *Handler) Metrics() *adapters.Replies { return h.replies }

// method is one of the things that can be asked.
type method struct {
	class  adapters.CallClass // for the metrics
	verb   string
	answer func(h *Handler, ctx context.Context, c *call) (reply, *fault)
	off    func(cfg *Config) bool // disabled by configuration
}

// methods are found by their path in lower case, without the prefix.
var methods = map[string]method{
	"login": {"login", http.MethodPost, (*Handler).plainLogin, func(cfg *Config) bool { return cfg.DisablePlainLogin }},
	"login/advauthinit": {"challenge", http.MethodPost, (*Handler).challenge,
		func(cfg *Config) bool { return cfg.DisableAdvAuth }},
	"login/advauth": {"answer", http.MethodPost, (*Handler).advAuth, func(cfg *Config) bool { return cfg.DisableAdvAuth }},
	"login/whoami":  {"whoami", http.MethodGet, (*Handler).whoAmI, func(*Config) bool { return false }},
}

// ServeHTTP answers one call. Paths are read without regard to case, to doubled slashes and to a prefix of
// [Config.Prefixes]; it never redirects.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	adapters.NeverStore(w.Header())
	w.Header().Set("Vary", "Accept, Content-Type")
	c := &call{w: w, r: r, form: negotiate(r.Header), class: "other"}
	defer func() {
		// The documented reply to a defect is a 500 without its text; the http.Server would drop the connection.
		if broken := recover(); broken != nil {
			if broken == http.ErrAbortHandler {
				panic(broken)
			}
			ref := reference()
			h.log.Error("a call broke an invariant", "ref", ref, "panic", broken, "at", origin())
			h.write(c, reply{}, internal(ref))
		}
	}()
	answer, fault := h.serve(c)
	h.write(c, answer, fault)
}

// serve finds the method and has it answer, in the order of docs/protocols/advauth.md: disabled, method, then the rest.
func (h *Handler) serve(c *call) (reply, *fault) {
	ctx, cancel := context.WithTimeout(c.r.Context(), h.cfg.CallTimeout)
	defer cancel()
	adapters.LimitReading(c.w, h.cfg.CallTimeout)
	m, served := methods[h.route(c.r.URL.Path)]
	if served {
		c.class = m.class
	}
	switch {
	case !served:
		return h.elsewhere(ctx, c)
	case m.off(&h.cfg):
		return reply{}, h.disabled()
	case c.r.Method != m.verb && (m.verb != http.MethodGet || c.r.Method != http.MethodHead):
		return reply{}, wrongMethod(c.r.Method, m.verb)
	}
	return m.answer(h, ctx, c)
}

// route is the path as a method's key: in lower case, without empty segments and without the prefix.
func (h *Handler) route(path string) string {
	at := segments(path)
	for _, prefix := range h.cfg.Prefixes {
		if rest, under := strings.CutPrefix(at, prefix); under && (rest == "" || rest[0] == '/') {
			return strings.TrimPrefix(rest, "/")
		}
	}
	return at
}

func segments(path string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(path), func(c rune) bool { return c == '/' }), "/")
}

// origin says where a panic comes from. A stack trace would do, but for the arguments that it prints: keys among them.
func origin() []string {
	var (
		counters [24]uintptr
		lines    []string
	)
	frames := runtime.CallersFrames(counters[:runtime.Callers(4, counters[:])]) // from whoever panicked on
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		lines = append(lines, fmt.Sprintf("%s (%s:%d)", frame.Function, path.Base(frame.File), frame.Line))
	}
	return lines
}

// reference is what a reply and a log line have in common.
func reference() string {
	var id [4]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
