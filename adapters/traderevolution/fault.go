package traderevolution

import (
	"crypto/rand"
	"net/http"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// fault is why a call has no reply, in the venue's words.
type fault struct {
	code     code
	status   int // of the vendor's list
	standard int // the status with [Config.StandardStatus]; zero: the same

	busy     bool          // a login was turned away because too many wait: counted apart
	retry    time.Duration // when not zero: it may go better after this
	allow    string        // with 405: the methods that are served
	scope    string        // the right that the caller lacks
	incident string        // with codeInternal: what the log says about it has the same
}

// The faults that no refusal stands behind.
var (
	noCredentials = fault{code: codeCredentials, status: http.StatusBadRequest}
	tooFast       = fault{code: codeTooFast, status: http.StatusTooManyRequests}
	notJSON       = fault{code: codeNotJSON, status: http.StatusBadRequest}
	notJSONType   = fault{code: codeNotJSONType, status: http.StatusBadRequest, standard: http.StatusUnsupportedMediaType}
	largeBody     = fault{code: codeLargeBody, status: http.StatusBadRequest, standard: http.StatusRequestEntityTooLarge}
	lateBody      = fault{code: codeLateBody, status: http.StatusBadRequest, standard: http.StatusRequestTimeout}
	noMethod      = fault{code: codeNoMethod, status: http.StatusMethodNotAllowed}
	noPath        = fault{code: codeNoPath, status: http.StatusNotFound}

	// unavailable says that nothing is known, and nothing was decided that the client could rely on.
	unavailable = fault{code: codeUnavailable, status: http.StatusInternalServerError, standard: http.StatusServiceUnavailable, retry: time.Second}
)

var (
	badToken = fault{code: codeToken, status: http.StatusUnauthorized}
	badLogin = fault{code: codeCredentials, status: http.StatusUnauthorized}
	internal = fault{code: codeInternal, status: http.StatusInternalServerError}
)

// wire is the one table from refusals to the venue's words. A closed account says what a wrong password says; a locked one
// even with the right password, so that guessing against it teaches nothing.
var wire = map[session.Refusal]fault{
	session.WrongCredentials: badLogin,
	session.Locked:           badLogin,
	session.Disabled:         badLogin,
	session.PasswordUnset:    badLogin,
	session.TooManySessions:  {code: codeNoRoom, status: http.StatusUnauthorized, standard: http.StatusForbidden},
	session.StaleCredential:  unavailable,
	session.InvalidToken:     badToken,
	session.ExpiredToken:     badToken,
	session.ReusedToken:      badToken,
	session.UnknownSession:   badToken,
	session.Superseded:       badToken,
	session.UnknownUser:      *fieldLogin.fault(unknown),
	session.AlreadyExists:    internal,
	session.InvalidCommand:   internal,
	session.UnknownResource:  noPath,
	session.NotPermitted:     {code: codeNoAccess, status: http.StatusUnauthorized, standard: http.StatusForbidden, scope: OperatorScope},
}

// refused is the domain's "no" in the venue's words.
func (h *Handler) refused(r adapters.Refused) *fault {
	f, known := wire[r.Code]
	if !known {
		f = internal
	}
	if f.code == codeInternal {
		f.incident = rand.Text()
		h.log.Error("a command was refused that should not have been", "refusal", r.Code, "incident", f.incident)
	}
	return &f
}

// failed is what is said when the outcome is not known.
func (h *Handler) failed(what string, err error) *fault {
	f := unavailable
	f.busy = h.outage.Note(what, err)
	return &f
}

// refusal is the body of a fault. More members than errors no client is known to read.
type refusal struct {
	Errors   []code `json:"errors"`
	Incident string `json:"incident,omitempty"`
}

// outcome is what the fault is counted as.
func (f *fault) outcome() adapters.Outcome {
	switch {
	case f.busy:
		return adapters.OutcomeBusy
	case f.code == codeUnavailable:
		return adapters.OutcomeUnavailable
	}
	return adapters.Outcome(f.code)
}

// refuse writes a fault.
func (h *Handler) refuse(w http.ResponseWriter, f *fault) {
	status := f.status
	if h.cfg.StandardStatus && f.standard != 0 {
		status = f.standard
	}
	header := w.Header()
	switch {
	case f.scope != "":
		header.Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+f.scope+`"`) // RFC 6750, 3.1
	case status == http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	}
	adapters.RetryAfter(header, f.retry)
	if f.allow != "" {
		header.Set("Allow", f.allow)
	}
	write(w, status, refusal{[]code{f.code}, f.incident})
}

// write renders a body on one line.
func write(w http.ResponseWriter, status int, body any) {
	adapters.WriteBody(w, status, adapters.JSONType, append(adapters.RenderJSON(body), '\n'))
}
