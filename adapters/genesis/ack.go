package genesis

import (
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// loginAck is EVENT_LOGIN_AUTH_ACK: first the fields of the older documentation in their order, then what the newer
// generation and the browser clients read.
type loginAck struct {
	MessageType string       `json:"MESSAGE_TYPE"`
	Access      string       `json:"SESSION_AUTH_TOKEN"`
	Refresh     *string      `json:"REFRESH_AUTH_TOKEN,omitempty"` // absent where it is not known: EVENT_LOGIN_DETAILS_ACK
	SessionID   string       `json:"SESSION_ID"`
	UserID      string       `json:"USER_ID"` // empty, as in the venue's samples
	Details     loginDetails `json:"DETAILS"`
	SourceRef   string       `json:"SOURCE_REF"`
	UserName    string       `json:"USER_NAME"` // without it the clients call their user "undefined"
	Permission  []string     `json:"PERMISSION"`
	Profile     []string     `json:"PROFILE"`
}

type loginDetails struct {
	System struct {
		Date string `json:"DATE"`
	} `json:"SYSTEM"`
	HeartbeatSecs int       `json:"HEARTBEAT_INTERVAL_SECS"`
	Failed        uint32    `json:"FAILED_LOGIN_ATTEMPTS"`
	Rejected      uint32    `json:"REJECTED_LOGIN_ATTEMPTS"`
	LastLogin     *int64    `json:"LAST_LOGIN_DATETIME"` // Unix milliseconds; null at the first login
	Product       []Product `json:"PRODUCT"`

	HeartbeatSeconds int    `json:"HEARTBEAT_INTERVAL_SECONDS"`
	LastLoginTime    *int64 `json:"LAST_LOGIN_DATE_TIME"`
	SessionTimeout   int64  `json:"SESSION_TIMEOUT_MINS"`          // until the token dies of idleness or age
	RefreshTimeout   int64  `json:"REFRESH_TOKEN_EXPIRATION_MINS"` // until the refresh token does
}

// javaDate is the form of Java's Date.toString, in UTC.
const javaDate = "Mon Jan 02 15:04:05 MST 2006"

// loginAck renders what a login or a refresh gave.
func (h *Handler) loginAck(c *call, grant adapters.Grant) *loginAck {
	ack := h.sessionAck(c, &grant.Session)
	ack.MessageType = "EVENT_LOGIN_AUTH_ACK"
	ack.Access, ack.Refresh, ack.UserName = grant.Access, &grant.Refresh, grant.Name
	return ack
}

// sessionAck renders what is known of a session without its tokens.
func (h *Handler) sessionAck(c *call, s *session.Session) *loginAck {
	ack := &loginAck{
		SessionID: s.Handle.String(), SourceRef: c.ref, Permission: append([]string{}, s.Scopes...), Profile: []string{},
		Details: loginDetails{
			HeartbeatSecs: h.cfg.HeartbeatSecs, HeartbeatSeconds: h.cfg.HeartbeatSecs, Failed: s.Failed,
			Rejected: s.Rejected, Product: h.cfg.Product,
			SessionTimeout: minutes(s.AccessDeadline(), s.LastActive), RefreshTimeout: minutes(s.RefreshDeadline(), s.LastActive),
		},
	}
	ack.Details.System.Date = h.cfg.Now().UTC().Format(javaDate)
	if s.PreviousLogin != 0 {
		before := s.PreviousLogin.Time().UnixMilli()
		ack.Details.LastLogin, ack.Details.LastLoginTime = &before, &before
	}
	return ack
}

func minutes(until, from session.Instant) int64 {
	return int64(time.Duration(until-from) / time.Minute)
}

// plainAck is an acknowledgement that says nothing more: LOGOUT_ACK, LOGOFF_ACK.
type plainAck struct {
	MessageType string `json:"MESSAGE_TYPE"`
	SourceRef   string `json:"SOURCE_REF"`
}

// pong is HEARTBEAT_PONG. Its times, Unix milliseconds, answer VERBOSE over a socket.
type pong struct {
	MessageType   string `json:"MESSAGE_TYPE"`
	SourceRef     string `json:"SOURCE_REF"`
	UserName      string `json:"USER_NAME,omitempty"`
	Authenticated bool   `json:"IS_AUTHENTICATED"`
	CreatedAt     int64  `json:"CREATED_AT,omitempty"`
	LastReceived  int64  `json:"LAST_RECEIVED,omitempty"`
	LastSent      int64  `json:"LAST_SENT,omitempty"`
}

type resourcesAck struct {
	MessageType string          `json:"MESSAGE_TYPE"`
	Resources   []resourceEntry `json:"RESOURCES"`
	SourceRef   string          `json:"SOURCE_REF"`
}

type resourceEntry struct {
	Name session.ResourceName `json:"RESOURCE_NAME"`
	Type string               `json:"RESOURCE_TYPE"`
}

type metaAck struct {
	MessageType string      `json:"MESSAGE_TYPE"`
	Details     metaDetails `json:"DETAILS"`
	SourceRef   string      `json:"SOURCE_REF"`
}

// metaDetails has FIELD for a data server or an event handler, and the other two for a request server.
type metaDetails struct {
	Type        string               `json:"TYPE"`
	Name        session.ResourceName `json:"NAME"`
	Field       *[]metaField         `json:"FIELD,omitempty"`
	Request     *[]metaField         `json:"REQUEST_FIELD,omitempty"`
	Reply       *[]metaField         `json:"REPLY_FIELD,omitempty"`
	Description string               `json:"DESCRIPTION,omitempty"`
}

type metaField struct {
	Name        string   `json:"NAME"`
	Type        string   `json:"TYPE"`
	Description string   `json:"DESCRIPTION,omitempty"`
	Label       string   `json:"UI_LABEL,omitempty"`
	ValidValues []string `json:"VALID_VALUES,omitempty"`
	Optional    bool     `json:"OPTIONAL,omitempty"`
	Nullable    bool     `json:"NULLABLE,omitempty"`
	ReadOnly    bool     `json:"READ_ONLY,omitempty"`
}

func newMetaAck(c *call, r session.Resource) metaAck {
	d := metaDetails{Type: kindName(c, r.Kind), Name: r.Name, Description: r.Description}
	if r.Kind == session.RequestServer {
		d.Request, d.Reply = metaFields(r.Request), metaFields(r.Reply)
	} else {
		d.Field = metaFields(r.Fields)
	}
	return metaAck{MessageType: "META_ACK", Details: d, SourceRef: c.ref}
}

func metaFields(fields []session.Field) *[]metaField {
	list := make([]metaField, len(fields))
	for i, f := range fields {
		list[i] = metaField(f)
	}
	return &list
}

// kindName is the resource type as the caller spells it: the browser client stops at the older REQUESTSERVER, which the
// older documentation shows in answer to a GET.
func kindName(c *call, kind session.ResourceKind) string {
	if c.seed && kind == session.RequestServer {
		return "REQUESTSERVER"
	}
	return kind.String()
}
