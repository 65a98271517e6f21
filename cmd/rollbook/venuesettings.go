package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rollbook/adapters/advauth"
	"rollbook/adapters/nebula"
	"rollbook/adapters/traderevolution"
	"rollbook/adapters/zenith"
	"rollbook/engine/session"
)

// venueSettings say which venues are served and how; what is not here is as the venue's DefaultConfig has it. Genesis,
// which came first, has its settings in settings.go.
type venueSettings struct {
	Venues []string `help:"The venues that are served; the others have no listener." default:"genesis,traderevolution,advauth,zenith,nebula" placeholder:"VENUE" env:"ROLLBOOK_VENUES"`

	proxySettings `embed:""`

	TLS     tlsSettings     `embed:"" prefix:"tls-"`
	TE      teSettings      `embed:"" prefix:"te-"`
	AdvAuth advAuthSettings `embed:"" prefix:"advauth-"`
	Zenith  zenithSettings  `embed:"" prefix:"zenith-"`
	Nebula  nebulaSettings  `embed:"" prefix:"nebula-"`
}

// teSettings are [traderevolution.Config], and its policy. How long its tokens live can be changed while it runs: PATCH
// /connectors/settings.
type teSettings struct {
	BasePath       string `help:"Where TraderEvolution's clients expect the API; it is served below / as well." default:"/proftrading/rest" placeholder:"PATH" env:"ROLLBOOK_TE_BASE_PATH"`
	StandardStatus bool   `help:"Give refusals the HTTP status that RFC 9110 has for them. Default: no, only those of the vendor's list." env:"ROLLBOOK_TE_STANDARD_STATUS"`
	RefreshInBody  bool   `help:"Take the refresh token from the body of the GET too, when there is no header token. Default: no." env:"ROLLBOOK_TE_REFRESH_IN_BODY"`
	OneTimeBearer  bool   `help:"Ask for a bearer token at the two calls that redeem one-time tokens. Default: no." env:"ROLLBOOK_TE_ONE_TIME_BEARER"`
	CallRate       int    `help:"How many calls a second are taken from one address. Behind a proxy that --trusted-proxies does not name all clients have its address: turn this off there. 0: 200. Negative: no limit." default:"200" placeholder:"N" env:"ROLLBOOK_TE_CALL_RATE"`

	tePolicy `embed:""`
}

// advAuthSettings are [advauth.Config], and its policy.
type advAuthSettings struct {
	Profile           string `help:"What the answer to a challenge is: hmac, or desfire for device clients. One for all clients." enum:"hmac,desfire" default:"hmac" env:"ROLLBOOK_ADVAUTH_PROFILE"`
	DisableAdvAuth    bool   `help:"Disable login/advAuthInit and login/advAuth. Default: no." env:"ROLLBOOK_ADVAUTH_DISABLE_ADV_AUTH"`
	DisablePlainLogin bool   `help:"Disable the login with the API key itself. Default: no." env:"ROLLBOOK_ADVAUTH_DISABLE_PLAIN_LOGIN"`
	DisabledStatus    int    `help:"The HTTP status of a method that is disabled. 0: 403." default:"403" placeholder:"STATUS" env:"ROLLBOOK_ADVAUTH_DISABLED_STATUS"`
	DisabledCode      int    `help:"The error number of a method that is disabled. 0: 1005." default:"1005" placeholder:"N" env:"ROLLBOOK_ADVAUTH_DISABLED_CODE"`
	SplitAuthErrors   bool   `help:"Refuse a wrong key or answer of a login that exists with 1004, as the vendor's table has it: it tells anybody which logins exist. Default: no, 1003 for both." env:"ROLLBOOK_ADVAUTH_SPLIT_AUTH_ERRORS"`
	UnavailableStatus int    `help:"The HTTP status while the book cannot be reached: 500, or 503 where a balancer should look for another pod. 0: 500." default:"500" placeholder:"STATUS" env:"ROLLBOOK_ADVAUTH_UNAVAILABLE_STATUS"`
	ExpireDate        string `help:"How replies carry ExpireDate: none, iso, or microsoft for /Date(...)/." enum:"none,iso,microsoft" default:"none" env:"ROLLBOOK_ADVAUTH_EXPIRE_DATE"`
	LoginRate         int    `help:"How many logins a second this process takes to the book. 0: 2000." default:"2000" placeholder:"N" env:"ROLLBOOK_ADVAUTH_LOGIN_RATE"`

	advAuthPolicy `embed:""`
}

