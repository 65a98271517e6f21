package nebula

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// provider is an OpenID Connect provider of the test: discovery and keys.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	keys     map[string]*rsa.PrivateKey // guarded by mu
	away     bool                       // guarded by mu
	keysAt   string                     // guarded by mu: what the discovery says; empty: here
	fetches  int                        // guarded by mu: of the keys
	audience any
}

func newProvider(t *testing.T) *provider {
	p := &provider{keys: map[string]*rsa.PrivateKey{"one": spareKeys()[1]}, audience: "exberry-trading"}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.away:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/openid-configuration":
			at := p.keysAt
			if at == "" {
				at = p.URL + "/jwks"
			}
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"id_token_signing_alg_values_supported":["RS256","HS256"]}`, p.URL+"/", at)
		case r.URL.Path == "/jwks":
			p.fetches++
			set := jose.JSONWebKeySet{}
			for kid, key := range p.keys {
				set.Keys = append(set.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid, Use: "sig", Algorithm: "RS256"})
			}
			_ = json.NewEncoder(w).Encode(set)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// issue makes a token with fields changed in the header and the payload.
func (p *provider) issue(d *desk, header, payload []any) string {
	now := d.clock.now().Unix()
	h := with(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "one"}, header...)
	c := with(map[string]any{"iss": p.URL + "/", "sub": "auth0|jane", "aud": p.audience, "iat": now, "exp": now + 3600,
		"email": jane, "email_verified": true, "azp": "some client"}, payload...)
	return forge(spareKeys()[1], h, c)
}

const (
	created         = `{"sig":1,"q":"v1/broker.oms/createSession","sid":1}`
	notCreated      = `{"sig":2,"q":"v1/broker.oms/createSession","errorType":"401","sid":1,"d":{"errorCode":6000,"errorMessage":"Authentication failed"}}`
	cannotBeCreated = `{"sig":2,"q":"v1/broker.oms/createSession","errorType":"503","sid":1,"d":{"errorCode":1,"errorMessage":"System is unavailable"}}`
)

// TestIssuer: tokens of a configured issuer open a session that ends with the socket; those for others, of others, that
// expired or say something else do not, and nor do those of people whom the directory does not have.
func TestIssuer(t *testing.T) {
	p := newProvider(t)
	for _, byEmail := range []bool{false, true} {
		d := serve(t, Config{Issuers: []Issuer{{URL: p.URL + "/", Audience: "exberry-trading", Alias: "corp", ByEmail: byEmail}}, MessageRate: 1000})
		conn := dial(t, d.Server, "/")
		for what, changes := range map[string][2][]any{
			"another audience": {nil, {"aud", "someone else"}}, "no audience": {nil, {"aud", nil}}, "another issuer": {nil, {"iss", "https://evil.example/"}},
			"no slash": {nil, {"iss", p.URL}}, "expired": {nil, {"exp", d.clock.now().Unix()}}, "no expiry": {nil, {"exp", nil}}, "not yet": {nil, {"nbf", d.clock.now().Unix() + 3600}},
			"a logout": {{"typ", "logout+jwt"}, nil}, "no type": {{"typ", nil}, nil}, "no kid": {{"kid", nil}, nil}, "an unknown kid": {{"kid", "two"}, nil},
			"another algorithm": {{"alg", "HS256"}, nil}, "unsigned": {{"alg", "none"}, nil}, "a key of its own": {{"kid", "x", "jku", p.URL + "/jwks"}, nil},
			"nobody here": {nil, {"sub", "auth0|eve", "email", "eve@example.com"}}, "nobody": {nil, {"sub", "", "email", ""}},
			"a critical field": {{"crit", []string{"x"}, "x", 1}, nil},
		} {
			send(t, conn, createFrame(p.issue(d, changes[0], changes[1]), 1))
			if got := receive(t, conn); got != notCreated {
				t.Errorf("%s: %s", what, got)
			}
		}
		if byEmail {
			for _, verified := range []any{nil, false, "true", 1} {
				asks(t, conn, createFrame(p.issue(d, nil, []any{"email_verified", verified}), 1), notCreated)
			}
		}
		if d.gate.sessions() != 0 {
			t.Fatalf("%d sessions", d.gate.sessions())
		}
		asks(t, conn, createFrame(p.issue(d, nil, nil), 1), created)
		asks(t, conn, createFrame(p.issue(d, []any{"typ", "at+jwt"}, []any{"aud", []string{"x", "exberry-trading"}}), 1), created)
		eventually(t, "the second takes the place of the first", func() bool { return d.gate.sessions() == 1 })
		conn.Close()
		eventually(t, "the session ends with its socket", func() bool { return d.gate.sessions() == 0 })
		// An external token is good for createSession alone.
		if response, body := request(t, d.Server, "GET", "/trader-api/x", "", "Authorization", "Bearer "+p.issue(d, nil, nil)); response.StatusCode != 401 {
			t.Errorf("as a bearer: %d %s", response.StatusCode, body)
		}
	}
	if p.fetches > 4 {
		t.Errorf("%d fetches", p.fetches)
	}
}

// TestIssuerIsAway: what cannot be verified is "unavailable"; our own tokens do not mind; keys that were fetched stay.
func TestIssuerIsAway(t *testing.T) {
	p := newProvider(t)
	p.away = true
	d := serve(t, Config{Issuers: []Issuer{{URL: p.URL + "/", Audience: "exberry-trading", Alias: "corp"}}})
	i := d.h.issuers[p.URL+"/"]
	rested := func() { i.mu.Lock(); i.tried = i.tried.Add(-issuerRest); i.mu.Unlock() }
	conn := dial(t, d.Server, "/")
	asks(t, conn, createFrame(p.issue(d, nil, nil), 1), cannotBeCreated)
	asks(t, conn, createFrame(p.issue(d, nil, nil), 1), cannotBeCreated)
	asks(t, conn, createFrame(d.token(t), 1), created)
	p.set(func() { p.away, p.keysAt = false, "http://keys.example/jwks" })
	rested()
	asks(t, conn, createFrame(p.issue(d, nil, nil), 1), cannotBeCreated) // keys that do not come over TLS
	p.set(func() { p.keysAt = "" })
	rested()
	asks(t, conn, createFrame(p.issue(d, nil, nil), 1), created)
	p.set(func() { p.away = true })
	rested()
	i.mu.Lock()
	i.fetched = i.fetched.Add(-issuerMaxAge)
	i.mu.Unlock()
	asks(t, conn, createFrame(p.issue(d, nil, nil), 1), created)
	p.set(func() { p.away, p.keys["two"] = false, spareKeys()[1] })
	rested()
	asks(t, conn, createFrame(p.issue(d, []any{"kid", "two"}, nil), 1), created)
	before := p.fetches
	for n := range 20 {
		asks(t, conn, createFrame(p.issue(d, []any{"kid", fmt.Sprint("made up ", n)}, nil), 1), notCreated)
	}
	if p.fetches != before {
		t.Errorf("%d fetches for made-up keys", p.fetches-before)
	}
}
