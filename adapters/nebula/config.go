package nebula

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// Config is what an operator can set. Start from [DefaultConfig]; the zero value of every field stands for the default.
type Config struct {
	// Issuer is the claim "iss": the address at which clients reach this service, ending in a slash. The same on all pods.
	// Empty: "https://nebula.rollbook.example/".
	Issuer string
	// Audience is the claim "aud". The same on all pods. Empty: "exberry-trading".
	Audience string
	// ClientID is the claim "azp". Empty: "rollbook".
	ClientID string
	// SubjectPrefix stands before the user's id in the claim "sub". The same on all pods. Empty: "rollbook|".
	SubjectPrefix string
	// Scope is the claim "scope" of users whose profile grants nothing of its own, separated by spaces. Empty:
	// "oms-trading:* oms-account:* oms-history:*".
	Scope string
	// ExchangeID and MpID are the claims of users whom Accounts gives none. Zero: 1.
	ExchangeID, MpID int64
	// Accounts says where single users stand at the exchange. Nil: nobody is listed.
	Accounts map[session.UserID]Account

	// KeyAge is how long a signing key is used. Zero: 24 h.
	KeyAge time.Duration
	// KeyLead is how long before its use the next key is published. Zero: 10 min; less than KeyAge.
	KeyLead time.Duration
	// KeyTTL is how long the board keeps a key after it was last published. A token is signed only if its key stays there
	// until the token's end, so this is longer than any token lives. Zero: 48 h.
	KeyTTL time.Duration
	// KeyCache is for how long others may keep the public keys (Cache-Control: max-age). Zero: 5 min; at most KeyLead.
	KeyCache time.Duration

	// Issuers are those whose tokens are accepted by createSession beside our own. Nil: none.
	Issuers []Issuer

	// TimestampWindow is how far the timestamp of an API key's signature may be from this pod's clock, either way. Zero:
	// 1 min; at most 4 min, because the book forgets what was used after 10.
	TimestampWindow time.Duration
	// ReusableSignatures lets an API key's signature open several sessions within the window. Default: false, each opens
	// one, and a second use is a failed login.
	ReusableSignatures bool
	// RawSecrets has the bytes of an API key be the secret that clients sign with. Default: false, the secret is the text
	// of these bytes in lower-case hex.
	RawSecrets bool

	// AllowedOrigins are the pages that may call and open sockets, such as "https://app.example.com"; "*" stands for
	// all of them. Nothing that a browser adds by itself authorises anything here. Nil: "*". Empty but not nil: none. A
	// client that names no origin always may.
	AllowedOrigins []string
	// CleanClose has [Handler.Shutdown] close sockets with code 1012. Without it the connection is just dropped: the
	// vendor's demo clients reconnect only after that. Default: false.
	CleanClose bool

	// MaxBody bounds a request body, in bytes. Zero: 61440, the vendor's bound.
	MaxBody int64
	// MaxFrame bounds a socket's message, in bytes; a larger one closes it with code 1009. Zero: 65536.
	MaxFrame int64
	// CallTimeout bounds the reading and the answering of one request, each. Zero: 10 s.
	CallTimeout time.Duration
	// WriteTimeout is how long a socket's client may take to accept a message before it is dropped. Zero: 10 s.
	WriteTimeout time.Duration
	// PingInterval is how often a socket is asked for a sign of life; one that stays silent for as long again, and a
	// WriteTimeout on top, is dropped. Zero: 30 s.
	PingInterval time.Duration
	// MessageRate is how many frames a second one socket may send, beyond a burst of twice as many. Zero: 50.
	MessageRate int
	// MaxSockets bounds the open sockets. Zero: 20000.
	MaxSockets int

	// Now is the clock for the tokens' times and the API keys' timestamps. Nil: time.Now.
	Now func() time.Time
}

// Account is where a user stands at the exchange: what the tokens' claims of the same names say. A field that is zero is
// taken from the configuration (ExchangeID, MpID) or derived from the user's id (AccountID, UserID).
type Account struct {
	AccountID  int64  `json:"accountId"`
	UserID     string `json:"userId"`
	ExchangeID int64  `json:"exchangeId"`
	MpID       int64  `json:"mpId"`
}