// zenithSettings are [zenith.Config], and its policy.
type zenithSettings struct {
	EchoTopic      bool          `help:"Answer AuthCode under the topic AuthCode. Default: no, under Identify, as the venue's sample does." env:"ROLLBOOK_ZENITH_ECHO_TOPIC"`
	SayRejected    bool          `help:"Refuse with Rejected, which the vendor's client looks for, in place of the documented Reject. Default: no." env:"ROLLBOOK_ZENITH_SAY_REJECTED"`
	TradingOverTLS bool          `name:"trading-over-tls" help:"Grant the trading scopes only over TLS that ends in this process. Default: no." env:"ROLLBOOK_ZENITH_TRADING_OVER_TLS"`
	Clients        []string      `help:"The client programs that may log users in: each a ClientID, and after = the SHA-256 of its ClientSecret in hex where it has one. Empty: any, and secrets are not looked at." placeholder:"ID" env:"ROLLBOOK_ZENITH_CLIENTS"`
	Linger         time.Duration `help:"How long a session outlives the socket it was on, so that its client can come back. 0: it ends with the socket. Negative: for ever." default:"2m" placeholder:"TIME" env:"ROLLBOOK_ZENITH_LINGER"`
	Issuers        []string      `help:"OpenID Connect issuers that vouch for users: each a URL and words after it, provider=NAME client=ID and alias=NAME or by-email, and where they apply secret-file=FILE redirect=URL max-age=TIME reusable. Several are separated by semicolons. Empty: none." sep:";" placeholder:"ISSUER" env:"ROLLBOOK_ZENITH_ISSUERS"`

	zenithPolicy `embed:""`
}

// nebulaSettings are [nebula.Config], and its policy.
type nebulaSettings struct {
	Issuer             string        `help:"The claim iss of the tokens: the address at which clients reach the service, with a slash at the end. The same for all pods." default:"https://nebula.rollbook.example/" placeholder:"URL" env:"ROLLBOOK_NEBULA_ISSUER"`
	Audience           string        `help:"The claim aud of the tokens. The same for all pods." default:"exberry-trading" placeholder:"NAME" env:"ROLLBOOK_NEBULA_AUDIENCE"`
	ExchangeID         int64         `name:"exchange-id" help:"The claim exchangeId of the tokens. 0: 1." default:"1" placeholder:"N" env:"ROLLBOOK_NEBULA_EXCHANGE_ID"`
	MpID               int64         `name:"mp-id" help:"The claim mpId of the tokens. 0: 1." default:"1" placeholder:"N" env:"ROLLBOOK_NEBULA_MP_ID"`
	ClientID           string        `name:"client-id" help:"The claim azp of the tokens." default:"rollbook" placeholder:"NAME" env:"ROLLBOOK_NEBULA_CLIENT_ID"`
	TimestampWindow    time.Duration `help:"How far the timestamp of an API key's signature may be from this machine's clock, at most 4m. 0: 1m." default:"1m" placeholder:"TIME" env:"ROLLBOOK_NEBULA_TIMESTAMP_WINDOW"`
	ReusableSignatures bool          `help:"Let an API key's signature open several sessions within the window. Default: no, each opens one." env:"ROLLBOOK_NEBULA_REUSABLE_SIGNATURES"`
	RawSecrets         bool          `help:"Have clients sign with the bytes of their API key. Default: no, with the text of these bytes in lower-case hex." env:"ROLLBOOK_NEBULA_RAW_SECRETS"`
	AllowedOrigins     []string      `help:"The pages that may call and open sockets, such as https://app.example.com; * stands for all. Empty: none." default:"*" placeholder:"ORIGIN" env:"ROLLBOOK_NEBULA_ALLOWED_ORIGINS"`
	Issuers            []string      `help:"Issuers whose tokens createSession accepts beside our own: each a URL and words after it, audience=NAME and alias=NAME or by-email. Several are separated by semicolons. Empty: none." sep:";" placeholder:"ISSUER" env:"ROLLBOOK_NEBULA_ISSUERS"`

	nebulaPolicy `embed:""`
}

