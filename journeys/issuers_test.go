package journeys

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer is an OpenID Connect provider: discovery, keys, and a token endpoint where each code is good once.
type issuer struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey

	mu    sync.Mutex
	codes map[string]string // guarded by mu: by code, the ID token
}

const (
	clientSecret = "the-secret-of-the-client-rollbook"
	redirect     = "https://app.example.com/back"
	verifier     = "a code verifier of forty-three characters or more"
)

func newIssuer(t *testing.T) *issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	is := &issuer{t: t, key: key, codes: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		is.answer(w, http.StatusOK, map[string]any{"issuer": is.url(), "authorization_endpoint": is.URL + "/authorize", "token_endpoint": is.URL + "/token",
			"jwks_uri": is.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		is.answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", is.redeem)
	is.Server = httptest.NewServer(mux)
	t.Cleanup(is.Close)
	return is
}

// url is the issuer's name. It ends in a slash, as Auth0's do.
func (is *issuer) url() string { return is.URL + "/" }

func (is *issuer) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone is the test's to notice
}

// redeem gives the ID token of a code to the client that it was issued to (RFC 6749, 4.1.3; RFC 7636, 4.6).
func (is *issuer) redeem(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	is.mu.Lock()
	defer is.mu.Unlock()
	code := r.PostFormValue("code")
	token, known := is.codes[code]
	switch {
	case id != "rollbook" || secret != clientSecret:
		is.answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
	case !known || r.PostFormValue("redirect_uri") != redirect || r.PostFormValue("code_verifier") != verifier:
		is.answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
	default:
		delete(is.codes, code)
		is.answer(w, http.StatusOK, map[string]any{"access_token": "unused", "token_type": "Bearer", "expires_in": 60, "id_token": token})
	}
}

// token is signed for a subject; the audience says which venue it is for.
func (is *issuer) token(subject, audience string, lives time.Duration) string {
	is.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: is.key, KeyID: "one"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		is.t.Fatal(err)
	}
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(map[string]any{"iss": is.url(), "sub": subject, "aud": audience, "jti": rand.Text(),
		"iat": now.Add(-time.Second).Unix(), "exp": now.Add(lives).Unix()}).Serialize()
	if err != nil {
		is.t.Fatal(err)
	}
	return text
}

// code is issued for a subject.
func (is *issuer) code(subject string) string {
	token := is.token(subject, "rollbook", time.Hour)
	is.mu.Lock()
	defer is.mu.Unlock()
	code := rand.Text()
	is.codes[code] = token
	return code
}

// configured writes the configuration file that has both venues trust the issuer.
func (is *issuer) configured() (path string) {
	is.t.Helper()
	dir := is.t.TempDir()
	secret := filepath.Join(dir, "client-secret")
	path = filepath.Join(dir, "rollbook.toml")
	text := fmt.Sprintf(`
[zenith]
issuers = ["%s provider=Corp client=rollbook alias=corp secret-file=%s redirect=%s"]

[nebula]
issuers = ["%s audience=exberry-trading alias=corp"]
`, is.url(), secret, redirect, is.url())
	for file, content := range map[string]string{secret: clientSecret + "\n", path: text} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			is.t.Fatal(err)
		}
	}
	return path
}

// TestIssuers: users come with what another issuer gave them, at two pods that a configuration file tells of it. The
// directory knows them by their subject there.
func TestIssuers(t *testing.T) {
	is := newIssuer(t)
	in := newInstance(t, "--config", is.configured())
	in.start()
	in.run("0042-has-a-long-password\n", "user", "add", "0042@corp")
	other := in.second("--config", is.configured())

	t.Run("zenith, ID token", func(t *testing.T) {
		token := is.token("0042", "rollbook", time.Hour)
		p := granted(t, in.at(zenithDoor), token)
		if o, err := zenithDoor.check(other.at(zenithDoor), p); o != yes || err != nil {
			t.Errorf("the access token at the other process: %s, %v", o, err)
		}
		for where, at := range map[string]string{"here": in.at(zenithDoor), "at the other process": other.at(zenithDoor)} {
			if _, o, said, err := zenithGrant(at, token); o != no || err != nil {
				t.Errorf("the ID token a second time %s: %s, %v: %s", where, o, err, said)
			}
		}
	})
	t.Run("zenith, code", func(t *testing.T) {
		text, _ := json.Marshal(message{"code": is.code("0042"), "code_verifier": verifier})
		p := granted(t, other.at(zenithDoor), string(text))
		if o, err := zenithDoor.check(in.at(zenithDoor), p); o != yes || err != nil {
			t.Errorf("the access token at the first process: %s, %v", o, err)
		}
		if _, o, said, err := zenithGrant(in.at(zenithDoor), string(text)); o != no || err != nil {
			t.Errorf("the code a second time: %s, %v: %s", o, err, said)
		}
		if _, o, said, err := zenithGrant(in.at(zenithDoor), is.code("0042")); o != no || err != nil {
			t.Errorf("a code without its verifier: %s, %v: %s", o, err, said)
		}
	})
	t.Run("zenith, refused", func(t *testing.T) { refusedGrants(t, is, in.at(zenithDoor)) })
	t.Run("nebula", func(t *testing.T) { nebulaIssuer(t, is, in, other) })

	// An issuer that is away is no reason to call anything invalid; keys that are known stay good.
	code, token := is.code("0042"), is.token("0042", "rollbook", time.Hour)
	is.Close()
	if _, o, said, err := zenithGrant(in.at(zenithDoor), code); o != unavailable || err != nil {
		t.Errorf("a code while the issuer is away: %s, %v: %s", o, err, said)
	}
	granted(t, in.at(zenithDoor), token)
	in.stop()
}

