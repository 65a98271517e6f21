package genesis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// serveCall answers one HTTP call.
func (h *Handler) serveCall(w http.ResponseWriter, r *http.Request, at string) {
	c := &call{name: at, seed: r.Method == http.MethodGet || r.Method == http.MethodHead, cookie: h.readCookies(r)}
	connection := http.NewResponseController(w)
	// Of a body that does not come, the server would wait for the rest before it replies. Not every ResponseWriter has
	// deadlines; then the http.Server's ReadTimeout is the bound.
	_ = connection.SetReadDeadline(time.Now().Add(h.cfg.CallTimeout))
	fault := h.readCall(r, c)
	a := no(fault)
	if fault == nil {
		// The deadline would cut off the call as well: the server listens for the client's going away meanwhile.
		_ = connection.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
		defer cancel()
		a = h.answer(ctx, c)
	}
	if h.cfg.Cookies {
		h.setCookies(w, a)
	}
	h.metrics.replied(classOf(c.name), a.fault)
	h.bounded(w, func() { h.write(w, c, a) })
}

// bounded has a reply written within WriteTimeout: a client that does not read, and goes on asking, would hold its
// goroutine for ever. The reply leaves the server's buffer here, while the deadline stands; then the deadline goes, so
// that it does not cut off the next request. What cannot be written ends the connection, and is no failure of ours.
func (h *Handler) bounded(w http.ResponseWriter, write func()) {
	connection := http.NewResponseController(w) // not every ResponseWriter has deadlines, or a buffer
	_ = connection.SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout))
	write()
	_ = connection.Flush()
	_ = connection.SetWriteDeadline(time.Time{})
}

// readCall takes the call out of the request. What it could read before a fault stands in c, so that the refusal
// carries the SOURCE_REF.
func (h *Handler) readCall(r *http.Request, c *call) *fault {
	if fault := c.readHeader(r.Header, r.URL.Query()); fault != nil {
		return fault
	}
	s, served := calls[c.name]
	switch {
	case !served: // whatever the method: there is nothing here
	case r.Method == http.MethodPost:
	case s.get && c.seed:
		if fault := c.checkBounds(); fault != nil {
			return fault
		}
		_, fault := h.readBody(r) // means nothing
		return fault
	default:
		allow := "POST, OPTIONS"
		if s.get {
			allow = "GET, HEAD, " + allow
		}
		return &fault{code: "INVALID_MESSAGE", status: http.StatusMethodNotAllowed, text: "Use POST", allow: allow}
	}
	if h.cfg.Cookies && !h.origins.mayAct(r) {
		// A cookie is sent whoever wrote the page (OWASP ASVS 5.0, 3.5.1), so the page's origin has to be known.
		return &fault{code: "NOT_AUTHORISED", status: http.StatusForbidden, text: "Pages of this origin may not call"}
	}
	body, fault := h.readBody(r)
	if fault != nil {
		return fault
	}
	m, fault := decodeMessage(body)
	if fault != nil {
		return fault
	}
	return c.readBody(m)
}

// readBody reads a body within the bounds of size and time.
func (h *Handler) readBody(r *http.Request) ([]byte, *fault) {
	body, err := io.ReadAll(io.LimitReader(r.Body, h.cfg.MaxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &fault{code: "OPERATION_TIMEOUT", status: http.StatusRequestTimeout, text: "The body did not arrive in time"}
	case err != nil:
		return nil, &fault{code: "INVALID_MESSAGE", status: http.StatusBadRequest, text: "The body is cut off"}
	case int64(len(body)) > h.cfg.MaxBody:
		h.discard(r.Body)
		return nil, h.tooLarge()
	}
	return body, nil
}

// discard reads on for a while, because a client that is still writing would not read the reply.
func (h *Handler) discard(body io.Reader) {
	_, _ = io.CopyN(io.Discard, body, discardFactor*h.cfg.MaxBody) // what fails here, fails in writing the reply too
}

// discardFactor is how much of a message that is too large is read and thrown away, in MaxBody.
const discardFactor = 15

func (h *Handler) tooLarge() *fault {
	return &fault{code: "INVALID_MESSAGE", status: http.StatusRequestEntityTooLarge,
		text: "The message is larger than " + strconv.FormatInt(h.cfg.MaxBody, 10) + " bytes"}
}

// write renders the answer. See [Config.StrictStatus] for the status.
func (h *Handler) write(w http.ResponseWriter, c *call, a answer) {
	status, body := http.StatusOK, a.body
	if !a.good() {
		body = a.refusal(c)
		noSession := a.fault.status == http.StatusUnauthorized && c.name == "event-login-details"
		if h.cfg.StrictStatus || noSession {
			status = a.fault.status
			if a.fault.retry > 0 {
				w.Header().Set("Retry-After", strconv.FormatInt(seconds(a.fault.retry), 10))
			}
			if a.fault.allow != "" {
				w.Header().Set("Allow", a.fault.allow)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	rendered := render(body)
	w.Header().Set("Content-Length", strconv.Itoa(len(rendered)))
	w.WriteHeader(status)
	_, _ = w.Write(rendered) // a client that has gone is none of our failures
}

// render is the JSON text of a reply, one line, without the escapes for HTML.
func render(body any) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		panic("genesis: a reply has no JSON form: " + err.Error())
	}
	return buf.Bytes()
}
