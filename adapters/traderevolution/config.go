package traderevolution

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rollbook/adapters"
)

// Config is what an operator can set. The zero value of every field stands for the default.
type Config struct {
	// BasePath is where the vendor's clients expect the API; it is served below "/" as well. It begins with a slash and does
	// not end with one. Empty: "/proftrading/rest".
	BasePath string
	// StandardStatus gives refusals the status that RFC 9110 has for them where the vendor's list of statuses (200, 204,
	// 400, 401, 404, 405, 406, 500) has none: 403, 408, 413, 415 and 503 in place of 401, 400, 400, 400 and 500.
	// Default: false, the vendor's list.
	StandardStatus bool
	// RefreshInBody takes the refresh token from the body {"token": "..."} of the GET too, when there is no header "token":
	// one sentence of the vendor's page says so, its table and the clients use the header. Default: false.
	RefreshInBody bool
	// OneTimeBearer asks for a bearer token at the two calls that redeem one-time tokens. Default: false, as the known
	// client calls them without one.
	OneTimeBearer bool

	// MaxBody bounds a request body, in bytes. Zero: 16384.
	MaxBody int64
	// CallTimeout bounds the reading and the answering of one request, each. Zero: 10 s.
	CallTimeout time.Duration
	// CallRate is how many calls a second are taken from one address (an IPv6 /64 counts as one), beyond a burst of twice as
	// many. Behind a proxy all clients have its address: let it limit, and turn this off. Zero: 200. Negative: no limit.
	CallRate int

	// Now is the clock that callers are paced by. Nil: time.Now.
	Now func() time.Time
}

// DefaultConfig is the configuration that follows the vendor's documents.
func DefaultConfig() Config { return Config{}.withDefaults() }

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c Config) Validate() error {
	if p := c.BasePath; p != "" && (p[0] != '/' || strings.HasSuffix(p, "/") || strings.Contains(p, "//")) {
		return fmt.Errorf("base path %q: begin with a slash, single ones, and none at the end", p)
	}
	if c.MaxBody < 0 || c.CallTimeout < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	adapters.SetDefault(&c.BasePath, "/proftrading/rest")
	adapters.SetDefault(&c.MaxBody, 16<<10)
	adapters.SetDefault(&c.CallTimeout, 10*time.Second)
	adapters.SetDefault(&c.CallRate, 200)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// route is the served path that a request's path names, without the base path.
func (c Config) route(urlPath string) string {
	at := "/" + strings.Join(strings.FieldsFunc(urlPath, func(r rune) bool { return r == '/' }), "/")
	if rest, below := strings.CutPrefix(at, c.BasePath); below && (rest == "" || rest[0] == '/') {
		return rest
	}
	return at
}
