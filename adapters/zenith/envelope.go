package zenith

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"rollbook/adapters"
)

// Bounds of what a client may present. They are far above what the venue's clients send.
const (
	maxName     = 64    // bytes of a controller, a topic, a provider
	maxClient   = 256   // bytes of a ClientID or its secret
	maxUser     = 256   // bytes of a user name
	maxPassword = 1024  // bytes
	maxGrant    = 16384 // bytes of an AuthGrant or an AccessToken
	maxAsked    = 64    // scopes
	maxScope    = 128   // bytes, as the book has it
	maxDepth    = 32    // of objects and arrays in one another
)

// The controllers that answer here, and the actions.
const (
	auth   = "Auth"
	zenith = "Zenith"

	publish     = "Publish"
	subscribe   = "Sub"
	unsubscribe = "Unsub"
	cancel      = "Cancel"
	failure     = "Error"
)

// The codes of the venue's Appendix D that are used here; what is put behind a space names the culprit.
const (
	noAccess     = "Authority"
	noController = "Controller"
	noTopic      = "Operation.Unknown"
	noResult     = "Operation.NoResult"
	tooSlow      = "Operation.Timeout"
	noData       = "Data"
	badData      = "Data.Deserialise"
	tooMany      = "Limited"
	unavailable  = "Authority.Unavailable"
	broken       = "Authority.Fault"
)

// request is an envelope from a client.
type request struct {
	controller, topic, action string
	transaction               json.RawMessage // an integer; nil: none
	data                      adapters.Object // nil: none, or null
	confirm                   bool
}

// envelope is a message to a client; the order is the venue's samples'.
type envelope struct {
	Controller    string          `json:"Controller"`
	Topic         string          `json:"Topic,omitempty"`
	Action        string          `json:"Action,omitempty"`
	TransactionID json.RawMessage `json:"TransactionID,omitempty"`
	Confirm       bool            `json:"Confirm,omitempty"`
	Data          json.RawMessage `json:"Data,omitempty"`

	outcome adapters.Outcome // not sent: what the client is told by it, for the metrics; empty: ok
}

// null is data that is there and empty.
var null = json.RawMessage("null")

// errPacket says that a frame is no envelope at all: it closes the socket with 1007.
var errPacket = errors.New("not a JSON object")

var integer = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,18})$`)

// decodeEnvelope reads a frame. Of an envelope with a field that makes no sense, code says what to answer and the
// request holds the rest.
func decodeEnvelope(frame []byte) (r request, code string, err error) {
	fields, err := adapters.DecodeObject(frame, maxDepth)
	if err != nil {
		return r, "", errPacket
	}
	in := reader{from: fields}
	r.controller, r.action = in.text("Controller", maxName), in.text("Action", maxName)
	r.topic = in.text("Topic", maxName)
	r.confirm = in.flag("Confirm")
	if r.controller == "" {
		r.controller = zenith
	}
	if r.action == "" {
		r.action = publish
	}
	if id := fields["TransactionID"]; id != nil && !bytes.Equal(id, null) {
		if in.wrong = in.wrong || !integer.Match(id); integer.Match(id) {
			r.transaction = id
		}
	}
	if data := fields["Data"]; data != nil && !bytes.Equal(data, null) {
		if json.Unmarshal(data, &r.data) != nil && r.action == publish {
			in.wrong = true
		}
	}
	if in.wrong {
		return r, badData, nil
	}
	return r, "", nil
}

// reader takes fields out of an object and remembers whether one made no sense. Absent and null are the same.
type reader struct {
	from  adapters.Object
	wrong bool
}

// text is a string of at most so many bytes.
func (in *reader) text(name string, most int) (value string) {
	in.take(name, &value)
	if len(value) > most || strings.ContainsRune(value, 0) {
		in.wrong = true
		return ""
	}
	return value
}

// required is a text that must be there.
func (in *reader) required(name string, most int) string {
	value := in.text(name, most)
	in.wrong = in.wrong || value == ""
	return value
}

func (in *reader) flag(name string) (value bool) {
	in.take(name, &value)
	return value
}

func (in *reader) texts(name string) (values []string) {
	in.take(name, &values)
	in.wrong = in.wrong || len(values) > maxAsked
	for _, value := range values {
		in.wrong = in.wrong || len(value) > maxScope
	}
	return values
}

func (in *reader) take(name string, into any) {
	in.wrong = !in.from.Take(name, into) || in.wrong
}
