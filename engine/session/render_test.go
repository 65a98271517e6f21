package session

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// names gives ids and hashes short names, and finds the names again to print them.
type names map[string]string

func newNames() names { return names{} }

// session is the id of that name; zero for none.
func (n names) session(name string) SessionID {
	if name == "" {
		return SessionID{}
	}
	sum := sha256.Sum256([]byte(name))
	id := SessionID(sum[:16])
	n[string(id[:])] = name
	return id
}

func (n names) token(name string) TokenHash {
	hash := HashToken(name)
	n[string(hash[:])] = name
	return hash
}

func (n names) of(id []byte) string {
	if name := n[string(id)]; name != "" {
		return name
	}
	return fmt.Sprintf("%x", id)
}

// instant is the time since the start.
func (n names) instant(i Instant) string {
	switch i {
	case 0:
		return "none"
	case Forever:
		return "forever"
	}
	return "+" + short(time.Duration(i-begin))
}

// short is 24h instead of 24h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// event is the event's type, whose it is, and its fields that are not zero.
func (n names) event(e Event) string {
	whose := e.Whose()
	return strings.TrimSuffix(string(e.Type())+" "+string(whose), " ") + n.fields(reflect.ValueOf(e).Elem().Interface())
}

// reply is what the one who asked is told; happened leaves out what the events have said already.
func (n names) reply(r Reply, happened bool) string {
	var out strings.Builder
	if r.Refusal != Accepted {
		fmt.Fprintf(&out, "refused: %s", r.Refusal)
		if r.RetryAt != 0 {
			fmt.Fprintf(&out, ", retry at %s", n.instant(r.RetryAt))
		}
		return out.String()
	}
	out.WriteString("accepted")
	if r.Count != 0 {
		fmt.Fprintf(&out, ", %d ended", r.Count)
	}
	if r.User != "" {
		fmt.Fprintf(&out, ", for %s", r.User)
	}
	if r.Repeated {
		fmt.Fprintf(&out, ", the same successor again: generation %d, handle %s, access %s, refresh %s",
			r.Session.Generation, n.of(r.Session.Handle[:]), n.of(r.Session.Access[:]), n.of(r.Session.Refresh[:]))
	} else if !happened && r.Session.ID != (SessionID{}) {
		fmt.Fprintf(&out, ", session %s", n.of(r.Session.ID[:]))
	}
	return out.String()
}

// fields lists a struct's fields that are not zero, but for the header.
func (n names) fields(x any) string {
	var out strings.Builder
	v := reflect.ValueOf(x)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Name == "Header" || v.Field(i).IsZero() {
			continue
		}
		out.WriteString(" " + kebab(field.Name))
		if text := n.value(v.Field(i).Interface()); text != "" {
			out.WriteString("=" + text)
		}
	}
	return out.String()
}

func (n names) value(x any) string {
	switch x := x.(type) {
	case bool:
		return ""
	case SessionID:
		return n.of(x[:])
	case Handle:
		return n.of(x[:])
	case TokenHash:
		return n.of(x[:])
	case Instant:
		return n.instant(x)
	case time.Duration:
		return short(x)
	case Verdict:
		return [...]string{"none", "matched", "mismatched", "no-such-user"}[x]
	case []string:
		return "(" + strings.Join(x, " ") + ")"
	case []TokenHash:
		var all []string
		for _, hash := range x {
			all = append(all, n.of(hash[:]))
		}
		return "(" + strings.Join(all, " ") + ")"
	case []Field:
		var all []string
		for _, f := range x {
			all = append(all, f.Name)
		}
		return "(" + strings.Join(all, " ") + ")"
	case Resource:
		return "(" + strings.TrimPrefix(n.fields(x), " ") + ")"
	}
	return fmt.Sprint(x)
}

// kebab turns AccessUntil into access-until.
func kebab(name string) string {
	var out strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) && !strings.HasSuffix(out.String(), "-") && name != "ID" {
			out.WriteByte('-')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
