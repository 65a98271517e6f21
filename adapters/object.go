package adapters

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Object is a JSON object whose values are not looked at yet. Names are compared exactly; of a name that stands twice
// the last value counts.
type Object map[string]json.RawMessage

// DecodeObject reads one JSON object (RFC 8259) in UTF-8, in which objects and arrays are nested at most so deep; zero is
// no bound but the library's own. The error ends a sentence that begins with "The message", and is fit for a reply.
func DecodeObject(data []byte, deepest int) (Object, error) {
	data = bytes.Trim(data, " \t\r\n") // what JSON takes for white space, and no more
	switch {
	case !utf8.Valid(data):
		return nil, errors.New("is not UTF-8")
	case len(data) == 0 || data[0] != '{':
		return nil, errNoObject
	case deepest > 0 && Depth(data) > deepest:
		return nil, fmt.Errorf("is nested deeper than %d", deepest)
	}
	var o Object
	if err := json.Unmarshal(data, &o); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return nil, fmt.Errorf("is not JSON from byte %d on", syntax.Offset)
		}
		return nil, errNoObject
	}
	return o, nil
}

var errNoObject = errors.New("is not a JSON object")

// Take decodes a value; absent and null leave into as it is. It is false when the value has another type.
func (o Object) Take(name string, into any) bool {
	raw := o[name]
	return raw == nil || json.Unmarshal(raw, into) == nil
}

// RenderJSON is the JSON text of what always has one (structs of texts, numbers and lists): one line without its end,
// and without the escapes for HTML.
func RenderJSON(value any) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic("adapters: a reply has no JSON form: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