// zenithGrant logs in with what the issuer gave.
func zenithGrant(at, grant string) (pass, outcome, string, error) {
	return zenithAuth(at, message{"Controller": "Auth", "Topic": "AuthCode", "TransactionID": 1,
		"Data": message{"Provider": "Corp", "ClientID": "journey", "AuthGrant": grant}})
}

func granted(t *testing.T, at, grant string) pass {
	t.Helper()
	p, o, said, err := zenithGrant(at, grant)
	if o != yes || err != nil {
		t.Fatalf("login by the issuer: %s, %v: %s", o, err, said)
	}
	t.Cleanup(func() { p.socket.conn.CloseNow() })
	return p
}

// refusedGrants are the same reply, whatever is wrong with them.
func refusedGrants(t *testing.T, is *issuer, at string) {
	good := is.token("0042", "rollbook", time.Hour)
	last := ""
	for what, grant := range map[string]string{
		"a stranger": is.token("0043", "rollbook", time.Hour), "another audience": is.token("0042", "exberry-trading", time.Hour),
		"an old token": is.token("0042", "rollbook", -time.Minute), "a changed token": good[:len(good)-6] + "AAAAAA", "a code of nobody": rand.Text(),
	} {
		_, o, said, err := zenithGrant(at, grant)
		if o != no || err != nil {
			t.Errorf("%s: %s, %v: %s", what, o, err, said)
		}
		if last != "" && said != last {
			t.Errorf("%s is told by the reply:\n%s\n%s", what, said, last)
		}
		last = said
	}
}

// nebulaIssuer opens sessions with the issuer's tokens. They end with their sockets.
func nebulaIssuer(t *testing.T, is *issuer, in, other *instance) {
	create := func(at, token string) (*socket, outcome) {
		t.Helper()
		s, err := connect(at+"/", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.conn.CloseNow() })
		m, err := s.round(message{"q": "v1/broker.oms/createSession", "sid": 15, "d": message{"token": token}})
		switch {
		case err != nil:
			t.Fatal(err)
		case m["sig"] == 1.0:
			return s, yes
		case m.object("d")["errorCode"] == 1.0:
			return s, unavailable
		}
		return s, no
	}
	venue := func() (n int) {
		for _, l := range in.sessionsOf("0042@corp") {
			if l.Venue == "nebula" {
				n++
			}
		}
		return n
	}
	good := is.token("0042", "exberry-trading", time.Hour)
	var open []*socket
	for _, at := range []string{in.at(nebulaDoor), other.at(nebulaDoor)} {
		s, o := create(at, good)
		if o != yes {
			t.Fatalf("createSession with the issuer's token: %s", s.said)
		}
		open = append(open, s)
	}
	if n := venue(); n != 2 {
		t.Errorf("there are %d sessions", n)
	}
	last := ""
	for what, token := range map[string]string{
		"a stranger": is.token("0043", "exberry-trading", time.Hour), "another audience": is.token("0042", "rollbook", time.Hour),
		"an old token": is.token("0042", "exberry-trading", -time.Minute), "a changed token": good[:len(good)-6] + "AAAAAA",
	} {
		s, o := create(in.at(nebulaDoor), token)
		if o != no {
			t.Errorf("%s: %s", what, s.said)
		}
		if last != "" && s.said != last {
			t.Errorf("%s is told by the reply:\n%s\n%s", what, s.said, last)
		}
		last = s.said
	}
	for _, s := range open {
		s.conn.CloseNow()
	}
	for deadline := time.Now().Add(time.Minute); venue() > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the sessions of closed sockets do not end")
		}
	}
}
