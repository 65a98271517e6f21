package zenith

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// testIssuer is an issuer with discovery, keys and a token endpoint (OpenID Connect Core 1.0).
type testIssuer struct {
	*httptest.Server
	t     *testing.T
	asked atomic.Int32 // for its keys

	mu    sync.Mutex
	key   *ecdsa.PrivateKey
	id    string
	away  int               // when set, the status of every answer
	codes map[string]string // code: the ID token that it is good for, once
}

func newTestIssuer(t *testing.T) *testIssuer {
	is := &testIssuer{t: t, codes: map[string]string{}}
	is.rotate("key-1")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		is.answer(w, 200, map[string]any{"issuer": is.URL, "authorization_endpoint": is.URL + "/authorize", "token_endpoint": is.URL + "/token", "jwks_uri": is.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		is.asked.Add(1)
		is.mu.Lock()
		key := jose.JSONWebKey{Key: is.key.Public(), KeyID: is.id, Algorithm: "ES256", Use: "sig"}
		is.mu.Unlock()
		is.answer(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	})
	mux.HandleFunc("POST /token", is.token)
	is.Server = httptest.NewServer(mux)
	t.Cleanup(func() { is.Server.Close(); http.DefaultTransport.(*http.Transport).CloseIdleConnections() })
	return is
}

func (is *testIssuer) answer(w http.ResponseWriter, status int, body any) {
	is.mu.Lock()
	away := is.away
	is.mu.Unlock()
	if away != 0 {
		w.WriteHeader(away)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// token redeems a code once, for the client that it is of, with the verifier that was promised (RFC 7636, 4.6).
func (is *testIssuer) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if id != "rollbook" || secret != "issuer-secret" {
		is.answer(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	is.mu.Lock()
	idToken, known := is.codes[r.PostFormValue("code")]
	delete(is.codes, r.PostFormValue("code"))
	is.mu.Unlock()
	if !known || r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != "https://app.example/back" || r.PostFormValue("code_verifier") != "proof" {
		is.answer(w, 400, map[string]string{"error": "invalid_grant"})
		return
	}
	is.answer(w, 200, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": idToken})
}

func (is *testIssuer) rotate(id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		is.t.Fatal(err)
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	is.key, is.id = key, id
}

// sign makes an ID token; change may alter its claims.
func (is *testIssuer) sign(subject string, change func(map[string]any)) string {
	is.t.Helper()
	claims := map[string]any{"iss": is.URL, "aud": "rollbook", "sub": subject, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "jti": rand.Text()}
	if change != nil {
		change(claims)
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: is.key, KeyID: is.id}}, nil)
	if err != nil {
		is.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		is.t.Fatal(err)
	}
	return text
}

// config is how the issuer is used.
func (is *testIssuer) config() OIDCConfig {
	return OIDCConfig{Issuer: is.URL, ClientID: "rollbook", ClientSecret: "issuer-secret", RedirectURL: "https://app.example/back", Alias: "corp"}
}

// users is a directory of two names.
type users struct{ allowed bool }

func (u users) Find(name string) (session.UserID, bool) {
	switch strings.ToLower(name) {
	case "0042@corp", "ab@corp", "jane@example.com":
		return "u-jane", true
	}
	return "", false
}
func (users) Profile(user session.UserID) session.Profile {
	return session.Profile{User: user, Names: []string{"0042@corp", "aB@corp", "Jane@example.com"}}
}
func (users) Decoy(string) session.UserID { return "u-decoy" }
func (u users) Generation(session.UserID, session.Venue) (uint64, bool) {
	return 7, u.allowed
}

func understood(t *testing.T, o *OIDC, grant string) (adapters.Login, session.Credential, error) {
	t.Helper()
	l, err := o.Understand(t.Context(), grant)
	if err != nil {
		return l, session.Credential{}, err
	}
	c, err := l.Judge(t.Context())
	return l, c, err
}

func TestIDTokens(t *testing.T) {
	is := newTestIssuer(t)
	o := NewOIDC(is.config(), users{true})
	good := session.Credential{User: "u-jane", Generation: 7, Verdict: session.Matched}
	nobody := session.Credential{User: "u-decoy", Verdict: session.NoSuchUser}
	ends := time.Unix(time.Now().Add(17*time.Minute).Unix(), 0)
	for subject, want := range map[string]session.Credential{"0042": good, "aB": good, "AB": nobody, "0043": nobody} {
		l, c, err := understood(t, o, is.sign(subject, func(c map[string]any) { c["exp"] = ends.Unix() }))
		if err != nil || c != want || l.Name != subject+"@corp" || l.Nonce == (session.TokenHash{}) || !l.Until.Equal(ends) {
			t.Errorf("%s: %+v until %s, %v", subject, c, l.Until, err)
		}
	}
	if _, c, err := understood(t, NewOIDC(is.config(), users{false}), is.sign("0042", nil)); err != nil || c != nobody {
		t.Errorf("who may not use the venue: %+v, %v", c, err)
	}
	if _, c, err := understood(t, o, `{"id_token":"`+is.sign("0042", nil)+`"}`); err != nil || c != good {
		t.Errorf("in JSON: %+v, %v", c, err)
	}
	token := is.sign("0042", nil)
	parts := strings.Split(token, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	sealed, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("rollbook", 8))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := jwt.Signed(sealed).Claims(map[string]any{"iss": is.URL, "aud": "rollbook", "sub": "0042", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	other := newTestIssuer(t)
	for name, grant := range map[string]string{
		"cut": token[:len(token)-8], "unsigned": unsigned, "shared secret": shared, "another payload": parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"0042"}`)) + "." + parts[2],
		"another issuer": other.sign("0042", nil), "another's key": other.sign("0042", func(c map[string]any) { c["iss"] = is.URL }),
		"another audience": is.sign("0042", func(c map[string]any) { c["aud"] = "else" }), "expired": is.sign("0042", func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }),
		"old":             is.sign("0042", func(c map[string]any) { c["iat"] = time.Now().Add(-6 * time.Minute).Unix() }),
		"of tomorrow":     is.sign("0042", func(c map[string]any) { c["iat"] = time.Now().Add(24 * time.Hour).Unix() }),
		"without subject": is.sign("", nil), "not a token": "eyJx.y.z", "JSON of neither": `{}`, "JSON of both": `{"id_token":"a","code":"b"}`, "broken JSON": `{"code":`, "nothing": "",
	} {
		if _, c, err := understood(t, o, grant); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	is := newTestIssuer(t)
	o := NewOIDC(is.config(), users{true})
	for _, key := range []string{"key-1", "key-2"} {
		is.rotate(key)
		// The library may still hand out the keys before these for an instant.
		eventually(t, key, func() bool { _, _, err := understood(t, o, is.sign("0042", nil)); return err == nil })
		for range 3 {
			if _, _, err := understood(t, o, is.sign("0042", nil)); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	if n := is.asked.Load(); n != 2 {
		t.Errorf("the keys were asked for %d times", n)
	}
	// Tokens with keys that nobody has must not wear the issuer out; then nobody knows whether they are good.
	other := newTestIssuer(t)
	unknown := 0
	present := func() bool {
		other.rotate(rand.Text())
		_, _, err := understood(t, o, other.sign("0042", func(c map[string]any) { c["iss"] = is.URL }))
		if errors.Is(err, errIssuer) {
			unknown++
		} else if !errors.Is(err, ErrGrant) {
			t.Fatal(err)
		}
		return unknown > 0
	}
	for range 30 {
		present()
	}
	eventually(t, "the issuer is spared", present) // the library may hand out the keys of its last question for an instant
	if n := is.asked.Load(); n > 20 {
		t.Errorf("the keys were asked for %d times; %d unknown", n, unknown)
	}
	if _, _, err := understood(t, o, is.sign("0042", nil)); err != nil {
		t.Errorf("a good token meanwhile: %v", err)
	}
}

func TestEMailNames(t *testing.T) {
	is := newTestIssuer(t)
	cfg := is.config()
	cfg.Alias, cfg.ByEmail = "", true
	o := NewOIDC(cfg, users{true})
	for verified, ok := range map[any]bool{true: true, "true": true, false: false, "false": false, nil: false, 1: false} {
		l, c, err := understood(t, o, is.sign("x", func(c map[string]any) { c["email"], c["email_verified"] = "jane@example.com", verified }))
		if (err == nil) != ok || ok && (l.Name != "jane@example.com" || c.Verdict != session.Matched) || !ok && !errors.Is(err, ErrGrant) {
			t.Errorf("verified %v: %+v, %v", verified, c, err)
		}
	}
}

func TestCodes(t *testing.T) {
	is := newTestIssuer(t)
	o := NewOIDC(is.config(), users{true})
	put := func(code string) string {
		is.mu.Lock()
		defer is.mu.Unlock()
		is.codes[code] = "pending"
		return code
	}
	fill := func(code string) {
		token := is.sign("0042", nil)
		is.mu.Lock()
		defer is.mu.Unlock()
		is.codes[code] = token
	}
	if _, _, err := understood(t, o, "never issued"); !errors.Is(err, ErrGrant) {
		t.Errorf("a code that nobody issued: %v", err)
	}
	fill(put("one"))
	grant := `{"code":"one","code_verifier":"proof"}`
	if _, c, err := understood(t, o, grant); err != nil || c.Verdict != session.Matched {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, _, err := understood(t, o, grant); !errors.Is(err, ErrGrant) {
		t.Errorf("a second time: %v", err)
	}
	fill(put("two"))
	if _, _, err := understood(t, o, "two"); !errors.Is(err, ErrGrant) {
		t.Errorf("without its verifier: %v", err)
	}
	fill(put("three"))
	if _, _, err := understood(t, o, `{"code":"three","code_verifier":"proof","redirect_uri":"https://evil.example"}`); !errors.Is(err, ErrGrant) {
		t.Errorf("with another redirect: %v", err)
	}
	cfg := is.config()
	cfg.ClientSecret = "wrong"
	if _, _, err := understood(t, NewOIDC(cfg, users{true}), grant); err == nil || errors.Is(err, ErrGrant) || strings.Contains(err.Error(), "one") {
		t.Errorf("when this service is not known to the issuer: %v", err)
	}
}

// An issuer that is away is no reason to refuse anybody.
func TestIssuerAway(t *testing.T) {
	is := newTestIssuer(t)
	is.away = 503
	o := NewOIDC(is.config(), users{true})
	away := func(what, grant string) {
		t.Helper()
		if _, _, err := understood(t, o, grant); err == nil || errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", what, err)
		}
	}
	set := func(status int) { is.mu.Lock(); is.away = status; is.mu.Unlock() }
	token := is.sign("0042", nil)
	away("not discovered", token)
	set(0)
	if _, err := o.discovered(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{500, 404, 204} {
		set(status)
		away("no keys", token)
	}
	away("no token endpoint", "code")
	set(0)
	// The library may still hand out the failure before this for an instant.
	eventually(t, "it is back", func() bool { _, _, err := understood(t, o, token); return err == nil })
	is.Server.Close()
	away("gone", "code")
	if _, _, err := understood(t, o, token); err != nil {
		t.Errorf("the keys are known: %v", err)
	}
}

func TestOIDCConfig(t *testing.T) {
	good := OIDCConfig{Issuer: "https://id.example", ClientID: "rollbook", Alias: "corp"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for i, broken := range []func(*OIDCConfig){func(c *OIDCConfig) { c.Issuer = "http://id.example" }, func(c *OIDCConfig) { c.Issuer = "id.example" }, func(c *OIDCConfig) { c.ClientID = "" },
		func(c *OIDCConfig) { c.Alias = "" }, func(c *OIDCConfig) { c.Alias = "a@b" }, func(c *OIDCConfig) { c.ByEmail = true }, func(c *OIDCConfig) { c.MaxAge = 10 * time.Minute }, func(c *OIDCConfig) { c.Timeout = -1 }} {
		c := good
		if broken(&c); c.Validate() == nil {
			t.Errorf("configuration %d is taken", i)
		}
	}
}
