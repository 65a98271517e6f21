package genesis

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// fault is why a request is not acknowledged, in the venue's words.
type fault struct {
	code   string // one of the codes the venue documents
	status int    // HTTP status: inside STATUS_CODE always, of the reply in strict mode
	text   string // for people; never holds what the client presented

	busy     bool              // a login was turned away because too many wait: counted apart
	retry    time.Duration     // when not zero: it may go better after this
	allow    string            // with 405: the methods that are served
	sessions []session.Session // with MAX_ACTIVE_SESSIONS_REACHED: what stands in the way
}

// invalid is the fault of a field that has a wrong type or value.
func invalid(field, why string) *fault {
	return &fault{code: "VALIDATION_ERROR", status: http.StatusBadRequest, text: field + " " + why}
}

// missing is the fault of a field that is not there.
func missing(field string) *fault {
	return &fault{code: "MISSING_FIELD", status: http.StatusBadRequest, text: field + " is missing"}
}

var notLoggedIn = fault{code: "LOGIN_ERROR", status: http.StatusUnauthorized,
	text: "The request needs the user to be logged in: no SESSION_AUTH_TOKEN was given"}

// wire is the one table from refusals to the venue's words. What names no code of the venue's own documents stands in
// docs/protocols/genesis.md with its reason.
var wire = map[session.Refusal]fault{
	session.WrongCredentials: {code: "INCORRECT_CREDENTIALS", status: http.StatusUnauthorized, text: "The user name or the password is wrong"},
	session.Locked:           {code: "LOCKED_ACCOUNT", status: http.StatusForbidden, text: "The account is locked after too many failed logins"},
	session.Disabled:         {code: "LOGIN_FAIL", status: http.StatusForbidden, text: "The account is disabled: ask an operator"},
	session.TooManySessions:  {code: "MAX_ACTIVE_SESSIONS_REACHED", status: http.StatusForbidden, text: "Problem logging in"},
	session.StaleCredential:  {code: "UNAVAILABLE", status: http.StatusServiceUnavailable, text: "The password has just changed: try again", retry: time.Second},
	session.InvalidToken:     {code: "LOGIN_ERROR", status: http.StatusUnauthorized, text: "The request needs the user to be logged in: the token belongs to no session"},
	session.ExpiredToken:     {code: "LOGIN_ERROR", status: http.StatusUnauthorized, text: "The request needs the user to be logged in: the token has expired"},
	session.ReusedToken:      {code: "LOGIN_ERROR", status: http.StatusUnauthorized, text: "The request needs the user to be logged in: the refresh token had been used, and its session has been ended"},
	session.UnknownSession:   {code: "SESSION_NOT_FOUND", status: http.StatusNotFound, text: "There is no such session of this user"},
	session.Superseded:       {code: "SESSION_NOT_FOUND", status: http.StatusNotFound, text: "The session has been refreshed meanwhile"},
	session.UnknownUser:      {code: "UNKNOWN_ACCOUNT", status: http.StatusNotFound, text: "There is no such user"},
	session.AlreadyExists:    {code: "INTERNAL_ERROR", status: http.StatusInternalServerError, text: "The session could not be opened: try again"},
	session.InvalidCommand:   {code: "INTERNAL_ERROR", status: http.StatusInternalServerError, text: "The service did not understand itself: see its log"},
	session.UnknownResource:  {code: "FEATURE_NOT_FOUND", status: http.StatusNotFound, text: "There is no such resource"},
	session.NotPermitted:     {code: "NOT_AUTHORISED", status: http.StatusForbidden, text: "The user may not do this"},
	session.PasswordUnset:    {code: "LOGIN_FAIL", status: http.StatusForbidden, text: "The account has no password: ask an operator"},
}

// refused is the domain's "no" in the venue's words.
func (h *Handler) refused(r adapters.Refused) *fault {
	f, known := wire[r.Code]
	if !known {
		f = wire[session.InvalidCommand]
	}
	f.sessions = r.Sessions
	if r.Code == session.Locked {
		if r.RetryAt == session.Forever || r.RetryAt == 0 {
			f.text += ": ask an operator"
		} else {
			f.retry = max(time.Second, r.RetryAt.Time().Sub(h.cfg.Now()))
			f.text += fmt.Sprintf(": try again in %d s", adapters.Seconds(f.retry))
		}
	}
	return &f
}

// refreshRefused is the "no" to a refresh. The venue's generic login code keeps the login forms from showing it as a
// wrong password.
func (h *Handler) refreshRefused(r adapters.Refused) *fault {
	f := h.refused(r)
	if f.code == "LOGIN_ERROR" {
		f.code = "LOGIN_FAIL"
		f.text = strings.Replace(f.text, "The request needs the user to be logged in", "The session cannot be refreshed, log in", 1)
	}
	return f
}

// failed is what is said when the outcome is not known.
func (h *Handler) failed(c *call, err error) *fault {
	f := &fault{code: "UNAVAILABLE", status: http.StatusServiceUnavailable, retry: time.Second}
	f.text = "The service cannot reach its book: try again"
	if h.outage.Note(c.name, err) {
		f.busy, f.text = true, "Too many logins at once: try again"
	}
	return f
}

// nack is the body of a refusal.
type nack struct {
	MessageType string      `json:"MESSAGE_TYPE"`
	SourceRef   string      `json:"SOURCE_REF"`
	Code        string      `json:"CODE,omitempty"` // of LOGOUT_NACK alone, where the clients look for it
	Error       []nackError `json:"ERROR"`
	Warning     []nackError `json:"WARNING"`
}

type nackError struct {
	Type       string       `json:"@type"`
	Code       string       `json:"CODE"`
	Text       string       `json:"TEXT"`
	StatusCode string       `json:"STATUS_CODE"`
	Details    *nackDetails `json:"DETAILS,omitempty"`
}

type nackDetails struct {
	Session []activeSession `json:"SESSION"`
}

// activeSession is a session that a client may log out to make room. The venue's HOST is left out, as the venue's own
// setting hideHostsFromMaxActiveSessionsReachedMessage does: the book does not keep where a client was.
type activeSession struct {
	SessionID      string `json:"SESSION_ID"`
	LastAccessTime int64  `json:"LAST_ACCESS_TIME"` // Unix milliseconds
}

// body renders the fault as the message type that the call's clients wait for.
func (f *fault) body(messageType, ref string) nack {
	e := nackError{Type: "StandardError", Code: f.code, Text: f.text, StatusCode: statusCode(f.status)}
	if messageType == loginNack {
		e.Type = "LoginError"
	}
	if f.code == "MAX_ACTIVE_SESSIONS_REACHED" {
		e.Details = &nackDetails{Session: make([]activeSession, 0, len(f.sessions))}
		for _, s := range f.sessions {
			e.Details.Session = append(e.Details.Session, activeSession{s.Handle.String(), s.LastActive.Time().UnixMilli()})
		}
	}
	n := nack{MessageType: messageType, SourceRef: ref, Error: []nackError{e}, Warning: []nackError{}}
	if messageType == logoutNack {
		n.Code = f.code
	}
	return n
}

// statusCode is the venue's text of an HTTP status; one differs from net/http's.
func statusCode(status int) string {
	if status == http.StatusRequestEntityTooLarge {
		return "413 Payload Too Large"
	}
	return fmt.Sprintf("%d %s", status, http.StatusText(status))
}
