package traderevolution

import (
	"fmt"
	"net/http"
)

// code is a dotted error code. The vendor's first component is a class; ours are in a class of their own, 99.
type code string

// The codes. Those that name one of the call's fields are made by [field.fault].
const (
	codeToken       code = "1.1.1.11"   // the vendor's: the client's cue to refresh, or to log in
	codeCredentials code = "1.2.0.11"   // the vendor's
	codeNoAccess    code = "2.0.2.4"    // the vendor's
	codeTooFast     code = "2.147.1.27" // the vendor's
	codeNotJSON     code = "99.0.1.1"
	codeNotJSONType code = "99.0.1.2"
	codeLargeBody   code = "99.0.1.3"
	codeLateBody    code = "99.0.1.4"
	codeNoMethod    code = "99.0.2.1"
	codeNoPath      code = "99.0.2.2"
	codeNoRoom      code = "99.2.0.1"
	codeUnavailable code = "99.3.0.1"
	codeInternal    code = "99.3.0.2"
)

// codes says what each code means, for GET /methods/errors. The form of ours is that of the vendor's one known text.
var codes = describe(map[code]string{
	codeToken:       "The access token or the refresh token is missing or no longer good",
	codeCredentials: "The login or the password is wrong or missing",
	codeNoAccess:    "The user has no access to this part of the API",
	codeTooFast:     "Too many requests",
	codeNotJSON:     "ROLLBOOK / REQUEST / BODY / NOT_A_JSON_OBJECT",
	codeNotJSONType: "ROLLBOOK / REQUEST / CONTENT_TYPE / NOT_JSON",
	codeLargeBody:   "ROLLBOOK / REQUEST / BODY / TOO_LARGE",
	codeLateBody:    "ROLLBOOK / REQUEST / BODY / TOO_LATE",
	codeNoMethod:    "ROLLBOOK / REQUEST / METHOD / NOT_ALLOWED",
	codeNoPath:      "ROLLBOOK / REQUEST / PATH / UNKNOWN",
	codeNoRoom:      "ROLLBOOK / SESSION / COUNT / TOO_MANY",
	codeUnavailable: "ROLLBOOK / SERVICE / BOOK / UNAVAILABLE",
	codeInternal:    "ROLLBOOK / SERVICE / BOOK / INTERNAL",
})

// field is what a call presents by name. The numbers stand in error codes and never change meaning.
type field uint8

// The fields.
const (
	fieldWhole field = iota // all of them together
	fieldLogin
	fieldPassword
	fieldToken
	fieldLink
	fieldAccessLife
	fieldRefreshLife
	fieldOneTimeLife
	fieldErrorID
	fieldsEnd
)

var fieldNames = [fieldsEnd]struct{ member, word string }{
	{"", "BODY"}, {"login", "LOGIN"}, {"password", "PASSWORD"}, {"token", "TOKEN"}, {"link", "LINK"},
	{"accessTokenLifeTime", "ACCESS_TOKEN_LIFE_TIME"}, {"refreshTokenLifeTime", "REFRESH_TOKEN_LIFE_TIME"},
	{"oneTimeTokenLifeTime", "ONE_TIME_TOKEN_LIFE_TIME"}, {"errorId", "ERROR_ID"},
}

// member is the field's name in JSON.
func (f field) member() string { return fieldNames[f].member }

// reason is what is wrong with a field. The numbers stand in error codes and never change meaning.
type reason uint8

// The reasons.
const (
	wrongType reason = iota + 1
	empty
	tooLong
	outOfRange
	unknown
	reasonsEnd
)

var reasonNames = [reasonsEnd]struct {
	word   string
	status int
}{
	wrongType: {"WRONG_TYPE", http.StatusBadRequest}, empty: {"EMPTY", http.StatusBadRequest}, tooLong: {"TOO_LONG", http.StatusBadRequest},
	outOfRange: {"OUT_OF_RANGE", http.StatusNotAcceptable}, unknown: {"UNKNOWN", http.StatusNotFound},
}

func (f field) code(r reason) code { return code(fmt.Sprintf("99.1.%d.%d", f, r)) }

// fault says what is wrong with a field.
func (f field) fault(r reason) *fault { return &fault{code: f.code(r), status: reasonNames[r].status} }

// describe adds the codes of fields.
func describe(texts map[code]string) map[code]string {
	for f := range fieldsEnd {
		for r := wrongType; r < reasonsEnd; r++ {
			texts[f.code(r)] = "ROLLBOOK / PARAM / " + fieldNames[f].word + " / " + reasonNames[r].word
		}
	}
	return texts
}
