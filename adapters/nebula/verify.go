package nebula

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"rollbook/engine/session"
)

// maxToken bounds a token, in bytes. Ours have some 1,100.
const maxToken = 8 << 10

// outline is a token taken apart, before anything in it is believed.
type outline struct {
	token  string
	header struct {
		alg, typ, kid string
		others        bool // there is more than these three
	}
	payload map[string]any // its members, by their exact names
	issuer  string         // whom it claims to be from
}

// outlineOf takes a compact JWS (RFC 7515, 7.1) apart. Each part has one spelling: padding, line ends and stray bits at
// its end, which decoders pass over, are refused.
func outlineOf(token string) (o outline, ok bool) {
	if len(token) > maxToken {
		return o, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" || strings.ContainsAny(token, "\r\n") {
		return o, false
	}
	var decoded [3][]byte
	for n, part := range parts {
		var err error
		if decoded[n], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return o, false
		}
	}
	header, ok := members(decoded[0])
	if !ok {
		return o, false
	}
	if o.payload, ok = members(decoded[1]); !ok {
		return o, false
	}
	o.token = token
	for name, value := range header {
		field := map[string]*string{"alg": &o.header.alg, "typ": &o.header.typ, "kid": &o.header.kid}[name]
		if field == nil {
			o.header.others = true
		} else if *field, ok = value.(string); !ok {
			return o, false
		}
	}
	o.issuer, ok = o.payload["iss"].(string)
	return o, ok && o.header.alg == string(jose.RS256) && o.header.kid != ""
}

// registered are the names that somebody reads, here or in the library for other issuers' tokens.
var registered = []string{"alg", "kid", "typ", "crit", "b64", "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "email", "email_verified"}

// members reads a JSON object that every reader reads alike: no name stands twice (RFC 7515, 4; RFC 7519, 4), and none is
// a known one in another case, which Go's own decoder would take for it.
func members(data []byte) (map[string]any, bool) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	object := make(map[string]any)
	for decoder.More() {
		name, err := decoder.Token()
		text, named := name.(string)
		var value any
		if err != nil || !named || decoder.Decode(&value) != nil {
			return nil, false
		}
		_, twice := object[text]
		if twice || slices.ContainsFunc(registered, func(known string) bool { return known != text && strings.EqualFold(known, text) }) {
			return nil, false
		}
		object[text] = value
	}
	if _, err := decoder.Token(); err != nil { // the brace; without it there is no end
		return nil, false
	}
	_, err := decoder.Token()
	return object, errors.Is(err, io.EOF)
}

// earlyBy is how far the clock of who issues a token may be ahead of ours.
const earlyBy = 5 * time.Minute

// begun reports whether the token's own times, where it has them, say that it is good by now (RFC 7519, 4.1.5 and 4.1.6),
// and its id is a text (4.1.7).
func (o *outline) begun(now time.Time) bool {
	if id, has := o.payload["jti"]; has {
		if _, ok := id.(string); !ok {
			return false
		}
	}
	for _, name := range []string{"nbf", "iat"} {
		if value, has := o.payload[name]; has {
			at, ok := value.(float64)
			if !ok || at < 0 || at > float64(now.Add(earlyBy).Unix()) {
				return false
			}
		}
	}
	return true
}

// ends is the first second at which the token is not good any more; false: it does not say, or not in whole seconds.
func (o *outline) ends() (int64, bool) {
	at, ok := o.payload["exp"].(float64)
	return int64(at), ok && at == math.Trunc(at) && at > 0 && at < 1<<53
}

// checkToken says whose session one of our own tokens belongs to: the signature first, then what it says, then whether
// the session lives (OWASP ASVS 5.0, 9.1 and 9.2; RFC 8725, 3).
func (h *Handler) checkToken(ctx context.Context, o outline) (session.Live, *fault) {
	// We write these three fields and no others, so a token that points to a key or asks for more is not ours.
	if o.header.typ != "JWT" || o.header.others {
		return session.Live{}, &unauthenticated
	}
	key, err := h.keys.key(ctx, o.header.kid)
	if err != nil {
		return session.Live{}, h.failed("the keys", err)
	}
	if key == nil {
		return session.Live{}, &unauthenticated
	}
	signed, err := jose.ParseSignedCompact(o.token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return session.Live{}, &unauthenticated
	}
	if _, err := signed.Verify(key); err != nil {
		return session.Live{}, &unauthenticated
	}
	now := h.cfg.Now()
	ends, whole := o.ends()
	if o.issuer != h.cfg.Issuer || o.payload["aud"] != h.cfg.Audience || !whole || now.Unix() >= ends || !o.begun(now) {
		return session.Live{}, &unauthenticated
	}
	live, refusal, err := h.gate.Check(ctx, session.Nebula, o.token)
	switch {
	case err != nil:
		return session.Live{}, h.failed("a token", err)
	case refusal.No():
		return session.Live{}, refused(refusal)
	case o.payload["jti"] != live.ID.String() || o.payload["sub"] != h.cfg.SubjectPrefix+string(live.User):
		h.log.Error("a token's session is not the one that it names", "session", live.ID)
		return session.Live{}, &broken
	}
	return live, nil
}
