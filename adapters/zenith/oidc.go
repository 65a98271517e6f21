package zenith

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/time/rate"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Users is what an [OIDC] asks of the gate: whose a name is.
type Users interface {
	Find(name string) (session.UserID, bool)
	Profile(user session.UserID) session.Profile
	Decoy(name string) session.UserID
	// Generation is that of the verifier that the directory holds of the user; not ok when there is no such user, or
	// when the user may not use the venue. A login that another issuer vouches for names it, so that the book can tell
	// a pod whose directory is behind.
	Generation(user session.UserID, venue session.Venue) (generation uint64, ok bool)
}

var _ Users = (*adapters.Gate)(nil)

// OIDCConfig is how an issuer of ID tokens (OpenID Connect Core 1.0) vouches for users.
type OIDCConfig struct {
	// Issuer is the issuer's URL, below which its configuration is found (OpenID Connect Discovery 1.0, 4). Required;
	// https, or http on localhost.
	Issuer string
	// ClientID is the audience that ID tokens must have, and who redeems codes. Required. ClientSecret and RedirectURL
	// go with the codes.
	ClientID, ClientSecret, RedirectURL string
	// Alias names the issuer in the directory: the user with subject 123 logs in by the name "123@Alias". Required
	// unless ByEmail. No "@".
	Alias string
	// ByEmail maps users by their e-mail address in place of the subject, if the issuer says that it has verified it.
	// Whoever controls the issuer then speaks for every such name in the directory. Default: false.
	ByEmail bool
	// MaxAge is how long after its issue an ID token is accepted, below its own expiry. Zero: 5 min; at most 9 min
	// unless Reusable, for that is how long the book surely remembers a grant that was used.
	MaxAge time.Duration
	// Reusable accepts an ID token more than once. Default: false: a second use counts like a wrong password. Clients
	// come back with the access token; for those that present the issuer's token again whenever they reconnect, set it,
	// and MaxAge to the tokens' lifetime.
	Reusable bool
	// Timeout bounds each question to the issuer. Zero: 5 s.
	Timeout time.Duration
	// Client asks the issuer; its Timeout is set from this configuration. Nil: one with http.DefaultTransport.
	Client *http.Client
	// Now is the clock that ID tokens are judged by. Nil: time.Now.
	Now func() time.Time
}

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c OIDCConfig) Validate() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())):
		return fmt.Errorf("issuer %q: write its https URL", c.Issuer)
	case c.ClientID == "":
		return errors.New("an issuer needs a client id: the audience of its ID tokens")
	case c.ByEmail == (c.Alias != "") || strings.Contains(c.Alias, "@"):
		return errors.New("an issuer needs either an alias, without @, or by-email")
	case c.MaxAge < 0 || c.Timeout < 0:
		return errors.New("an issuer's limit is negative")
	case c.MaxAge > 9*time.Minute && !c.Reusable:
		return errors.New("max age is above 9 min, but the book remembers used grants for 10: lower it, or have them reusable")
	}
	return nil
}

// OIDC is a provider whose grants are ID tokens or authorisation codes of one issuer: the text itself, or a JSON object
// with id_token, or with code and where it applies redirect_uri and code_verifier (RFC 7636). The issuer is asked at
// the first grant, not before.
type OIDC struct {
	cfg   OIDCConfig
	users Users
	keys  *http.Client // gives the issuer's documents, or errIssuer
	plain *http.Client // redeems codes

	turn   chan struct{} // held while the issuer is being discovered
	issuer *issuer       // guarded by turn; nil: not discovered yet
}

var _ Provider = (*OIDC)(nil)

// issuer is what discovery found.
type issuer struct {
	tokens *oidc.IDTokenVerifier
	codes  oauth2.Config
}

// NewOIDC makes a provider with a valid configuration; it panics on an invalid one.
func NewOIDC(cfg OIDCConfig, users Users) *OIDC {
	if err := cfg.Validate(); err != nil {
		panic("zenith: NewOIDC was given an invalid configuration: " + err.Error())
	}
	adapters.SetDefault(&cfg.MaxAge, 5*time.Minute)
	adapters.SetDefault(&cfg.Timeout, 5*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{}
	}
	o := &OIDC{cfg: cfg, users: users, turn: make(chan struct{}, 1)}
	plain := *cfg.Client
	plain.Timeout = cfg.Timeout
	plain.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a secret is on board
	keys := plain
	if keys.Transport == nil {
		keys.Transport = http.DefaultTransport
	}
	// A token with an unknown key makes the library ask for the keys anew; strangers must not wear the issuer out.
	keys.Transport = &documents{from: keys.Transport, limit: rate.NewLimiter(1, 10)}
	o.plain, o.keys = &plain, &keys
	return o
}

