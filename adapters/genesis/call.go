package genesis

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Bounds of what a client may present. They are far above what the venue's clients send.
const (
	maxRef      = 256  // characters of a SOURCE_REF
	maxUserName = 256  // bytes
	maxPassword = 1024 // bytes
	maxDepth    = 32   // of objects and arrays in one another
)

// call is one request, whatever it came by. What a client gives in several places is taken from the first of: the
// header with underscores, the header with hyphens, the top level of the body, its DETAILS; the cookie is asked last of
// all, and only in cookie mode. The user name alone is asked for inside out, because a login names its user in DETAILS.
// A token or id that is empty, or the text "null" or "undefined" (which the browser client sends when it has none), is
// not given.
type call struct {
	name   string // which: the message's name in lower case with hyphens, such as event-login-auth
	seed   bool   // a GET: answered in the older spelling of resource types
	socket *socketTimes
	origin session.Origin

	ref      string // SOURCE_REF, to be echoed
	access   string // SESSION_AUTH_TOKEN
	handle   string // SESSION_ID
	user     string // USER_NAME
	password string
	refresh  string // REFRESH_AUTH_TOKEN
	feature  string // of a meta-request
	verbose  bool   // of a heartbeat
	byOther  string // SSO_TOKEN or JWT, when a login presents one: not served
	named    bool   // DETAILS.SESSION_ID names the session to log out, whoever asks

	cookie  cookieTokens      // zero unless in cookie mode
	current session.SessionID // that came last over the socket; zero over HTTP
	checked session.SessionID // whose token was found good
}

// canonical is a name as paths and message types are compared.
func canonical(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// route is the call that a path names; empty for the root, where the sockets are.
func route(path string) string {
	parts := strings.FieldsFunc(canonical(path), func(r rune) bool { return r == '/' })
	if len(parts) > 0 && (parts[0] == "gwf" || parts[0] == "sm") {
		parts = parts[1:] // the prefixes of the usual reverse proxies
	}
	return strings.Join(parts, "/")
}

// given is what a client presented as a token or an id, or nothing.
func given(text string) string {
	if text = strings.TrimSpace(text); text == "null" || text == "undefined" {
		return ""
	}
	return text
}

// first is the first that is given.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// readHeader takes what the header and the query give.
func (c *call) readHeader(h http.Header, query url.Values) *fault {
	get := func(name string) string { return first(h.Get(name), h.Get(strings.ReplaceAll(name, "_", "-"))) }
	token := func(name string) string {
		return first(given(h.Get(name)), given(h.Get(strings.ReplaceAll(name, "_", "-"))))
	}
	c.access, c.handle, c.refresh = token("SESSION_AUTH_TOKEN"), token("SESSION_ID"), token("REFRESH_AUTH_TOKEN")
	c.user, c.feature = get("USER_NAME"), query.Get("DETAILS[FEATURE]")
	return c.setRef(get("SOURCE_REF"))
}

func (c *call) setRef(ref string) *fault {
	if utf8.RuneCountInString(ref) > maxRef {
		return invalid("SOURCE_REF", fmt.Sprintf("is longer than %d characters", maxRef))
	}
	c.ref = strings.ToValidUTF8(ref, "\uFFFD")
	return nil
}

// readBody takes what the message gives beyond the header.
func (c *call) readBody(body adapters.Object) *fault {
	top := reader{from: body}
	ref := top.text("SOURCE_REF")
	if top.fault != nil {
		return top.fault
	}
	if c.ref == "" {
		if fault := c.setRef(ref); fault != nil {
			return fault
		}
	}
	if c.name == "" { // a socket's message
		c.name = canonical(top.text("MESSAGE_TYPE"))
	}
	if _, served := calls[c.name]; !served {
		return top.fault // what others mean by their fields is not ours to judge
	}
	c.access = first(c.access, given(top.text("SESSION_AUTH_TOKEN")))
	c.handle = first(c.handle, given(top.text("SESSION_ID")))
	c.refresh = first(c.refresh, given(top.text("REFRESH_AUTH_TOKEN")))
	c.user = first(top.text("USER_NAME"), c.user)
	c.verbose = top.flag("VERBOSE")

	details := reader{from: top.object("DETAILS"), prefix: "DETAILS."}
	c.user, c.password = first(details.text("USER_NAME"), c.user), details.text("PASSWORD")
	c.access = first(c.access, given(details.text("SESSION_AUTH_TOKEN")))
	c.refresh = first(c.refresh, given(details.text("REFRESH_AUTH_TOKEN")))
	c.feature = first(details.text("FEATURE"), c.feature)
	for _, name := range []string{"SSO_TOKEN", "JWT"} {
		if details.text(name) != "" {
			c.byOther = name
		}
	}
	if other := given(details.text("SESSION_ID")); other != "" {
		c.handle, c.named = other, true
	}
	if top.fault != nil {
		return top.fault
	}
	if details.fault != nil {
		return details.fault
	}
	return c.checkBounds()
}

func (c *call) checkBounds() *fault {
	switch {
	case len(c.user) > maxUserName:
		return invalid("USER_NAME", fmt.Sprintf("is longer than %d bytes", maxUserName))
	case !utf8.ValidString(c.user):
		return invalid("USER_NAME", "is not UTF-8")
	case len(c.password) > maxPassword:
		return invalid("DETAILS.PASSWORD", fmt.Sprintf("is longer than %d bytes", maxPassword))
	}
	return nil
}

// decodeMessage reads one JSON object (RFC 8259). Nothing at all is an empty object.
func decodeMessage(data []byte) (adapters.Object, *fault) {
	if len(bytes.Trim(data, " \t\r\n")) == 0 {
		return adapters.Object{}, nil
	}
	m, err := adapters.DecodeObject(data, maxDepth)
	if err != nil {
		return nil, &fault{code: "INVALID_MESSAGE", status: 400, text: "The message " + err.Error()}
	}
	return m, nil
}

// reader takes fields out of an object and keeps the first complaint. Absent and null are the same.
type reader struct {
	from   adapters.Object
	prefix string
	fault  *fault
}

func (r *reader) text(name string) (value string) {
	r.take(name, "a string", &value)
	return value
}

func (r *reader) flag(name string) (value bool) {
	r.take(name, "true or false", &value)
	return value
}

func (r *reader) object(name string) (value adapters.Object) {
	r.take(name, "an object", &value)
	return value
}

func (r *reader) take(name, kind string, into any) {
	if r.fault == nil && !r.from.Take(name, into) {
		r.fault = invalid(r.prefix+name, "must be "+kind)
	}
}
