package nebula

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

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
	issuer string // whom it claims to be from
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
	var header, payload map[string]json.RawMessage
	for n, part := range parts {
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || n == 0 && json.Unmarshal(decoded, &header) != nil || n == 1 && json.Unmarshal(decoded, &payload) != nil {
			return o, false
		}
	}
	o.token = token
	for name, value := range header {
		field := map[string]*string{"alg": &o.header.alg, "typ": &o.header.typ, "kid": &o.header.kid}[name]
		if field == nil {
			o.header.others = true
		} else if json.Unmarshal(value, field) != nil {
			return o, false
		}
	}
	return o, json.Unmarshal(payload["iss"], &o.issuer) == nil && o.header.alg == string(jose.RS256) && o.header.kid != ""
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
	payload, err := signed.Verify(key)
	if err != nil {
		return session.Live{}, &unauthenticated
	}
	var c claims
	now := h.cfg.Now().Unix()
	if json.Unmarshal(payload, &c) != nil || c.Issuer != h.cfg.Issuer || c.Audience != h.cfg.Audience || now >= c.Expires {
		return session.Live{}, &unauthenticated
	}
	live, refusal, err := h.gate.Check(ctx, session.Nebula, o.token)
	switch {
	case err != nil:
		return session.Live{}, h.failed("a token", err)
	case refusal.No():
		return session.Live{}, refused(refusal)
	case c.Session != live.ID.String() || c.Subject != h.cfg.SubjectPrefix+string(live.User):
		h.log.Error("a token's session is not the one that it names", "session", live.ID)
		return session.Live{}, &broken
	}
	return live, nil
}