// Understand implements [Provider].
func (o *OIDC) Understand(ctx context.Context, grant string) (adapters.Login, error) {
	is, err := o.discovered(ctx)
	if err != nil {
		return adapters.Login{}, err
	}
	rawToken, err := o.redeem(ctx, is, grant)
	if err != nil {
		return adapters.Login{}, err
	}
	name, until, err := o.vouchedFor(ctx, is, rawToken)
	if err != nil {
		return adapters.Login{}, err
	}
	login := adapters.Login{Name: name, Until: until, Judge: func(context.Context) (session.Credential, error) { return o.judge(name), nil }}
	if !o.cfg.Reusable {
		login.Nonce = session.HashToken("zenith/id-token/" + rawToken)
	}
	return login, nil
}

// judge says whose the name is now. A name that nobody has is counted under its decoy, like at every login.
func (o *OIDC) judge(name string) session.Credential {
	user, found := o.users.Find(name)
	// The directory compares names without regard to case, but a subject's case counts (OpenID Connect Core, 2).
	if found && !o.cfg.ByEmail {
		found = slices.Contains(o.users.Profile(user).Names, name)
	}
	if found {
		if generation, ok := o.users.Generation(user, session.Zenith); ok {
			return session.Credential{User: user, Generation: generation, Verdict: session.Matched}
		}
	}
	return session.Credential{User: o.users.Decoy(name), Verdict: session.NoSuchUser}
}

