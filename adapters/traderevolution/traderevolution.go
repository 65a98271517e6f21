// Package traderevolution speaks the authentication part of the TraderEvolution BackOffice REST API.
//
// A request comes in through [Handler.ServeHTTP]: its caller is paced (pace.go), its body is read within bounds
// (request.go), the path says what is asked and whether a bearer token is needed (below). One function for each call asks
// the gate and gives the reply (token.go, onetime.go, settings.go) or the fault (fault.go) that is written back.
// docs/protocols/traderevolution.md has the field tables, and says what is the vendor's and what was chosen here.
//
// Invariants:
//   - Whatever a client sends, it gets one JSON object: the reply, or {"errors": ["<dotted code>"]} with a status of the
//     vendor's list. No redirect, no text, no 5xx for bad input.
//   - "Not known" (the book is away) is a 500, and never looks like a refused token or an invalid one-time token.
//   - Every reason why a login fails before the password checked out, and every reason why an account is closed, is the
//     same reply.
//   - Access, refresh and one-time tokens are taken only where they belong; none is ever taken from a query, or logged.
package traderevolution

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Gate is what this adapter asks of *[adapters.Gate], which documents each method.
type Gate interface {
	Login(ctx context.Context, r adapters.Login) (adapters.Grant, adapters.Refused, error)
	Refresh(ctx context.Context, r adapters.Refresh) (adapters.Grant, adapters.Refused, error)
	Check(ctx context.Context, venue session.Venue, token string) (session.Live, adapters.Refused, error)
	Verify(ctx context.Context, venue session.Venue, token string) (session.UserID, adapters.Refused, error)
	IssueOneTime(ctx context.Context, venue session.Venue, user session.UserID, id session.SessionID, lifetime time.Duration,
		form adapters.TokenForm) (adapters.OneTime, adapters.Refused, error)
	Lifetimes(ctx context.Context, venue session.Venue, change session.Lifetimes) (session.Lifetimes, adapters.Refused, error)
	Profile(user session.UserID) session.Profile
	Find(name string) (session.UserID, bool)
	Name(user session.UserID) string
}

var _ Gate = (*adapters.Gate)(nil)

// venue is whose sessions these are.
const venue = session.TraderEvolution

// Handler serves the protocol below the base path and below "/". It is an http.Handler, safe for concurrent use, and
// starts nothing that outlives a request.
type Handler struct {
	cfg     Config
	gate    Gate
	log     *slog.Logger
	pace    *pace
	replies *adapters.Replies
	outage  *adapters.Outage
}

// New makes a handler with a valid configuration (see [Config.Validate]); it panics on an invalid one.
func New(cfg Config, gate Gate, log *slog.Logger) *Handler {
	if err := cfg.Validate(); err != nil {
		panic("traderevolution: New was given an invalid configuration: " + err.Error())
	}
	cfg = cfg.withDefaults()
	log = log.With("adapter", venue.String())
	return &Handler{
		cfg: cfg, gate: gate, log: log, pace: newPace(cfg.CallRate), replies: adapters.NewReplies(venue), outage: adapters.NewOutage(log),
	}
}

// Metrics is what the handler counts.
func (h *Handler) Metrics() *adapters.Replies { return h.replies }

// answer serves one call: the reply's body, or why there is none.
type answer func(h *Handler, ctx context.Context, c *call) (any, *fault)

// path is what is served at one path.
type path struct {
	class   adapters.CallClass // for the metrics
	open    bool               // without a bearer token
	redeems bool               // one-time tokens; then not open with [Config.OneTimeBearer]
	methods map[string]answer
}

// paths are all that is served.
var paths = map[string]path{
	"/auth/token":            {class: "login", open: true, methods: map[string]answer{http.MethodPost: (*Handler).login}},
	"/auth/token/refresh":    {class: "refresh", open: true, methods: map[string]answer{http.MethodGet: (*Handler).refresh}},
	"/auth/pfixtoken/verify": {class: "verify", open: true, redeems: true, methods: map[string]answer{http.MethodGet: (*Handler).verifyByHeader}},
	"/external/token/verify": {class: "verify", open: true, redeems: true, methods: map[string]answer{http.MethodPost: (*Handler).verify}},
	"/external/token":        {class: "issue", methods: map[string]answer{http.MethodPost: (*Handler).issue}},
	"/connectors/settings": {class: "settings", methods: map[string]answer{http.MethodGet: (*Handler).settings,
		http.MethodPatch: (*Handler).changeSettings}},
	"/methods/errors": {class: "errors", methods: map[string]answer{http.MethodGet: (*Handler).explain}},
}

// ServeHTTP answers one call. It never redirects: doubled slashes and one at the end are read over.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	adapters.NeverStore(w.Header())
	w.Header().Set("Pragma", "no-cache")
	at := h.cfg.route(r.URL.EscapedPath())
	class := adapters.CallClass("other")
	if here, served := paths[at]; served {
		class = here.class
	}
	reply, f := h.answer(w, r, at)
	if f != nil {
		h.replies.Count(class, f.outcome())
		h.refuse(w, f)
		return
	}
	h.replies.Count(class, adapters.OutcomeGood)
	write(w, http.StatusOK, reply)
}

// answer paces the caller, reads the call and serves it.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, at string) (any, *fault) {
	adapters.LimitReading(w, h.cfg.CallTimeout)
	if wait := h.pace.wait(h.cfg.Now(), caller(r.RemoteAddr)); wait > 0 {
		f := tooFast
		f.retry = wait
		return nil, &f
	}
	c, bad := h.readCall(w, r)
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
	defer cancel()
	return h.serve(ctx, at, r.Method, c, bad)
}

// serve finds what is asked and answers it. bad is what is wrong with the call's body, for those who may know.
func (h *Handler) serve(ctx context.Context, at, method string, c *call, bad *fault) (any, *fault) {
	here, found := paths[at]
	if !here.open || h.cfg.OneTimeBearer && here.redeems {
		if f := h.authenticate(ctx, c); f != nil {
			return nil, f
		}
	}
	do, served := here.methods[method]
	switch {
	case !found:
		return nil, &noPath
	case !served:
		f := noMethod
		f.allow = here.allow()
		return nil, &f
	case bad != nil:
		return nil, bad
	}
	return do(h, ctx, c)
}

// allow lists the methods, as the header Allow does.
func (p path) allow() string {
	methods := make([]string, 0, len(p.methods))
	for method := range p.methods {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// authenticate finds the session whose access token the call presents.
func (h *Handler) authenticate(ctx context.Context, c *call) *fault {
	if c.bearer == "" {
		return h.refused(adapters.Refused{Code: session.InvalidToken})
	}
	live, refused, err := h.gate.Check(ctx, venue, c.bearer)
	switch {
	case err != nil:
		return h.failed("check", err)
	case refused.No():
		return h.refused(refused)
	}
	c.caller = live
	return nil
}

// OperatorScope is the right, among a user's profile scopes, to read and change the settings and to make one-time tokens
// for others.
const OperatorScope = "connectors.settings"

// operator is a fault unless the caller has the operator's right.
func (h *Handler) operator(c *call) *fault {
	if slices.Contains(h.gate.Profile(c.caller.User).Scopes, OperatorScope) {
		return nil
	}
	return h.refused(adapters.Refused{Code: session.NotPermitted})
}