// served are the venues that are on, as the command line orders them.
func (s *venueSettings) served() ([]session.Venue, error) {
	var list []session.Venue
	for _, name := range s.Venues {
		venue, err := session.ParseVenue(name)
		switch {
		case err != nil:
			return nil, refuse("usage", "--venues: %w", err)
		case slices.Contains(list, venue):
			return nil, refuse("usage", "--venues names %s twice", name)
		}
		list = append(list, venue)
	}
	if len(list) == 0 {
		return nil, refuse("usage", "--venues is empty: name at least one of genesis, traderevolution, advauth, zenith, nebula")
	}
	return list, nil
}

// check refuses what cannot be meant, also for a venue that is not served.
func (s *venueSettings) check() error {
	if _, err := s.served(); err != nil {
		return err
	}
	if _, err := s.proxies(); err != nil {
		return err
	}
	if err := s.TLS.check(); err != nil {
		return err
	}
	if err := s.teConfig().Validate(); err != nil {
		return refuse("usage", "te: %w", err)
	}
	if err := s.advAuthConfig([32]byte{}).Validate(); err != nil {
		return refuse("usage", "advauth: %w", err)
	}
	if err := s.zenithConfig().Validate(); err != nil {
		return refuse("usage", "zenith: %w", err)
	}
	issuers, err := s.zenithIssuers()
	if err != nil {
		return refuse("usage", "zenith: %w", err)
	}
	for _, issuer := range issuers {
		if err := issuer.Validate(); err != nil {
			return refuse("usage", "zenith: %w", err)
		}
	}
	config, err := s.nebulaConfig()
	if err == nil {
		err = config.Validate()
	}
	if err != nil {
		return refuse("usage", "nebula: %w", err)
	}
	return nil
}

func (s *venueSettings) teConfig() traderevolution.Config {
	c := traderevolution.DefaultConfig()
	c.BasePath, c.StandardStatus, c.CallRate = s.TE.BasePath, s.TE.StandardStatus, s.TE.CallRate
	c.RefreshInBody, c.OneTimeBearer = s.TE.RefreshInBody, s.TE.OneTimeBearer
	return c
}

// advAuthConfig derives the challenges' key, so that it is good for nothing else.
func (s *venueSettings) advAuthConfig(deployment [32]byte) advauth.Config {
	c, a := advauth.DefaultConfig(), s.AdvAuth
	key, err := hkdf.Key(sha256.New, deployment[:], nil, "rollbook/advauth/challenge/v1", len(c.ChallengeKey))
	if err != nil {
		panic("rollbook: HKDF refused 32 bytes: " + err.Error())
	}
	copy(c.ChallengeKey[:], key)
	c.Profile = map[string]advauth.Profile{"hmac": advauth.HMAC, "desfire": advauth.DESFire}[a.Profile]
	c.ExpireDate = map[string]advauth.DateForm{"none": advauth.NoDate, "iso": advauth.ISODate, "microsoft": advauth.MicrosoftDate}[a.ExpireDate]
	c.DisableAdvAuth, c.DisablePlainLogin, c.LoginRate = a.DisableAdvAuth, a.DisablePlainLogin, a.LoginRate
	c.DisabledStatus, c.DisabledCode = a.DisabledStatus, a.DisabledCode
	c.SplitAuthErrors, c.UnavailableStatus = a.SplitAuthErrors, a.UnavailableStatus
	return c
}