// discovered gives the issuer's configuration, and asks for it until it was given once.
func (o *OIDC) discovered(ctx context.Context) (*issuer, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if o.issuer != nil {
		return o.issuer, nil
	}
	asking := oidc.ClientContext(ctx, o.keys)
	provider, err := oidc.NewProvider(asking, o.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discover the issuer: %w", err)
	}
	var found struct {
		Keys       string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Methods    []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := provider.Claims(&found); err != nil || found.Keys == "" {
		return nil, fmt.Errorf("discover the issuer: no jwks_uri: %w", errIssuer)
	}
	// Signatures by a shared secret, or none at all, are never good.
	algorithms := slices.DeleteFunc(found.Algorithms, func(a string) bool { return !slices.Contains(signatures, a) })
	if len(algorithms) == 0 {
		algorithms = []string{oidc.RS256}
	}
	// Left to find the way by trial, the library tries a code that is refused a second time, and hides the first answer.
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // what an issuer supports that names none (Discovery, 3)
	if o.cfg.ClientSecret == "" || len(found.Methods) > 0 && !slices.Contains(found.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	background := oidc.ClientContext(context.Background(), o.keys)
	o.issuer = &issuer{
		tokens: oidc.NewVerifier(o.cfg.Issuer, keySet{oidc.NewRemoteKeySet(background, found.Keys)}, &oidc.Config{
			ClientID: o.cfg.ClientID, SupportedSigningAlgs: algorithms, Now: o.cfg.Now}),
		codes: oauth2.Config{ClientID: o.cfg.ClientID, ClientSecret: o.cfg.ClientSecret, RedirectURL: o.cfg.RedirectURL, Endpoint: endpoint},
	}
	return o.issuer, nil
}

var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// oidcGrant is a grant in JSON.
type oidcGrant struct {
	IDToken  string `json:"id_token"`
	Code     string `json:"code"`
	Redirect string `json:"redirect_uri"`
	Verifier string `json:"code_verifier"`
}

// readGrant tells an ID token from a code: a signed token has three parts (RFC 7515, 7.1).
func readGrant(grant string) (g oidcGrant, ok bool) {
	grant = strings.TrimSpace(grant)
	switch {
	case strings.HasPrefix(grant, "{"):
		if json.Unmarshal([]byte(grant), &g) != nil {
			return g, false
		}
	case strings.HasPrefix(grant, "eyJ") && strings.Count(grant, ".") == 2:
		g.IDToken = grant
	default:
		g.Code = grant
	}
	return g, (g.IDToken == "") != (g.Code == "")
}

// redeem gives the ID token of a grant; a code is redeemed at the issuer's token endpoint (RFC 6749, 4.1.3).
func (o *OIDC) redeem(ctx context.Context, is *issuer, grant string) (idToken string, err error) {
	g, ok := readGrant(grant)
	if !ok {
		return "", ErrGrant
	}
	if g.IDToken != "" {
		return g.IDToken, nil
	}
	var options []oauth2.AuthCodeOption
	if g.Redirect != "" {
		options = append(options, oauth2.SetAuthURLParam("redirect_uri", g.Redirect))
	}
	if g.Verifier != "" {
		options = append(options, oauth2.VerifierOption(g.Verifier))
	}
	token, err := is.codes.Exchange(context.WithValue(ctx, oauth2.HTTPClient, o.plain), g.Code, options...)
	if answer := (*oauth2.RetrieveError)(nil); errors.As(err, &answer) {
		if answer.ErrorCode == "invalid_grant" || answer.ErrorCode == "invalid_request" {
			return "", ErrGrant
		}
		// Not the text of the answer: an issuer may repeat in it what it was sent.
		return "", fmt.Errorf("redeem a code: the issuer answered with status %d", answer.Response.StatusCode)
	}
	if err != nil {
		return "", fmt.Errorf("redeem a code: %w", errIssuer)
	}
	if idToken, _ = token.Extra("id_token").(string); idToken == "" {
		return "", fmt.Errorf("redeem a code: no id_token came for it: %w", errIssuer)
	}
	return idToken, nil
}

// vouchedFor checks an ID token (OpenID Connect Core, 3.1.3.7) and gives the name in the directory that it stands for, and
// when the token ends.
func (o *OIDC) vouchedFor(ctx context.Context, is *issuer, rawToken string) (name string, until time.Time, err error) {
	away := false
	token, err := is.tokens.Verify(context.WithValue(ctx, awayKey{}, &away), rawToken)
	if err != nil {
		if away {
			return "", until, errIssuer // the keys could not be had: the token may be good
		}
		return "", until, ErrGrant
	}
	age := o.cfg.Now().Sub(token.IssuedAt)
	if age > o.cfg.MaxAge || age < -time.Minute {
		return "", until, ErrGrant
	}
	name = token.Subject + "@" + o.cfg.Alias
	if o.cfg.ByEmail {
		var claims struct {
			Email    string `json:"email"`
			Verified any    `json:"email_verified"` // some issuers write it as a text
		}
		if token.Claims(&claims) != nil || claims.Verified != true && claims.Verified != "true" {
			return "", until, ErrGrant
		}
		name = claims.Email
	}
	if name == "" || token.Subject == "" || len(name) > maxUser {
		return "", until, ErrGrant
	}
	return name, token.Expiry, nil
}

// errIssuer says that an issuer could not be asked, or gave no sense: nothing is known of the grant.
var errIssuer = errors.New("the issuer gives no answer")

// awayKey marks the place in a context where a keySet notes that the keys could not be had.
type awayKey struct{}

// keySet tells a signature that is wrong from keys that could not be had; the library's verifier hides that.
type keySet struct{ oidc.KeySet }

func (k keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, jwt)
	if away, ok := ctx.Value(awayKey{}).(*bool); ok && err != nil {
		*away = errors.Is(err, errIssuer) || ctx.Err() != nil
	}
	return payload, err
}

// documents is a transport for the issuer's documents: 200 and JSON, or errIssuer, so that every way in which they can
// not be had is one error.
type documents struct {
	from  http.RoundTripper
	limit *rate.Limiter
}

func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	if !d.limit.Allow() {
		return nil, fmt.Errorf("%w: it has been asked too often lately", errIssuer)
	}
	answer, err := d.from.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIssuer, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIssuer, err)
	}
	if answer.StatusCode != http.StatusOK || !json.Valid(body) {
		return nil, fmt.Errorf("%w: status %d, or no JSON", errIssuer, answer.StatusCode)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}
