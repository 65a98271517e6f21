package genesis

import (
	"context"
	"net/http"
	"strings"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// The message types of refusals. The clients wait for the one of their call, or for MSG_NACK, which tells them no code.
const (
	loginNack   = "EVENT_LOGIN_AUTH_NACK"
	detailsNack = "EVENT_LOGIN_DETAILS_NACK"
	logoutNack  = "LOGOUT_NACK"
	logonNack   = "LOGON_NACK"
	eventNack   = "EVENT_NACK"
	messageNack = "MSG_NACK"
)

// answer is what a call leads to.
type answer struct {
	body  any             // the acknowledgement; nil: refused
	fault *fault          // why it is refused; nil: acknowledged
	nack  string          // the refusal's message type; empty: the call's usual one
	grant *adapters.Grant // of a login or a refresh
	ended bool            // of a logout: the client has no session any more
}

func no(f *fault) answer    { return answer{fault: f} }
func yes(body any) answer   { return answer{body: body} }
func (a answer) good() bool { return a.fault == nil }

// spec is how a call is served.
type spec struct {
	class    string // for metrics: calls that are the same but for their name have one
	nack     string
	get      bool // served by GET too; POST always is
	overHTTP bool // in cookie mode: by HTTP alone, because only there cookies can be set
	answer   func(*Handler, context.Context, *call) answer
}

// calls are the messages that are served, by canonical name; the other names are those of older documents.
var calls = map[string]spec{
	"event-login-auth":    {class: "login", nack: loginNack, overHTTP: true, answer: (*Handler).login},
	"ehandler-login-auth": {class: "login", nack: loginNack, overHTTP: true, answer: (*Handler).login},
	"txn-login-auth":      {class: "login", nack: loginNack, overHTTP: true, answer: (*Handler).login},
	"event-logout":        {class: "logout", nack: logoutNack, overHTTP: true, answer: (*Handler).logout},
	"ehandler-logout":     {class: "logout", nack: logoutNack, overHTTP: true, answer: (*Handler).logout},
	"txn-logout":          {class: "logout", nack: logoutNack, overHTTP: true, answer: (*Handler).logout},
	"event-login-details": {class: "details", nack: detailsNack, get: true, answer: (*Handler).details},
	"heartbeat-ping":      {class: "heartbeat", nack: messageNack, get: true, answer: (*Handler).heartbeat},
	"resources-request":   {class: "resources", nack: messageNack, get: true, answer: (*Handler).resources},
	"meta-request":        {class: "meta", nack: messageNack, get: true, answer: (*Handler).meta},
	"data-logoff":         {class: "logoff", nack: messageNack, get: true, answer: (*Handler).logoff},
}

// The classes of what is not in the table.
const (
	classSocket = "socket" // the root, where sockets open
	classOther  = "other"
)

// Class puts the path of a request into one of the few classes of calls, for metrics: login, logout, details, heartbeat,
// resources, meta, logoff; socket for the root; other for what is not served.
func Class(path string) string {
	name := route(path)
	if name == "" {
		return classSocket
	}
	return classOf(name)
}

// classOf is the class of a call by its name.
func classOf(name string) string {
	if s, served := calls[name]; served {
		return s.class
	}
	return classOther
}

// answer serves any call.
func (h *Handler) answer(ctx context.Context, c *call) answer {
	s, served := calls[c.name]
	if !served {
		return unserved(c)
	}
	if h.cfg.Cookies && s.overHTTP && c.socket != nil {
		return no(&fault{code: "NOT_AUTHORISED", status: http.StatusForbidden,
			text: "Sessions are kept in cookies here: log in and out over HTTP"})
	}
	return s.answer(h, ctx, c)
}

// refusal is the body of an answer that is none.
func (a answer) refusal(c *call) nack {
	kind := first(a.nack, calls[c.name].nack, messageNack)
	return a.fault.body(kind, c.ref)
}

// login opens a session by password, or renews one by refresh token. The password wins when both are there.
func (h *Handler) login(ctx context.Context, c *call) answer {
	c.refresh = first(c.refresh, c.cookie.refresh)
	var grant adapters.Grant
	var refused adapters.Refused
	var err error
	switch {
	case c.password != "" && c.user == "":
		return no(&fault{code: "NO_USER_NAME", status: http.StatusBadRequest, text: "DETAILS.USER_NAME is missing"})
	case c.password != "":
		grant, refused, err = h.gate.Login(ctx, adapters.Login{Venue: session.Genesis, Name: c.user,
			Password: c.password, Bound: c.socket != nil && h.cfg.Linger >= 0, Origin: c.origin})
	case c.refresh != "":
		grant, refused, err = h.gate.Refresh(ctx, adapters.Refresh{Venue: session.Genesis, Token: c.refresh, Name: given(c.user), Origin: c.origin})
	case c.byOther != "":
		return no(&fault{code: "LOGIN_FAIL", status: http.StatusForbidden, text: "Single sign-on is not served here: log in with a password"})
	default:
		return no(missing("DETAILS.PASSWORD or DETAILS.REFRESH_AUTH_TOKEN"))
	}
	switch {
	case err != nil:
		return no(h.failed(c, err))
	case refused.No() && c.password == "":
		return no(h.refreshRefused(refused))
	case refused.No():
		return no(h.refused(refused))
	}
	h.linger.Renew(grant.Session)
	return answer{body: h.loginAck(c, grant), grant: &grant}
}

// logout ends the session that the request names by any means. DETAILS.SESSION_ID comes first: it is how a client that
// may not log in makes room, and a token beside it is then only who asks. Then what the request names, then what its
// cookie or its socket stands for.
func (h *Handler) logout(ctx context.Context, c *call) answer {
	r := adapters.Logout{Venue: session.Genesis, Token: c.access, Name: given(c.user)}
	if c.named {
		r.Token = ""
	}
	handle := c.handle
	byCookie := h.cfg.Cookies && r.Token == "" && handle == ""
	if byCookie {
		r.Token = c.cookie.access
		if r.Token == "" {
			return c.loggedOut() // a browser without a session wants to have none
		}
	}
	if r.Token == "" && handle == "" {
		own, live := h.gate.Session(c.current)
		if !live {
			return no(missing("SESSION_ID or SESSION_AUTH_TOKEN"))
		}
		handle = own.Handle.String()
	}
	var err error
	if r.Handle, err = session.ParseHandle(handle); err != nil && r.Token == "" {
		return no(h.refused(adapters.Refused{Code: session.UnknownSession})) // not an id at all: nobody's session
	}
	refused, err := h.gate.Logout(ctx, r)
	switch {
	case err != nil && byCookie:
		// The cookie client hangs for ever on LOGOUT_NACK, and shows this.
		return answer{fault: h.failed(c, err), nack: "EVENT_LOGOUT_NACK"}
	case err != nil:
		return no(h.failed(c, err))
	case refused.No() && !byCookie:
		return no(h.refused(refused))
	}
	return c.loggedOut()
}

func (c *call) loggedOut() answer {
	return answer{body: plainAck{"LOGOUT_ACK", c.ref}, ended: true}
}

// authenticate finds the session whose token the call presents.
func (h *Handler) authenticate(ctx context.Context, c *call) (session.Live, *fault) {
	token := first(c.access, c.cookie.access)
	if token == "" {
		f := notLoggedIn
		return session.Live{}, &f
	}
	s, refused, err := h.gate.Check(ctx, session.Genesis, token)
	switch {
	case err != nil:
		return s, h.failed(c, err)
	case refused.No():
		return s, h.refused(refused)
	}
	c.checked = s.ID
	return s, nil
}

// details says whose session the caller has. A client that has none is told by HTTP status 401, in every mode.
func (h *Handler) details(ctx context.Context, c *call) answer {
	live, f := h.authenticate(ctx, c)
	if f != nil {
		return no(f)
	}
	s, found := h.gate.Session(live.ID)
	if !found { // ended just now
		return no(h.refused(adapters.Refused{Code: session.InvalidToken}))
	}
	ack := h.sessionAck(c, &s)
	ack.MessageType, ack.Access, ack.UserName = "EVENT_LOGIN_DETAILS_ACK", c.access, h.gate.Name(s.User)
	return yes(ack)
}

// heartbeat is asked before login too, without a token, to see whether anybody is here. When it is not known whether
// the token is good it is refused: a client that is told it is not logged in would throw its refresh token away.
func (h *Handler) heartbeat(ctx context.Context, c *call) answer {
	reply := pong{MessageType: "HEARTBEAT_PONG", SourceRef: c.ref}
	s, f := h.authenticate(ctx, c)
	switch {
	case f == nil:
		reply.Authenticated, reply.UserName = true, h.gate.Name(s.User)
	case f.status != http.StatusUnauthorized:
		return no(f)
	}
	if c.verbose && c.socket != nil {
		reply.CreatedAt, reply.LastReceived, reply.LastSent = c.socket.opened, c.socket.received, c.socket.sent
	}
	return yes(reply)
}

func (h *Handler) resources(ctx context.Context, c *call) answer {
	if _, f := h.authenticate(ctx, c); f != nil {
		return no(f)
	}
	ack := resourcesAck{MessageType: "RESOURCES_REQUEST_ACK", Resources: []resourceEntry{}, SourceRef: c.ref}
	for _, r := range h.gate.Resources() {
		ack.Resources = append(ack.Resources, resourceEntry{r.Name, kindName(c, r.Kind)})
	}
	return yes(ack)
}

func (h *Handler) meta(ctx context.Context, c *call) answer {
	if _, f := h.authenticate(ctx, c); f != nil {
		return no(f)
	}
	const longest = 128 // of a session.ResourceName
	switch {
	case c.feature == "":
		return no(&fault{code: "FEATURE_NOT_PROVIDED", status: http.StatusBadRequest, text: "DETAILS[FEATURE] is missing: name a resource"})
	case len(c.feature) > longest:
		return no(h.refused(adapters.Refused{Code: session.UnknownResource}))
	}
	r, refused, err := h.gate.Resource(ctx, session.ResourceName(c.feature))
	switch {
	case err != nil:
		return no(h.failed(c, err))
	case refused.No():
		return no(h.refused(refused))
	}
	return yes(newMetaAck(c, r))
}

// logoff ends a subscription. There are none, and ending none succeeds.
func (h *Handler) logoff(_ context.Context, c *call) answer {
	return yes(plainAck{"LOGOFF_ACK", c.ref})
}

// unserved says what is not here: this service keeps sessions and metadata, and no data.
func unserved(c *call) answer {
	f := &fault{code: "SERVICE_NOT_FOUND", status: http.StatusNotFound, text: "Sessions and metadata are served here, and no data"}
	switch name := c.name; {
	case name == "data-logon":
		return answer{fault: f, nack: logonNack}
	case strings.HasPrefix(name, "req-"), name == "more-rows", name == "more-columns", name == "data-get":
	case name == "json-schema-request":
		f.code, f.text = "JSON_SCHEMA_NOT_FOUND", "There are no schemas here: META_REQUEST has the fields"
	case strings.HasSuffix(name, "-password"), strings.Contains(name, "-password-"):
		f.code, f.status, f.text = "NOT_AUTHORISED", http.StatusForbidden, "Passwords are changed by an operator"
		return answer{fault: f, nack: eventNack}
	case c.socket == nil:
		f.code, f.text = "FEATURE_NOT_FOUND", "There is nothing at this path"
	case name == "":
		f.code, f.status, f.text = "NO_MESSAGE_TYPE", http.StatusBadRequest, "MESSAGE_TYPE is missing"
	default:
		f.code, f.status, f.text = "UNKNOWN_MESSAGE_TYPE", http.StatusBadRequest, "There is no message of this type"
	}
	return no(f)
}
