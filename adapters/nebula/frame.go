package nebula

import (
	"bytes"
	"encoding/json"
	"strconv"

	"rollbook/adapters"
)

// The signals of a frame, its field "sig".
const (
	sigComplete = 1 // a call has ended well
	sigError    = 2 // a call has ended badly
	sigCancel   = 3 // from a client: end the call; to it: the call is ended
)

// errorQualifier stands for the qualifier of a frame that has none.
const errorQualifier = "scalecube/error"

// frame is a message of a client, as the venue's gateway reads it: fields by their exact names, the last of two of one
// name, null like absent.
type frame struct {
	qualifier string // "q"; empty: missing
	sid       int64  // the stream that the client counts the call by
	numbered  bool   // there is a sid
	cancel    bool
	body      json.RawMessage // "d"; nil: absent
}

// decodeFrame reads a frame. It is false for what the gateway passes over in silence: what is not one JSON object, a sid
// that is no whole number, a signal that there is not. Numbers may be written as strings.
func decodeFrame(data []byte) (f frame, ok bool) {
	m, ok := decodeObject(data)
	if !ok {
		return f, false
	}
	if f.sid, f.numbered, ok = m.number("sid"); !ok {
		return f, false
	}
	sig, _, ok := m.number("sig")
	if !ok || sig < 0 || sig > sigCancel {
		return f, false
	}
	f.cancel = sig == sigCancel
	if q, whole := m.text("q"); whole { // one that is no string names nothing
		f.qualifier = q
	}
	if body := m["d"]; !bytes.Equal(body, []byte("null")) {
		f.body = body
	}
	return f, true
}

// number is a field that is a whole number of 64 bits, or a string of one. It is false for anything else; there says
// whether the field is there, and not null.
func (m object) number(name string) (n int64, there, ok bool) {
	digits, there, ok := m.digits(name)
	if !there || !ok {
		return 0, there, ok
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, true, err == nil
}

// digits is a field that is a number or a string, as it is written.
func (m object) digits(name string) (text string, there, ok bool) {
	raw := m[name]
	if raw == nil || bytes.Equal(raw, []byte("null")) {
		return "", false, true
	}
	if raw[0] == '"' {
		return text, true, json.Unmarshal(raw, &text) == nil
	}
	return string(raw), true, raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'
}

// reply is a frame to a client. The order of the fields is the gateway's: there are clients that compare the text.
type reply struct {
	Sig       int    `json:"sig,omitempty"`
	Qualifier string `json:"q"`
	ErrorType string `json:"errorType,omitempty"`
	SID       *int64 `json:"sid,omitempty"`
	Body      any    `json:"d,omitempty"`
}

// frameError is the body of a reply with [sigError].
type frameError struct {
	Code    int    `json:"errorCode"`
	Message string `json:"errorMessage"`
}

func (f frame) value(body json.RawMessage) []byte {
	return adapters.RenderJSON(reply{Qualifier: f.qualifier, SID: &f.sid, Body: body})
}

func (f frame) signal(sig int) []byte {
	return adapters.RenderJSON(reply{Sig: sig, Qualifier: f.qualifier, SID: &f.sid})
}

func (f frame) error(e *fault) []byte {
	r := reply{Sig: sigError, Qualifier: f.qualifier, ErrorType: e.errorType, Body: frameError{e.code, e.text}}
	if f.numbered {
		r.SID = &f.sid
	}
	if r.Qualifier == "" {
		r.Qualifier = errorQualifier
	}
	return adapters.RenderJSON(r)
}
