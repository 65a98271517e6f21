package zenith

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"rollbook/adapters"
)

// Config is what an operator can set. Start from [DefaultConfig]: the zero value of every field but Linger stands for
// the default too.
type Config struct {
	// Directory are the Provider names under which names and passwords of the directory are accepted. Nil: "Rollbook",
	// "Paritech" (the venue's sample) and "BasicAuth" (the vendor's client). Empty but not nil: none.
	Directory []string
	// Providers are further providers by name, such as an [OIDC]. One that is called "Bearer" also judges the tokens
	// of the handshake's header and of AuthToken that this service did not issue. Nil: none.
	Providers map[string]Provider
	// Clients are the client programs that may log users in: the ClientID, and the SHA-256 of its ClientSecret in
	// lower-case hex; empty where it needs none. Nil: any program may, and secrets are not looked at.
	Clients map[string]string
	// Scopes are the access rights of users whose profile names none, in the spelling of the venue's Appendix A. Nil:
	// all four of it. Empty but not nil: none.
	Scopes []string
	// TradingOverTLS grants Zenith/Trading and Zenith/OrderPad only over connections that this process itself sees to
	// be TLS, as the venue does. Default: false, because TLS mostly ends at a proxy.
	TradingOverTLS bool

	// EchoTopic answers AuthCode under the topic AuthCode. Default: false: under Identify, as the venue's sample does.
	EchoTopic bool
	// SayRejected has AuthToken and AuthOwner refuse with "Rejected", which the vendor's client looks for, in place of
	// the documented "Reject". Default: false. AuthCode says Reject either way.
	SayRejected bool
	// ServerName and Version are what ServerInfo tells. Empty: "Rollbook" and "1.0.0.0".
	ServerName, Version string

	// Linger is how long a session outlives the socket that it was on, so that its client can come back with the access
	// token. Default: 2 min. Zero: it ends at once. Negative: sessions are not bound to sockets at all.
	Linger time.Duration
	// MaxMessage bounds a message, in bytes; a larger one closes the socket with 1009. Zero: 65536.
	MaxMessage int64
	// CallTimeout bounds the answering of one message, below the time-outs that a client configures. Zero: 10 s.
	CallTimeout time.Duration
	// WriteTimeout is how long a client may take to accept a message before it is dropped. Zero: 10 s.
	WriteTimeout time.Duration
	// PingInterval is how often a socket is pinged; one that has been silent for twice as long is closed with 1008.
	// Zero: 30 s, the venue's.
	PingInterval time.Duration
	// MessageRate is how many messages a second one socket may send, beyond a burst of twice as many. Zero: 50.
	MessageRate int
	// MaxSockets bounds the open sockets. Zero: 20000.
	MaxSockets int

	// Now is the clock that deadlines are compared with. Nil: time.Now.
	Now func() time.Time
}

// DefaultConfig is the configuration for a service of one's own clients, and the start for any other.
func DefaultConfig() Config { return Config{Linger: 2 * time.Minute}.withDefaults() }

// bearer is the Provider name of tokens, whoever issued them (RFC 6750).
const bearer = "Bearer"

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c Config) Validate() error {
	for _, name := range c.Directory {
		if name == "" || name == bearer || len(name) > maxName {
			return fmt.Errorf("provider name %q: write 1 to %d bytes, and not %q, which stands for tokens", name, maxName, bearer)
		}
		if c.Providers[name] != nil {
			return fmt.Errorf("provider name %q stands for the directory and for another provider", name)
		}
	}
	for name, p := range c.Providers {
		if name == "" || len(name) > maxName || p == nil {
			return fmt.Errorf("provider name %q: write 1 to %d bytes, and name a provider", name, maxName)
		}
	}
	for id, hash := range c.Clients {
		if sum, err := hex.DecodeString(hash); err != nil || len(sum) != 32 && hash != "" || id == "" {
			return fmt.Errorf("client %q: write the SHA-256 of its secret in 64 hex digits, or nothing", id)
		}
	}
	for _, scope := range c.Scopes {
		if parseScope(scope) == "" || scope != slashed(parseScope(scope)) {
			return fmt.Errorf("scope %q: write it like %q", scope, allScopes[0])
		}
	}
	if c.MaxMessage < 0 || c.CallTimeout < 0 || c.WriteTimeout < 0 || c.PingInterval < 0 || c.MessageRate < 0 || c.MaxSockets < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Directory == nil {
		for _, name := range []string{"Rollbook", "Paritech", "BasicAuth"} {
			if c.Providers[name] == nil {
				c.Directory = append(c.Directory, name)
			}
		}
	}
	if c.Scopes == nil {
		c.Scopes = allScopes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	adapters.SetDefault(&c.ServerName, "Rollbook")
	adapters.SetDefault(&c.Version, "1.0.0.0")
	adapters.SetDefault(&c.MaxMessage, 64<<10)
	adapters.SetDefault(&c.CallTimeout, 10*time.Second)
	adapters.SetDefault(&c.WriteTimeout, 10*time.Second)
	adapters.SetDefault(&c.PingInterval, 30*time.Second)
	adapters.SetDefault(&c.MessageRate, 50)
	adapters.SetDefault(&c.MaxSockets, 20000)
	return c
}
