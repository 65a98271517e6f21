package nebula

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// The qualifiers that are served.
const (
	nebulaCreate   = "v1/broker.oms/createSession"
	exchangeCreate = "exchange.market/createSession"
	heartbeat      = "v1/heartbeat/ping"
)

// presented is what a createSession presents: by its first field that is there, a token, an API key or a password.
type presented struct {
	token              string
	apiKey, at         string // at: the timestamp's digits, as they were signed
	signature          string // hex
	username, password string
	origin             session.Origin
}

// decodePresented reads the body of a createSession. The exchange's has two forms more than that of Nebula.
func decodePresented(body json.RawMessage, exchange bool) (p presented, _ *fault) {
	m := object{}
	if body != nil {
		var ok bool
		if m, ok = decodeObject(body); !ok {
			return p, &undecodable
		}
	}
	at, _, ok := m.digits("timestamp")
	if !ok && exchange {
		return p, &undecodable
	}
	p.at = at
	for name, field := range map[string]*string{"token": &p.token, "apiKey": &p.apiKey, "signature": &p.signature,
		"username": &p.username, "password": &p.password} {
		if name != "token" && !exchange {
			continue
		}
		if *field, ok = m.text(name); !ok {
			return p, &undecodable
		}
	}
	switch {
	case p.token != "":
	case !exchange:
		return p, missing("token")
	case p.apiKey == "" && (p.username != "" || p.password != ""):
		return p, firstMissing([]string{"username", "password"}, p.username, p.password)
	default:
		return p, firstMissing([]string{"apiKey", "timestamp", "signature"}, p.apiKey, p.at, p.signature)
	}
	return p, nil
}

func firstMissing(names []string, values ...string) *fault {
	for n, value := range values {
		if value == "" {
			return missing(names[n])
		}
	}
	return nil
}

// opened is a session that a createSession leads to.
type opened struct {
	id session.SessionID
	// own is set when the session was opened for the socket: it ends with it. Nil: it is the token's.
	own *session.Session
}

// create finds or opens the session.
func (h *Handler) create(ctx context.Context, p presented) (opened, *fault) {
	switch {
	case p.token != "":
		o, ok := outlineOf(p.token)
		if !ok {
			return opened{}, &unauthenticated
		}
		if other := h.issuers[o.issuer]; other != nil {
			return h.createByIssuer(ctx, other, o, p.origin)
		}
		if o.issuer != h.cfg.Issuer {
			return opened{}, &unauthenticated
		}
		live, fault := h.checkToken(ctx, o)
		return opened{id: live.ID}, fault
	case p.apiKey != "":
		return h.createByKey(ctx, p)
	case len(p.username) > maxName || len(p.password) > maxPassword:
		return opened{}, &unauthenticated
	}
	return h.open(ctx, adapters.Login{Name: p.username, Password: p.password, Origin: p.origin})
}

// open opens a session that is bound to the socket. Its token is thrown away: the socket is all that it is good for.
func (h *Handler) open(ctx context.Context, r adapters.Login) (opened, *fault) {
	r.Venue, r.Bound, r.Form = session.Nebula, true, adapters.URLSafe
	grant, refusal, err := h.gate.Login(ctx, r)
	if err != nil {
		return opened{}, h.failed("a login", err)
	}
	if refusal.No() {
		return opened{}, refused(refusal)
	}
	return opened{id: grant.Session.ID, own: &grant.Session}, nil
}

// createByIssuer opens a session for the user that another issuer's token names.
func (h *Handler) createByIssuer(ctx context.Context, i *issuer, o outline, origin session.Origin) (opened, *fault) {
	name, until, err := i.name(ctx, o)
	switch {
	case err != nil:
		return opened{}, h.failed("an issuer's keys", err)
	case name == "" || len(name) > maxName:
		return opened{}, &unauthenticated
	}
	return h.open(ctx, adapters.Login{Name: name, Until: until, Origin: origin, Judge: func(context.Context) (session.Credential, error) {
		if user, ok := h.gate.Find(name); ok {
			if generation, ok := h.gate.Generation(user, session.Nebula); ok {
				return session.Credential{User: user, Generation: generation, Verdict: session.Matched}, nil
			}
		}
		return session.Credential{User: h.gate.Decoy(name), Verdict: session.NoSuchUser}, nil
	}})
}

// createByKey opens a session for whoever has signed the time with an API key. The key is found by the name that the
// client calls it: one of the user's login names.
func (h *Handler) createByKey(ctx context.Context, p presented) (opened, *fault) {
	millis, err := strconv.ParseInt(p.at, 10, 64)
	if err != nil || h.cfg.Now().Sub(time.UnixMilli(millis)).Abs() > h.cfg.TimestampWindow {
		return opened{}, &badTime
	}
	if len(p.apiKey) > maxName {
		return opened{}, &unauthenticated
	}
	r := adapters.Login{Name: p.apiKey, Origin: p.origin, Judge: func(context.Context) (session.Credential, error) { return h.judgeKey(p), nil }}
	if !h.cfg.ReusableSignatures {
		// What is signed is the key's name and the time, so these two are what may be used once.
		r.Nonce = session.HashToken("nebula/nonce/v1\x00" + p.apiKey + "\x00" + strconv.FormatInt(millis, 10))
	}
	return h.open(ctx, r)
}

// judgeKey checks the signature. For a name that has no key it computes one all the same, with a key that nobody has.
func (h *Handler) judgeKey(p presented) session.Credential {
	dummy := hmac.New(sha256.New, h.dummy[:])
	dummy.Write([]byte(p.apiKey))
	// A decoy is made, and a key asked for, whoever has the name: what either costs would tell.
	decoy := h.gate.Decoy(p.apiKey)
	key, c := dummy.Sum(nil)[:16], session.Credential{User: decoy, Verdict: session.NoSuchUser}
	user, known := h.gate.Find(p.apiKey)
	if !known {
		user = decoy
	}
	if theirs, generation, ok := h.gate.Key(user, session.Nebula); known && ok {
		key, c = theirs, session.Credential{User: user, Generation: generation, Verdict: session.Mismatched}
	}
	if !h.cfg.RawSecrets {
		key = []byte(hex.EncodeToString(key))
	}
	given, err := hex.DecodeString(p.signature)
	matches := hmac.Equal(given, signature(key, p.apiKey, p.at)) && err == nil
	if matches && c.Verdict == session.Mismatched {
		c.Verdict = session.Matched
	}
	return c
}

// signature is what a client signs its call with: HMAC-SHA-256 over the two fields as they stand in its JSON, the time
// in quotes whether it was sent so or not.
func signature(secret []byte, apiKey, timestamp string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(`"apiKey":"` + apiKey + `","timestamp":"` + timestamp + `"`))
	return mac.Sum(nil)
}
