package genesis

import (
	"errors"
	"net/http"
	"time"

	"rollbook/adapters"
)

// Config is what an operator can set. Start from [DefaultConfig]: the zero value of every field but Linger stands for the
// default too.
type Config struct {
	// StrictStatus gives refusals the HTTP status that their STATUS_CODE names (the router's strictHttpStatusCode).
	// Without it they come as 200, as the router's do by default: the browser clients lose the error code of any other
	// status. A missing session at /event-login-details is 401 either way. Default: false.
	StrictStatus bool
	// Cookies puts the tokens into HttpOnly cookies and blanks them in the bodies (the router's cookieAuthentication).
	// Login and logout are then HTTP's alone, and a socket needs the cookies of a login. Default: false.
	Cookies bool
	// Cookie shapes the cookies.
	Cookie CookieConfig
	// AllowedOrigins are the pages on other origins that may call and open sockets, such as "https://app.example.com".
	// The word "loopback" stands for http and https pages on localhost, 127.0.0.0/8 and [::1], on any port. Nil:
	// "loopback". Empty but not nil: none. A client that names no origin always may, and a page on the host that the
	// request names; but of a connection to a loopback address only loopback names are believed, as any name can be
	// made to point there. So behind a proxy on the same machine, list the origin that browsers see.
	AllowedOrigins []string

	// HeartbeatSecs is the heartbeat interval that clients are told, in seconds. Zero: 30.
	HeartbeatSecs int
	// Product lists the products that clients are told. Nil: none.
	Product []Product

	// Linger is how long a session outlives the socket it was opened on; a refresh in that time keeps it, or a message
	// over another socket. The clients reconnect for 100 s (10 times, 10 s apart). Default: 2 min. Zero: it ends at once. Negative: sessions are not
	// bound to sockets at all.
	Linger time.Duration
	// CleanClose has [Handler.Shutdown] close sockets with code 1012. Without it the connection is just dropped: the
	// browser client reconnects only after a close that was not clean. Default: false.
	CleanClose bool

	// MaxBody bounds a request body and a socket message, in bytes. Zero: 262144, the router's bound.
	MaxBody int64
	// CallTimeout bounds the reading and the answering of one request, each. Zero: 10 s.
	CallTimeout time.Duration
	// WriteTimeout is how long a client may take to accept a reply, or a socket's message, before it is dropped.
	// Zero: 10 s.
	WriteTimeout time.Duration
	// PingInterval is how often a socket is asked for a sign of life; one that stays silent for as long again, and a
	// CallTimeout and a WriteTimeout on top, is dropped. Zero: 30 s.
	PingInterval time.Duration
	// MessageRate is how many messages a second one socket may send, beyond a burst of twice as many. Zero: 50.
	MessageRate int
	// MaxSockets bounds the open sockets. Zero: 20000.
	MaxSockets int

	// Now is the clock for DETAILS.SYSTEM.DATE, and for when a client left. Nil: time.Now.
	Now func() time.Time
}

// DefaultConfig is the configuration for a service of one's own clients on one machine, and the start for any other.
func DefaultConfig() Config { return Config{Linger: 2 * time.Minute}.withDefaults() }

// Product is one entry of DETAILS.PRODUCT.
type Product struct {
	Name    string `json:"NAME"`
	Version string `json:"VERSION"`
}

// CookieConfig shapes the cookies of [Config.Cookies]. They are always HttpOnly, and live as long as the browser runs:
// how long their tokens are good is the session's business.
type CookieConfig struct {
	// Insecure lets the cookies travel without TLS, for trials on one machine. Default: false. Cookies with the
	// defaults of all fields carry the name prefix __Host- (RFC 6265bis, 4.1.3.2).
	Insecure bool
	// Domain widens the cookies to a domain. Empty: this host alone.
	Domain string
	// Path narrows the cookies. Empty: "/".
	Path string
	// SameSite says when other sites' pages send the cookies along. Zero: Lax.
	SameSite http.SameSite
}

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c Config) Validate() error {
	if err := c.origins().Validate(); err != nil {
		return err
	}
	if c.HeartbeatSecs < 0 || c.MaxBody < 0 || c.CallTimeout < 0 || c.WriteTimeout < 0 || c.PingInterval < 0 ||
		c.MessageRate < 0 || c.MaxSockets < 0 {
		return errors.New("a limit is negative")
	}
	if c.Cookie.SameSite == http.SameSiteNoneMode && c.Cookie.Insecure {
		return errors.New("browsers refuse cookies with SameSite=None that are not secure")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.AllowedOrigins == nil {
		c.AllowedOrigins = []string{adapters.Loopback}
	}
	if c.Product == nil {
		c.Product = []Product{}
	}
	if c.Cookie.Path == "" {
		c.Cookie.Path = "/"
	}
	if c.Cookie.SameSite == 0 {
		c.Cookie.SameSite = http.SameSiteLaxMode
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	adapters.SetDefault(&c.HeartbeatSecs, 30)
	adapters.SetDefault(&c.MaxBody, 256<<10)
	adapters.SetDefault(&c.CallTimeout, 10*time.Second)
	adapters.SetDefault(&c.WriteTimeout, 10*time.Second)
	adapters.SetDefault(&c.PingInterval, 30*time.Second)
	adapters.SetDefault(&c.MessageRate, 50)
	adapters.SetDefault(&c.MaxSockets, 20000)
	return c
}

// origins are the rules for pages. They may send the calls' fields as headers, in both spellings.
func (c Config) origins() adapters.OriginRules {
	return adapters.OriginRules{Allowed: c.AllowedOrigins,
		Headers: "content-type, source-ref, source_ref, session-auth-token, session_auth_token, session-id, " +
			"session_id, refresh-auth-token, refresh_auth_token, user-name, user_name"}
}
