package nebula

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	issuerTimeout = 5 * time.Second  // of fetching a document
	issuerRest    = 10 * time.Second // between two attempts to fetch the keys
	issuerMaxAge  = 10 * time.Minute // of keys before they are fetched again
	issuerMaxSize = 1 << 20          // of a document, in bytes
)

// issuer verifies the tokens of another issuer. Its keys are fetched when a token needs them: an issuer that is away
// keeps nobody else from logging in.
type issuer struct {
	cfg    Issuer
	now    func() time.Time
	client *http.Client

	fetching sync.Mutex // held while the keys are fetched; those who wait share what comes

	mu      sync.RWMutex
	keys    map[string]*rsa.PublicKey // guarded by mu: by key id
	fetched time.Time                 // guarded by mu: when they were; zero: never
	tried   time.Time                 // guarded by mu: when that was tried last
	err     error                     // guarded by mu: what came of it
}

func newIssuer(cfg Issuer, now func() time.Time) *issuer {
	return &issuer{cfg: cfg, now: now, client: &http.Client{
		Timeout:       issuerTimeout,
		Transport:     bounded{&http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// bounded cuts documents off that are larger than any issuer's.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, issuerMaxSize), response.Body}
	}
	return response, err
}

// tokenTypes are those of tokens that say who calls (RFC 7519, 5.1; RFC 9068, 2.1). Others, such as logout+jwt, are
// signed by the same keys and say something else.
var tokenTypes = []string{"JWT", "AT+JWT", "APPLICATION/AT+JWT"}

// name verifies a token and gives the name that the directory knows its subject by, and when the token ends; empty when
// the token is not good. An error means that this is not known, because the issuer's keys are not.
func (i *issuer) name(ctx context.Context, o outline) (name string, until time.Time, err error) {
	if !slices.Contains(tokenTypes, strings.ToUpper(o.header.typ)) || len(o.header.kid) > 256 || !o.begun(i.now()) {
		return "", until, nil
	}
	key, err := i.key(ctx, o.header.kid)
	if err != nil || key == nil {
		return "", until, err
	}
	verifier := oidc.NewVerifier(i.cfg.URL, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key}}, &oidc.Config{
		ClientID: i.cfg.Audience, SupportedSigningAlgs: []string{oidc.RS256}, Now: i.now})
	token, err := verifier.Verify(ctx, o.token)
	if err != nil || !i.now().Before(token.Expiry) {
		return "", until, nil
	}
	var c struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	switch {
	case !i.cfg.ByEmail && token.Subject != "":
		return token.Subject + "@" + i.cfg.Alias, token.Expiry, nil
	case i.cfg.ByEmail && token.Claims(&c) == nil && c.Verified:
		return c.Email, token.Expiry, nil
	}
	return "", until, nil
}

// key finds the issuer's key; nil when it has none by that id. Keys that are old are used while no newer ones come. An
// id that is not known is looked for at the issuer, but not again within [issuerRest] of the last time: issuers show
// their keys well before they use them, and tokens with made-up ids must not become a flood of requests there.
func (i *issuer) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	if key, fresh, _ := i.have(kid); key != nil && fresh {
		return key, nil
	}
	i.fetching.Lock()
	defer i.fetching.Unlock()
	i.mu.RLock()
	due := time.Since(i.tried) >= issuerRest
	i.mu.RUnlock()
	if due {
		keys, err := i.fetch(ctx)
		i.mu.Lock()
		if i.tried, i.err = time.Now(), err; err == nil {
			i.keys, i.fetched = keys, i.tried
		}
		i.mu.Unlock()
	}
	key, _, err := i.have(kid)
	if key != nil {
		return key, nil
	}
	return nil, err
}

// have finds a key among those fetched, and says whether they are new enough; the error is that of the last attempt.
func (i *issuer) have(kid string) (key *rsa.PublicKey, fresh bool, err error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.keys[kid], time.Since(i.fetched) < issuerMaxAge, i.err
}

// fetch reads the issuer's discovery document, and its keys where that says.
func (i *issuer) fetch(ctx context.Context) (map[string]*rsa.PublicKey, error) {
	// Whose token caused it may go away; the others still wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issuerTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client), i.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("discover the issuer %s: %.300s", i.cfg.URL, err.Error()) // it quotes what the issuer said
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, fmt.Errorf("discover the issuer %s: %w", i.cfg.URL, err)
	}
	at, err := url.Parse(document.Keys)
	if err != nil || !fetchable(at) || at.Scheme == "http" && !strings.HasPrefix(i.cfg.URL, "http:") {
		return nil, fmt.Errorf("the issuer %s names no place for its keys that is safe", i.cfg.URL)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("fetch the keys of %s: %w", i.cfg.URL, err)
	}
	response, err := i.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch the keys of %s: %w", i.cfg.URL, err)
	}
	defer response.Body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch the keys of %s: status %d", i.cfg.URL, response.StatusCode)
	}
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil {
		return nil, fmt.Errorf("fetch the keys of %s: %w", i.cfg.URL, errors.New("they are no JWK Set"))
	}
	return rsaKeys(set.Keys), nil
}

// rsaKeys takes the keys that can verify RS256 signatures. The others are no failure (RFC 7517, 5).
func rsaKeys(set []json.RawMessage) map[string]*rsa.PublicKey {
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(raw) != nil || jwk.Use == "enc" || jwk.Algorithm != "" && jwk.Algorithm != string(jose.RS256) {
			continue
		}
		if public, ok := jwk.Key.(*rsa.PublicKey); ok && jwk.KeyID != "" && public.N.BitLen() >= 2048 && public.N.BitLen() <= 8192 {
			keys[jwk.KeyID] = public
		}
	}
	return keys
}
