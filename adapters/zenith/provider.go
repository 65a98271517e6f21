package zenith

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"rollbook/adapters"
)

// ErrGrant says that a grant is not good, whoever it may be of: it cannot be read, is not signed by who should have, or
// is too old. The login is refused and nothing is counted.
var ErrGrant = errors.New("the grant is not good")

// Provider understands the authorisation grants of one authentication provider. It is safe for concurrent use.
type Provider interface {
	// Understand says what a grant asks of the gate: a Name and a Password, or a Name and how to Judge it, with a
	// Nonce and an Until where they apply; the other fields are the handler's. The error is [ErrGrant], or says that nobody knows: then the login is not refused but
	// "unavailable". A grant that works once is redeemed here, because Judge may be called again.
	Understand(ctx context.Context, grant string) (adapters.Login, error)
}

// passwords is the built-in provider: a grant is the base64 (RFC 4648, 4 or 5) of "name:password", or of a JSON object
// with UserName (or Username) and Password, which may also come as it is.
type passwords struct{}

func (passwords) Understand(_ context.Context, grant string) (adapters.Login, error) {
	text := grant
	if data, ok := decodeBase64(grant); ok {
		text = string(data)
	} else if !strings.HasPrefix(strings.TrimSpace(grant), "{") {
		return adapters.Login{}, ErrGrant
	}
	if !utf8.ValidString(text) {
		return adapters.Login{}, ErrGrant
	}
	var name, password string
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var fields adapters.Object
		if json.Unmarshal([]byte(text), &fields) != nil {
			return adapters.Login{}, ErrGrant
		}
		in := reader{from: fields}
		name, password = userName(&in), in.text("Password", maxPassword)
		if in.wrong {
			return adapters.Login{}, ErrGrant
		}
	} else {
		name, password, _ = strings.Cut(text, ":") // RFC 7617, 2: no colon in the name
	}
	return byPassword(name, password)
}

// userName is the name in either spelling: the venue documents UserName, and its client sends Username.
func userName(in *reader) string {
	name, other := in.text("UserName", maxUser), in.text("Username", maxUser)
	if name == "" {
		return other
	}
	return name
}

// byPassword is a login by name and password, both of which there must be.
func byPassword(name, password string) (adapters.Login, error) {
	if name == "" || password == "" || len(name) > maxUser || len(password) > maxPassword {
		return adapters.Login{}, ErrGrant
	}
	return adapters.Login{Name: name, Password: password}, nil
}

// decodeBase64 reads any of the four spellings: either alphabet, padded or not.
func decodeBase64(text string) ([]byte, bool) {
	text = strings.TrimRight(text, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder would skip
		return nil, false
	}
	data, err := encoding.DecodeString(text)
	return data, err == nil && len(data) > 0
}

// tokenBytes is how many bytes the access tokens of this service have: [adapters.Base64].
const tokenBytes = 32

// issued finds the access token of this service in what a client presents: the text itself, in any spelling of base64,
// or wrapped in base64 once more, because the venue says that what decodes is decoded. Not ok: no token of ours looks
// like that, so the book need not be asked.
func issued(presented string) (token string, ok bool) {
	for range 2 {
		data, ok := decodeBase64(presented)
		if !ok {
			return "", false
		}
		if len(data) == tokenBytes {
			return base64.StdEncoding.EncodeToString(data), true
		}
		presented = string(data)
	}
	return "", false
}