// zenithConfig lacks the providers, which ask the gate.
func (s *venueSettings) zenithConfig() zenith.Config {
	c, z := zenith.DefaultConfig(), s.Zenith
	c.EchoTopic, c.SayRejected, c.TradingOverTLS, c.Linger = z.EchoTopic, z.SayRejected, z.TradingOverTLS, z.Linger
	for _, client := range z.Clients {
		if c.Clients == nil {
			c.Clients = map[string]string{}
		}
		id, hash, _ := strings.Cut(client, "=")
		c.Clients[id] = hash
	}
	return c
}

// zenithIssuers are the further providers by name. The error is about the form; the rest is for Validate.
func (s *venueSettings) zenithIssuers() (map[string]zenith.OIDCConfig, error) {
	issuers := map[string]zenith.OIDCConfig{}
	for _, text := range s.Zenith.Issuers {
		i, err := parseIssuer(text, "provider", "client", "alias", "by-email", "secret-file", "redirect", "max-age", "reusable")
		if err != nil {
			return nil, err
		}
		name := i.words["provider"]
		if _, twice := issuers[name]; name == "" || twice {
			return nil, fmt.Errorf("issuer %q needs a provider name of its own: provider=NAME", i.url)
		}
		c := zenith.OIDCConfig{Issuer: i.url, ClientID: i.words["client"], RedirectURL: i.words["redirect"], Alias: i.words["alias"],
			ByEmail: i.has("by-email"), Reusable: i.has("reusable")}
		if age, ok := i.words["max-age"]; ok {
			if c.MaxAge, err = time.ParseDuration(age); err != nil {
				return nil, fmt.Errorf("issuer %q: max-age=%s is no length of time such as 5m", i.url, age)
			}
		}
		if file := i.words["secret-file"]; file != "" {
			secret, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read the client secret for issuer %q: %w", i.url, err)
			}
			c.ClientSecret = strings.TrimSpace(string(secret))
		}
		issuers[name] = c
	}
	return issuers, s.zenithNames(issuers)
}

// zenithNames refuses provider names that the venue's configuration refuses.
func (s *venueSettings) zenithNames(issuers map[string]zenith.OIDCConfig) error {
	c := s.zenithConfig()
	c.Directory, c.Providers = nil, map[string]zenith.Provider{}
	for name, issuer := range issuers {
		if issuer.Validate() == nil {
			c.Providers[name] = zenith.NewOIDC(issuer, nil) // only named, never asked
		}
	}
	return c.Validate()
}

func (s *venueSettings) nebulaConfig() (nebula.Config, error) {
	c, n := nebula.DefaultConfig(), s.Nebula
	c.Issuer, c.Audience, c.ExchangeID, c.MpID = n.Issuer, n.Audience, n.ExchangeID, n.MpID
	c.ClientID, c.AllowedOrigins = n.ClientID, append([]string{}, n.AllowedOrigins...) // none given is none, and not nil
	c.TimestampWindow, c.ReusableSignatures, c.RawSecrets = n.TimestampWindow, n.ReusableSignatures, n.RawSecrets
	for _, text := range n.Issuers {
		i, err := parseIssuer(text, "audience", "alias", "by-email")
		if err != nil {
			return c, err
		}
		c.Issuers = append(c.Issuers, nebula.Issuer{URL: i.url, Audience: i.words["audience"], Alias: i.words["alias"], ByEmail: i.has("by-email")})
	}
	return c, nil
}

// issuerWords is an issuer as it is written in a setting: a URL, then words with a value and words without.
type issuerWords struct {
	url   string
	words map[string]string
}

func (i issuerWords) has(word string) bool { _, ok := i.words[word]; return ok }

func parseIssuer(text string, known ...string) (issuerWords, error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return issuerWords{}, errors.New("an issuer is empty: begin with its URL")
	}
	i := issuerWords{fields[0], map[string]string{}}
	for _, field := range fields[1:] {
		word, value, valued := strings.Cut(field, "=")
		flag := word == "by-email" || word == "reusable"
		if !slices.Contains(known, word) || i.has(word) || flag == valued || valued && value == "" {
			return i, fmt.Errorf("issuer %q: %q is not understood; after the URL may stand, once each: %s", i.url, word, strings.Join(known, " "))
		}
		i.words[word] = value
	}
	return i, nil
}
