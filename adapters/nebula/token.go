package nebula

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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
	email, password, fault := h.readLogin(r)
	if fault != nil {
		write(w, fault)
		return
	}
	// The deadline would cut off the call as well: the server listens for the client's going away meanwhile.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
	defer cancel()
	var said claims
	grant, refusal, err := h.gate.Login(ctx, adapters.Login{Venue: session.Nebula, Name: email, Password: password,
		Sign: func(c adapters.Claims) (string, error) {
			said = h.claimsOf(c)
			return h.keys.sign(said)
		}})
	switch {
	case err != nil:
		write(w, h.failed("a login", err))
	case refusal.No():
		write(w, refused(refusal))
	default:
		// An operator may have shortened the lifetime since this pod started: then the session ends before the claim says.
		lives := grant.Session.AccessDeadline().Time().Sub(grant.Session.Started.Time())
		expiresIn := min(int64(lives/time.Second), said.Expires-said.Issued)
		writeJSON(w, http.StatusOK, granted{Token: grant.Access, ExpiresIn: expiresIn})
	}
}

// readLogin takes the login out of the request, within the bounds of size and time.
func (h *Handler) readLogin(r *http.Request) (email, password string, _ *fault) {
	body, err := io.ReadAll(io.LimitReader(r.Body, h.cfg.MaxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", "", &tooSlow
	case err != nil:
		return "", "", &badRequest
	case int64(len(body)) > h.cfg.MaxBody:
		// A client that is still writing would not read the reply.
		_, _ = io.CopyN(io.Discard, r.Body, 15*h.cfg.MaxBody) // what fails here, fails in writing the reply too
		return "", "", &tooLarge
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
		write(w, h.failed("the keys", err))
		return
	}
	w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(h.cfg.KeyCache/time.Second)))
	writeBody(w, http.StatusOK, set)
}

// serveRest answers what the venue has beside the login: whoever shows a good token learns that it is not here.
func (h *Handler) serveRest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
	defer cancel()
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	o, whole := outlineOf(strings.TrimSpace(token))
	if !strings.EqualFold(scheme, "Bearer") || !whole || o.issuer != h.cfg.Issuer {
		write(w, &badToken)
		return
	}
	switch _, fault := h.checkToken(ctx, o); fault {
	case nil:
		write(w, &notFound)
	case &unauthenticated:
		write(w, &badToken)
	default:
		write(w, fault)
	}
}

// write renders a fault. A client that has gone is none of our failures.
func write(w http.ResponseWriter, f *fault) {
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, f.status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{f.httpCode, f.httpText})
}

func writeJSON(w http.ResponseWriter, status int, body any) { writeBody(w, status, render(body)) }

func writeBody(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// render is the JSON text of a reply: one line, without the escapes for HTML and without an end of line.
func render(body any) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("nebula: a reply has no JSON form: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// object is a JSON object whose values are not looked at yet. Of a name that stands twice the last value counts.
type object map[string]json.RawMessage

// decodeObject reads one JSON object in UTF-8 (RFC 8259).
func decodeObject(data []byte) (object, bool) {
	data = bytes.Trim(data, " \t\r\n") // what JSON takes for white space, and no more
	var m object
	return m, len(data) > 0 && data[0] == '{' && utf8.Valid(data) && json.Unmarshal(data, &m) == nil
}

// text is a field that is a string; absent and null are empty. It is false for any other type.
func (m object) text(name string) (value string, ok bool) {
	raw, present := m[name]
	return value, !present || json.Unmarshal(raw, &value) == nil
}

// permits reports whether the request comes from a page that may call, or from no page.
func (h *Handler) permits(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || slices.ContainsFunc(h.cfg.AllowedOrigins, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, origin)
	})
}

// allowOrigin tells the browser that the page may read the reply (the CORS protocol: Fetch Standard, 3.3). Credentials
// that a browser adds by itself are not asked for, so that every page may be.
func (h *Handler) allowOrigin(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && h.permits(r) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
	}
}

// preflight answers a browser that asks before it calls, the same for every path.
func (h *Handler) preflight(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Allow", "GET, HEAD, POST, OPTIONS")
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
		header.Set("Access-Control-Allow-Headers", "authorization, content-type")
		header.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}
