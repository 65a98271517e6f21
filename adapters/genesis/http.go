package genesis

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"rollbook/adapters"
)

// serveCall answers one HTTP call.
func (h *Handler) serveCall(w http.ResponseWriter, r *http.Request, at string) {
	c := &call{name: at, seed: r.Method == http.MethodGet || r.Method == http.MethodHead, cookie: h.readCookies(r),
		origin: adapters.OriginOf(r)}
	adapters.LimitReading(w, h.cfg.CallTimeout)
	fault := h.readCall(w, r, c)
	a := no(fault)
	if fault == nil {
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.CallTimeout)
		defer cancel()
		a = h.answer(ctx, c)
	}
	if h.cfg.Cookies {
		h.setCookies(w, a)
	}
	h.replied(classOf(c.name), a.fault)
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
func (h *Handler) readCall(w http.ResponseWriter, r *http.Request, c *call) *fault {
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
		_, fault := h.readBody(w, r) // means nothing
		return fault
	default:
		allow := "POST, OPTIONS"
		if s.get {
			allow = "GET, HEAD, " + allow
		}
		return &fault{code: "INVALID_MESSAGE", status: http.StatusMethodNotAllowed, text: "Use POST", allow: allow}
	}
	if h.cfg.Cookies && !h.origins.MayAct(r) {
		// A cookie is sent whoever wrote the page (OWASP ASVS 5.0, 3.5.1), so the page's origin has to be known.
		return &fault{code: "NOT_AUTHORISED", status: http.StatusForbidden, text: "Pages of this origin may not call"}
	}
	body, fault := h.readBody(w, r)
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
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *fault) {
	body, err := adapters.ReadBody(w, r, h.cfg.MaxBody)
	switch {
	case errors.Is(err, adapters.ErrBodyLate):
		return nil, &fault{code: "OPERATION_TIMEOUT", status: http.StatusRequestTimeout, text: "The body did not arrive in time"}
	case errors.Is(err, adapters.ErrBodyLarge):
		adapters.DiscardBody(r, h.cfg.MaxBody)
		return nil, h.tooLarge()
	case err != nil:
		return nil, &fault{code: "INVALID_MESSAGE", status: http.StatusBadRequest, text: "The body is cut off"}
	}
	return body, nil
}

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
			adapters.RetryAfter(w.Header(), a.fault.retry)
			if a.fault.allow != "" {
				w.Header().Set("Allow", a.fault.allow)
			}
		}
	}
	adapters.WriteBody(w, status, adapters.JSONType, append(adapters.RenderJSON(body), '\n'))
}

// replied counts a reply; a nil fault is an acknowledgement. Both labels are bounded: classes are those of the table of
// calls, codes are written in this package.
func (h *Handler) replied(class string, f *fault) {
	outcome := adapters.Outcome("ACK") // the venue's word for ok
	switch {
	case f != nil && f.busy:
		outcome = adapters.OutcomeBusy
	case f != nil:
		outcome = adapters.Outcome(f.code)
	}
	h.replies.Count(adapters.CallClass(class), outcome)
}
