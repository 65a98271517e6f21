package traderevolution

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"rollbook/engine/session"
)

// Bounds of what a client may present, in bytes. They are far above what the venue's clients send.
const (
	maxLogin    = 256
	maxPassword = 1024
	maxToken    = 512 // also of a header that holds one
	maxLink     = 2048
)

// call is what a request presents.
type call struct {
	bearer  string       // the access token; empty: none, or not just one
	token   string       // the header "token"; empty: none, or not just one
	errorID string       // the query's errorId
	body    object       // nothing at all is an empty object
	caller  session.Live // whose access token it is, once it was checked
}

// readCall takes the call out of the request, whose connection has a deadline for reading. What its header gives is there
// even when the body has a fault.
func (h *Handler) readCall(connection *http.ResponseController, r *http.Request) (*call, *fault) {
	c := &call{bearer: bearer(r.Header), token: only(r.Header.Values("token")), errorID: r.URL.Query().Get("errorId")}
	data, err := io.ReadAll(io.LimitReader(r.Body, h.cfg.MaxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c, &lateBody
	case err != nil:
		return c, &notJSON // cut off
	case int64(len(data)) > h.cfg.MaxBody:
		return c, &largeBody // the deadline stays: the server reads on for a while, so that the client comes to read
	}
	// The deadline would cut off the call as well: the server listens for the client's going away meanwhile.
	_ = connection.SetReadDeadline(time.Time{})
	if len(data) > 0 && !isJSON(r.Header.Get("Content-Type")) {
		return c, &notJSONType
	}
	var f *fault
	c.body, f = decodeObject(data)
	return c, f
}

// bearer is the token of the one header Authorization (RFC 6750, 2.1), whose scheme is compared without regard to case.
func bearer(header http.Header) string {
	scheme, token, _ := strings.Cut(only(header.Values("Authorization")), " ")
	if token = strings.Trim(token, " "); !strings.EqualFold(scheme, "Bearer") || strings.ContainsAny(token, " ,") {
		return ""
	}
	return token
}

// only is the one value that is given; empty when there are several, so that nobody sees one of them and this service
// another, and when it is longer than any token.
func only(values []string) string {
	if len(values) != 1 || len(values[0]) > maxToken {
		return ""
	}
	return values[0]
}

// isJSON reports whether a body of that type may be JSON: it says so, or says nothing.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// object is a JSON object whose values are not looked at yet. Names are compared exactly; of a name that stands twice the
// last value counts.
type object map[string]json.RawMessage

// decodeObject reads one JSON object (RFC 8259). Nothing at all is an empty one.
func decodeObject(data []byte) (object, *fault) {
	if len(data) == 0 {
		return object{}, nil
	}
	var o object
	if !utf8.Valid(data) || json.Unmarshal(data, &o) != nil || o == nil {
		return nil, &notJSON
	}
	return o, nil
}

// member takes a value out of an object. Absent and null are the same, and leave the zero value.
func member[T string | int64](o object, f field) (value T, bad *fault) {
	raw := o[f.member()]
	if raw != nil && json.Unmarshal(raw, &value) != nil {
		return value, f.fault(wrongType)
	}
	return value, nil
}

// text takes a text of at most longest bytes.
func (o object) text(f field, longest int) (string, *fault) {
	value, bad := member[string](o, f)
	if bad == nil && len(value) > longest {
		bad = f.fault(tooLong)
	}
	return value, bad
}
