package session

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// Detail is one field of an event, by name, for people and for programs in other languages.
type Detail struct {
	Name  string // lower case with underscores, such as "access_until"; of a field within a field "resource_name"
	Value any    // as the event holds it: an [Instant], a [time.Duration], a [TokenHash], a list, ...
}

// Details are the fields of an event, in the order in which they are stored: "at" and "user" come first.
type Details []Detail

// Describe names the fields of an event. It goes by the event's own type, so a field that is added shows here by itself;
// a test holds that the codec stores these fields, in this order, and no others.
func Describe(e Event) Details { return describe(nil, "", reflect.ValueOf(e).Elem()) }

// describe goes through a struct. What is embedded, or a struct of its own, stands flat among the others.
func describe(to Details, prefix string, v reflect.Value) Details {
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i)
		switch {
		case name.Anonymous:
			to = describe(to, prefix, field)
		case field.Kind() == reflect.Struct:
			to = describe(to, prefix+snake(name.Name)+"_", field)
		default:
			to = append(to, Detail{prefix + snake(name.Name), field.Interface()})
		}
	}
	return to
}

// snake turns RetryAt into retry_at.
func snake(name string) string {
	var out strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// Get is the value of a field; nil when there is none of that name.
func (d Details) Get(name string) any {
	for _, detail := range d {
		if detail.Name == name {
			return detail.Value
		}
	}
	return nil
}

// MarshalJSON gives one object with every field, also those that are empty, in order. Instants are RFC 3339 in UTC with
// nanoseconds, "forever", or null for none; durations are seconds; venues, refusals and reasons are their names; ids are UUIDs,
// null for none; of a hash there are the first 16 hex digits.
func (d Details) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, detail := range d {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, detail.Name...)
		out = append(out, '"', ':')
		value, err := json.Marshal(plain(detail.Value))
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", detail.Name, err)
		}
		out = append(out, value...)
	}
	return append(out, '}'), nil
}

// Text is the value on one line, as tables and logs have it; empty for what is not set. It may hold whatever a client has
// sent: who prints it on a terminal takes out what is not printable.
func (d Detail) Text() string {
	switch v := d.Value.(type) {
	case time.Duration:
		if v == 0 {
			return ""
		}
		return v.String()
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case []Field:
		names := make([]string, len(v))
		for i := range v {
			names[i] = v[i].Name
		}
		return strings.Join(names, " ")
	}
	switch v := plain(d.Value).(type) {
	case nil:
		return ""
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = fmt.Sprint(v[i])
		}
		return strings.Join(texts, " ")
	default:
		if reflect.ValueOf(v).IsZero() {
			return ""
		}
		return fmt.Sprint(v)
	}
}

// verdictNames are the verdicts in words.
var verdictNames = [...]string{"", "matched", "mismatched", "no_such_user"}

// shownOfHash is how many bytes of a hash are shown: enough to tell two tokens of a history apart.
const shownOfHash = 8

// plain is a value as JSON has it.
func plain(v any) any {
	switch v := v.(type) {
	case Instant:
		switch v {
		case 0:
			return nil
		case Forever:
			return "forever"
		}
		return v.Time().Format(time.RFC3339Nano)
	case time.Duration:
		return v.Seconds()
	case Verdict:
		if int(v) < len(verdictNames) {
			return verdictNames[v]
		}
	case TokenHash:
		if v == (TokenHash{}) {
			return nil
		}
		return hex.EncodeToString(v[:shownOfHash])
	case []byte:
		return v
	case fmt.Stringer:
		if reflect.ValueOf(v).IsZero() {
			return nil
		}
		return v.String()
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Array: // of bytes: a root, of which half would prove nothing
		if r.IsZero() {
			return nil
		}
		return fmt.Sprintf("%x", v)
	case reflect.Slice:
		list := make([]any, r.Len())
		for i := range list {
			list[i] = plain(r.Index(i).Interface())
		}
		return list
	case reflect.Struct:
		return describe(nil, "", r)
	}
	return v
}
