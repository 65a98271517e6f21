package nebula

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

const (
	restPrefix = "/trader-api/"
	tokenPath  = restPrefix + "auth/token"
	jwksPath   = "/.well-known/jwks.json" // Auth0's place for it
)

// Bounds of what a client may present, in bytes.
const (
	maxName     = 256
	maxPassword = 1024
)

// granted is the reply to a login.
type granted struct {
	Token     string `json:"token"`
	ExpiresIn int64  `json:"expiresIn"` // seconds
}

// serveToken opens a session by e-mail address and password, and gives its token.
func (h *Handler) serveToken(w http.ResponseWriter, r *http.Request) {
	email, password, fault := h.readLogin(w, r)
	if fault != nil {
		h.refuse(w, classLogin, fault)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
	defer cancel()
	var said claims
	grant, refusal, err := h.gate.Login(ctx, adapters.Login{Venue: session.Nebula, Name: email, Password: password, Origin: adapters.OriginOf(r),
		Sign: func(c adapters.Claims) (string, error) {
			said = h.claimsOf(c)
			return h.keys.sign(said)
		}})
	switch {
	case err != nil:
		h.refuse(w, classLogin, h.failed("a login", err))
	case refusal.No():
		h.refuse(w, classLogin, refused(refusal))
	default:
		// An operator may have shortened the lifetime since this pod started: then the session ends before the claim says.
		lives := grant.Session.AccessDeadline().Time().Sub(grant.Session.Started.Time())
		expiresIn := min(int64(lives/time.Second), said.Expires-said.Issued)
		h.write(w, classLogin, adapters.RenderJSON(granted{Token: grant.Access, ExpiresIn: expiresIn}))
	}
}

// readLogin takes the login out of the request, within the bounds of size and time.
func (h *Handler) readLogin(w http.ResponseWriter, r *http.Request) (email, password string, _ *fault) {
	body, err := adapters.ReadBody(w, r, h.cfg.MaxBody)
	switch {
	case errors.Is(err, adapters.ErrBodyLate):
		return "", "", &tooSlow
	case errors.Is(err, adapters.ErrBodyLarge):
		adapters.DiscardBody(r, h.cfg.MaxBody)
		return "", "", &tooLarge
	case err != nil:
		return "", "", &badRequest
	}
	return decodeLogin(body)
}

// decodeLogin reads {"email": ..., "password": ...}; other fields are not looked at.
func decodeLogin(body []byte) (email, password string, _ *fault) {
	m, ok := decodeObject(body)
	if !ok {
		return "", "", &badRequest
	}
	email, whole := m.text("email")
	if !whole || email == "" || len(email) > maxName {
		return "", "", badParameter("email")
	}
	password, whole = m.text("password")
	if !whole || password == "" || len(password) > maxPassword {
		return "", "", badParameter("password")
	}
	return email, password, nil
}

// serveKeys shows the public keys of all pods. They are the one reply that may be kept: they are no secret, and the next
// one is shown before it is used.
func (h *Handler) serveKeys(w http.ResponseWriter, r *http.Request) {
	set, err := h.keys.jwkSet(r.Context())
	if err != nil {
		h.refuse(w, classKeys, h.failed("the keys", err))
		return
	}
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(h.cfg.KeyCache/time.Second)))
	h.write(w, classKeys, set)
}

// serveRest answers what the venue has beside the login: whoever shows a good token learns that it is not here.
func (h *Handler) serveRest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
	defer cancel()
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	o, whole := outlineOf(strings.TrimSpace(token))
	if !strings.EqualFold(scheme, "Bearer") || !whole || o.issuer != h.cfg.Issuer {
		h.refuse(w, classRest, &badToken)
		return
	}
	switch _, fault := h.checkToken(ctx, o); fault {
	case nil:
		h.refuse(w, classRest, &notFound)
	case &unauthenticated:
		h.refuse(w, classRest, &badToken)
	default:
		h.refuse(w, classRest, fault)
	}
}

// refuse renders a fault.
func (h *Handler) refuse(w http.ResponseWriter, class adapters.CallClass, f *fault) {
	h.replies.Count(class, f.outcome(f.httpCode))
	if f.status == http.StatusServiceUnavailable {
		adapters.RetryAfter(w.Header(), time.Second)
	}
	adapters.WriteBody(w, f.status, adapters.JSONType, adapters.RenderJSON(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{f.httpCode, f.httpText}))
}

// write writes what was asked for.
func (h *Handler) write(w http.ResponseWriter, class adapters.CallClass, body []byte) {
	h.replies.Count(class, adapters.OutcomeGood)
	adapters.WriteBody(w, http.StatusOK, adapters.JSONType, body)
}

// object is a JSON object, as far as this venue reads any.
type object adapters.Object

// decodeObject reads one JSON object.
func decodeObject(data []byte) (object, bool) {
	m, err := adapters.DecodeObject(data, 0)
	return object(m), err == nil
}

// text is a field that is a string; absent and null are empty. It is false for any other type.
func (m object) text(name string) (value string, ok bool) {
	ok = adapters.Object(m).Take(name, &value)
	return value, ok
}