// Issuer is an OpenID Connect provider whose tokens are accepted (OpenID Connect Discovery 1.0; Auth0 is one).
type Issuer struct {
	// URL is the issuer's name, exactly as its tokens and its discovery document have it. https, or http on this machine.
	URL string
	// Audience is what its tokens for this service have among their "aud". Required.
	Audience string
	// Alias stands for the issuer in the names of its users: "subject@alias". Required unless ByEmail.
	Alias string
	// ByEmail has its users be found by their e-mail address, which the token must call verified. Default: false, by
	// subject and alias.
	ByEmail bool
}

// DefaultConfig is the configuration for trials on one machine, and the start for any other.
func DefaultConfig() Config { return Config{}.withDefaults() }

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c Config) Validate() error {
	for _, d := range []time.Duration{c.KeyAge, c.KeyLead, c.KeyTTL, c.KeyCache, c.TimestampWindow, c.CallTimeout, c.WriteTimeout, c.PingInterval} {
		if d < 0 {
			return errors.New("a duration is negative")
		}
	}
	if c.MaxBody < 0 || c.MaxFrame < 0 || c.MessageRate < 0 || c.MaxSockets < 0 {
		return errors.New("a limit is negative")
	}
	if err := c.origins().Validate(); err != nil {
		return err
	}
	d := c.withDefaults()
	switch {
	case d.KeyLead >= d.KeyAge:
		return errors.New("key_lead must be less than key_age: the next key is published while the current one is used")
	case d.KeyCache > d.KeyLead:
		return errors.New("key_cache must be at most key_lead: who keeps the keys that long would not know the next one")
	case d.TimestampWindow > 4*time.Minute:
		return errors.New("timestamp_window is at most 4m: the book forgets used signatures after 10 minutes")
	}
	return d.validateIssuers()
}

func (c Config) validateIssuers() error {
	names, aliases := []string{c.Issuer}, []string{}
	for _, i := range c.Issuers {
		u, err := url.Parse(i.URL)
		switch {
		case err != nil || !fetchable(u) || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			return fmt.Errorf("issuer %q: write its https URL, without query and fragment", i.URL)
		case slices.Contains(names, i.URL):
			return fmt.Errorf("issuer %q is named twice, or is our own", i.URL)
		case i.Audience == "":
			return fmt.Errorf("issuer %q has no audience: its tokens for other services would be accepted", i.URL)
		case !i.ByEmail && (i.Alias == "" || slices.Contains(aliases, i.Alias)):
			return fmt.Errorf("issuer %q needs an alias of its own, or to go by e-mail", i.URL)
		}
		names, aliases = append(names, i.URL), append(aliases, i.Alias)
	}
	return nil
}

// fetchable reports whether keys may be fetched from there: over TLS, or from this machine.
func fetchable(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	here := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && here)
}

func (c Config) withDefaults() Config {
	adapters.SetDefault(&c.Issuer, "https://nebula.rollbook.example/")
	adapters.SetDefault(&c.Audience, "exberry-trading")
	adapters.SetDefault(&c.ClientID, "rollbook")
	adapters.SetDefault(&c.SubjectPrefix, "rollbook|")
	adapters.SetDefault(&c.Scope, "oms-trading:* oms-account:* oms-history:*")
	adapters.SetDefault(&c.ExchangeID, 1)
	adapters.SetDefault(&c.MpID, 1)
	adapters.SetDefault(&c.KeyAge, 24*time.Hour)
	adapters.SetDefault(&c.KeyLead, 10*time.Minute)
	adapters.SetDefault(&c.KeyTTL, 48*time.Hour)
	adapters.SetDefault(&c.KeyCache, 5*time.Minute)
	adapters.SetDefault(&c.TimestampWindow, time.Minute)
	adapters.SetDefault(&c.MaxBody, 60<<10)
	adapters.SetDefault(&c.MaxFrame, 64<<10)
	adapters.SetDefault(&c.CallTimeout, 10*time.Second)
	adapters.SetDefault(&c.WriteTimeout, 10*time.Second)
	adapters.SetDefault(&c.PingInterval, 30*time.Second)
	adapters.SetDefault(&c.MessageRate, 50)
	adapters.SetDefault(&c.MaxSockets, 20000)
	if c.AllowedOrigins == nil {
		c.AllowedOrigins = []string{adapters.AnyOrigin}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// origins are the rules for pages. Every page may be allowed, because the tokens are no browser's to add by itself.
func (c Config) origins() adapters.OriginRules {
	return adapters.OriginRules{Allowed: c.AllowedOrigins, Public: true, Headers: "authorization, content-type"}
}
