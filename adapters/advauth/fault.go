package advauth

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// The venue's error numbers, as its pages list them. 1005 is the one that they leave out.
const (
	codeTokenUnknown = 1000
	codeTokenExpired = 1001
	codeEntry        = 1002
	codeUnknown      = 1003
	codeInvalid      = 1004
	codeDisabled     = 1005
	codeRate         = 1008
)

// fault is a refusal in the venue's words.
type fault struct {
	status int
	code   int      // the venue's error number; 0: one of the framework's own errors, which have none
	text   string   // Message
	model  []string // ModelStateErr
	retry  time.Duration
	allow  string
	counts adapters.Outcome // for the metrics; empty: what code and status say
}

const (
	textEntry   = "Entry parameter missing or parameter bindigs failed" // spelled as the venue spells it
	textUnknown = "UserLogin or ApiKey are unknown or user is blocked"
	textInvalid = "ApiKey is invalid"
	textDefect  = "An error has occurred."
)

// wire is the one table from refusals to the venue's words. docs/protocols/advauth.md gives the reasons.
var wire = map[session.Refusal]fault{
	session.WrongCredentials: {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
	session.Locked:           {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
	session.Disabled:         {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
	session.TooManySessions: {status: http.StatusUnauthorized, code: codeRate, retry: time.Second,
		text: "Request rate policy violated: too many live tokens"},
	session.StaleCredential: {status: http.StatusInternalServerError, retry: time.Second, text: "The key has just changed: try again.",
		counts: adapters.OutcomeUnavailable},
	session.InvalidToken:    {status: http.StatusUnauthorized, code: codeTokenUnknown, text: "Token not found"},
	session.ExpiredToken:    {status: http.StatusUnauthorized, code: codeTokenExpired, text: "Token already expired"},
	session.ReusedToken:     {status: http.StatusUnauthorized, code: codeTokenUnknown, text: "Token not found"},
	session.UnknownSession:  {status: http.StatusUnauthorized, code: codeTokenUnknown, text: "Token not found"},
	session.Superseded:      {status: http.StatusUnauthorized, code: codeTokenUnknown, text: "Token not found"},
	session.UnknownUser:     {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
	session.AlreadyExists:   {status: http.StatusInternalServerError, text: textDefect},
	session.InvalidCommand:  {status: http.StatusInternalServerError, text: textDefect},
	session.UnknownResource: {status: http.StatusNotFound, text: "No such resource."},
	session.NotPermitted:    {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
	session.PasswordUnset:   {status: http.StatusUnauthorized, code: codeUnknown, text: textUnknown},
}

// outcome is what the fault is counted as: the venue's number, or the status of an error of the framework's own.
func (f *fault) outcome() adapters.Outcome {
	switch {
	case f.counts != "":
		return f.counts
	case f.code != 0:
		return adapters.Outcome(strconv.Itoa(f.code))
	}
	return adapters.Outcome("HTTP " + strconv.Itoa(f.status))
}

// refused is the domain's "no" in the venue's words.
func (h *Handler) refused(r adapters.Refused) *fault {
	f, known := wire[r.Code]
	if !known || f.status == http.StatusInternalServerError && f.retry == 0 {
		ref := reference()
		h.log.Error("a call was refused as no correct adapter's is", "ref", ref, "refusal", r.Code)
		return internal(ref)
	}
	if r.Code == session.Locked && r.RetryAt != 0 && r.RetryAt != session.Forever {
		f.retry = max(time.Second, r.RetryAt.Time().Sub(h.cfg.Now()))
	}
	return &f
}

// failed is what is said when the outcome is not known.
func (h *Handler) failed(what string, err error) *fault {
	f := &fault{status: h.cfg.UnavailableStatus, retry: time.Second, text: "The service cannot reach its book: try again.",
		counts: adapters.OutcomeUnavailable}
	if h.outage.Note(what, err) {
		f.text, f.counts = "Too many logins at once: try again.", adapters.OutcomeBusy
	}
	return f
}

func (h *Handler) disabled() *fault {
	return &fault{status: h.cfg.DisabledStatus, code: h.cfg.DisabledCode, text: "Method disabled by configuration"}
}

// tooFast is what is said when this pod takes no more logins for a moment.
func tooFast() *fault {
	return &fault{status: http.StatusUnauthorized, code: codeRate, text: "Request rate policy violated", retry: time.Second}
}

// badEntry is a body or a parameter that is missing or cannot be read; what says which.
func badEntry(what ...string) *fault {
	return &fault{status: http.StatusBadRequest, code: codeEntry, text: textEntry, model: what}
}

func required(member string) *fault { return badEntry("The " + member + " field is required.") }

// The framework's own errors, in its words.

func unknownMediaType(name string) *fault {
	return &fault{status: http.StatusUnsupportedMediaType,
		text: fmt.Sprintf("The request entity's media type '%s' is not supported for this resource.", clip(name))}
}

func noMediaType() *fault {
	return &fault{status: http.StatusUnsupportedMediaType, text: "The request contains an entity body but no Content-Type header. " +
		"The inferred media type 'application/octet-stream' is not supported for this resource."}
}

func wrongMethod(used, allowed string) *fault {
	f := &fault{status: http.StatusMethodNotAllowed, allow: allowed,
		text: fmt.Sprintf("The requested resource does not support http method '%s'.", clip(used))}
	if allowed == http.MethodGet {
		f.allow = "GET, HEAD"
	}
	return f
}

// notFound names the path without the query, which holds the token.
func notFound(path string) *fault {
	return &fault{status: http.StatusNotFound,
		text: fmt.Sprintf("No HTTP resource was found that matches the request URI '%s'.", clip(path))}
}

func internal(ref string) *fault {
	return &fault{status: http.StatusInternalServerError, text: textDefect + " (ref " + ref + ")"}
}

// clip bounds what a reply repeats of its request. It does not cut characters in two.
func clip(text string) string {
	const most = 100
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return text
}
