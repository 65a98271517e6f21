package advauth

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"rollbook/adapters"
)

// call is one request on its way to its reply.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	form mediaType // of the reply

	class adapters.CallClass // for the metrics
}

// entry is the body of any of the calls. What is not there is empty, and so is what is null or xsi:nil.
type entry struct {
	login, apiKey, rndA, rndB string
}

// maxLogin bounds a login name, in bytes: more than any that the directory takes.
const maxLogin = 1024

// readEntry reads and decodes the body. The only member that every call requires is UserLogin.
func (h *Handler) readEntry(c *call) (entry, *fault) {
	decode, charset, fault := bodyDecoder(c.r)
	if fault != nil {
		return entry{}, fault
	}
	body, fault := h.readBody(c)
	if fault != nil {
		return entry{}, fault
	}
	if len(body) == 0 {
		return entry{}, badEntry("A request body is required.")
	}
	text, ok := toUTF8(body, charset)
	if !ok {
		return entry{}, badEntry("The body is no text in UTF-8 or UTF-16.")
	}
	e, err := decode(text)
	switch {
	case err != nil:
		return entry{}, badEntry("The body cannot be read: " + err.Error() + ".")
	case strings.TrimSpace(e.login) == "":
		return entry{}, required("UserLogin")
	case len(e.login) > maxLogin:
		return entry{}, badEntry(fmt.Sprintf("The field UserLogin is longer than %d bytes.", maxLogin))
	}
	return e, nil
}

// bodyDecoder chooses by the content type, as the venue's framework does: a body without a type is refused like one of
// a foreign type, but no body at all is a matter for the method, whatever type it claims.
func bodyDecoder(r *http.Request) (decode func([]byte) (entry, error), charset string, _ *fault) {
	name, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.ContentLength == 0:
		return decodeJSON, "", nil
	case err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter):
		return nil, "", noMediaType()
	case mediaType(name).in(jsonTypes):
		return decodeJSON, parameters["charset"], nil
	case mediaType(name).in(xmlTypes):
		return decodeXML, parameters["charset"], nil
	}
	return nil, "", unknownMediaType(name)
}

// readBody reads a body within the bounds of size and time.
func (h *Handler) readBody(c *call) ([]byte, *fault) {
	body, err := adapters.ReadBody(c.w, c.r, h.cfg.MaxBody)
	switch {
	case errors.Is(err, adapters.ErrBodyLarge):
		return nil, badEntry(fmt.Sprintf("The body is larger than %d bytes.", h.cfg.MaxBody))
	case err != nil:
		return nil, badEntry("The body is cut off, or did not arrive in time.")
	}
	return body, nil
}

// toUTF8 decodes what the framework's formatters support: UTF-8, and UTF-16 by its byte order mark or by the declared
// character set. Any other declared set is read as UTF-8.
func toUTF8(body []byte, charset string) (text []byte, ok bool) {
	high, low := 1, 0 // little-endian, as the framework's "utf-16"
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		body, charset = body[3:], ""
	case bytes.HasPrefix(body, []byte("\xff\xfe")):
		body, charset = body[2:], "utf-16"
	case bytes.HasPrefix(body, []byte("\xfe\xff")):
		body, charset, high, low = body[2:], "utf-16", 0, 1
	}
	if !strings.EqualFold(charset, "utf-16") {
		return body, utf8.Valid(body)
	}
	if len(body)%2 != 0 {
		return nil, false
	}
	units := make([]uint16, len(body)/2)
	for i := range units {
		units[i] = uint16(body[2*i+high])<<8 | uint16(body[2*i+low])
	}
	for _, c := range utf16.Decode(units) {
		if c == utf8.RuneError { // half a pair, or somebody's own replacement character: no login name has it
			return nil, false
		}
		text = utf8.AppendRune(text, c)
	}
	return text, true
}

// answer takes the client's answer out of the entry.
func (e entry) answer() (a answer, fault *fault) {
	a.login = e.login
	var bad []string
	for _, half := range []struct {
		name, text string
		to         *block
		present    *bool
	}{{"RndA", e.rndA, &a.a, &a.hasA}, {"RndB", e.rndB, &a.b, &a.hasB}} {
		digits := strings.TrimSpace(half.text)
		if digits == "" {
			continue
		}
		bytes, err := hex.DecodeString(digits)
		if err != nil || len(bytes) != len(half.to) {
			bad = append(bad, "The "+half.name+" field must be 16 bytes in hexadecimal format.")
			continue
		}
		*half.to, *half.present = block(bytes), true
	}
	if bad != nil {
		return answer{}, badEntry(bad...)
	}
	return a, nil
}
