package nebula

import (
	"net/http"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// fault is why something is refused, in the venue's words: as a frame's error, and as an HTTP reply.
type fault struct {
	code      int    // errorCode in a frame
	text      string // errorMessage
	errorType string // for the venue's own use: the clients are told to ignore it

	status   int    // of the HTTP reply
	httpCode int    // code in its body
	httpText string // message
}

// The faults that refusals and failures become. Which numbers the venue documents, and which stand in for what it does
// not say, is in docs/protocols/nebula.md.
var (
	unauthenticated = fault{6000, "Authentication failed", "401", http.StatusForbidden, 2, "Wrong email or password"}
	noSession       = fault{6003, "Create session failed", "403", http.StatusForbidden, 6003, "Create session failed"}
	broken          = fault{6003, "Create session failed", "500", http.StatusInternalServerError, 6003, "Create session failed"}
	unavailable     = fault{1, "System is unavailable", "503", http.StatusServiceUnavailable, 1, "System is unavailable"}
)

// busy is what is said to a login that is turned away because too many wait: the same, but it is counted apart.
var busy = unavailable

// wire is the one table from refusals to the venue's words. A locked, disabled or unknown account looks like a wrong
// password on purpose: the venue documents nothing else, and nobody learns who has an account.
var wire = map[session.Refusal]*fault{
	session.WrongCredentials: &unauthenticated,
	session.Locked:           &unauthenticated,
	session.Disabled:         &unauthenticated,
	session.PasswordUnset:    &unauthenticated,
	session.InvalidToken:     &unauthenticated,
	session.ExpiredToken:     &unauthenticated,
	session.ReusedToken:      &unauthenticated,
	session.UnknownSession:   &unauthenticated,
	session.Superseded:       &unauthenticated,
	session.UnknownUser:      &unauthenticated,
	session.NotPermitted:     &unauthenticated,
	session.TooManySessions:  &noSession,
	session.StaleCredential:  &unavailable, // the password has just changed: again
	session.AlreadyExists:    &unavailable, // an id was drawn twice: again
	session.InvalidCommand:   &broken,
	session.UnknownResource:  &broken,
}

// refused is the domain's "no" in the venue's words; nil when there is none.
func refused(r adapters.Refused) *fault {
	if !r.No() {
		return nil
	}
	if f, known := wire[r.Code]; known {
		return f
	}
	return &broken
}

// failed is what is said when the outcome is not known.
func (h *Handler) failed(what string, err error) *fault {
	if h.outage.Note(what, err) {
		return &busy
	}
	return &unavailable
}

// The faults of calls over HTTP alone. Their codes are their status where the venue documents none.
var (
	badToken   = fault{status: http.StatusUnauthorized, httpCode: 10000, httpText: "Invalid token"}
	notFound   = fault{status: http.StatusNotFound, httpCode: 404, httpText: "Not found"}
	foreign    = fault{status: http.StatusForbidden, httpCode: 403, httpText: "Pages of this origin may not open sockets"}
	badRequest = fault{status: http.StatusBadRequest, httpCode: 400, httpText: "The body is not a JSON object"}
	tooLarge   = fault{status: http.StatusBadRequest, httpCode: 400, httpText: "The body is too large"}
	tooSlow    = fault{status: http.StatusBadRequest, httpCode: 400, httpText: "The body did not arrive in time"}
)

// badParameter is the fault of a field of a body that is missing, or has a wrong type or size.
func badParameter(field string) *fault {
	return &fault{status: http.StatusBadRequest, httpCode: 100, httpText: "Missing or invalid parameter: " + field}
}

// The faults of frames alone.
var (
	noSID       = fault{code: 400, text: "sid is missing", errorType: "400"}
	noQualifier = fault{code: 400, text: "qualifier is missing", errorType: "400"}
	undecodable = fault{code: 500, text: "Failed to decode service message data", errorType: "500"}
	badTime     = fault{code: 6001, text: "Wrong timestamp", errorType: "401"}
)

// missing is the fault of a field that createSession needs.
func missing(field string) *fault {
	return &fault{code: 6002, text: "Missing fields: '" + field + "'", errorType: "400"}
}
