package traderevolution

import (
	"errors"
	"mime"
	"net/http"
	"strings"

	"rollbook/adapters"
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
	origin  session.Origin
}

// readCall takes the call out of the request, whose connection has a deadline for reading. What its header gives is there
// even when the body has a fault.
func (h *Handler) readCall(w http.ResponseWriter, r *http.Request) (*call, *fault) {
	c := &call{bearer: bearer(r.Header), token: only(r.Header.Values("token")), errorID: r.URL.Query().Get("errorId"),
		origin: adapters.OriginOf(r)}
	data, err := adapters.ReadBody(w, r, h.cfg.MaxBody)
	switch {
	case errors.Is(err, adapters.ErrBodyLate):
		return c, &lateBody
	case errors.Is(err, adapters.ErrBodyLarge):
		return c, &largeBody
	case err != nil:
		return c, &notJSON // cut off
	case len(data) > 0 && !isJSON(r.Header.Get("Content-Type")):
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

// object is the JSON object of a body.
type object adapters.Object

// decodeObject reads one JSON object. Nothing at all is an empty one.
func decodeObject(data []byte) (object, *fault) {
	if len(data) == 0 {
		return object{}, nil
	}
	o, err := adapters.DecodeObject(data, 0)
	if err != nil {
		return nil, &notJSON
	}
	return object(o), nil
}

// member takes a value out of an object. Absent and null are the same, and leave the zero value.
func member[T string | int64](o object, f field) (value T, bad *fault) {
	if !adapters.Object(o).Take(f.member(), &value) {
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
