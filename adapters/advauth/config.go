package advauth

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"rollbook/adapters"
)

// Profile says what the answer to a challenge has to be. It is one for all clients of a deployment and never negotiated,
// so that nobody can be talked into the weaker one.
type Profile uint8

// The profiles; profile.go holds their formulas.
const (
	// HMAC is hmac-sha256-128: the answer is a MAC of login and challenge, RndA is optional and asks for the server's proof.
	HMAC Profile = iota
	// DESFire is aes128-desfire: the second and third pass of MIFARE DESFire's AuthenticateAES, for device clients. RndA
	// is required.
	DESFire
)

// DateForm says how replies carry the token's end.
type DateForm uint8

// The forms. XML has dates in ISO 8601 in each but the first.
const (
	NoDate        DateForm = iota // as the venue's older builds: no member ExpireDate
	ISODate                       // "2026-11-22T17:17:06.123Z"
	MicrosoftDate                 // "/Date(1770202477469)/", as the newer builds' samples
)

// Config is what an operator can set. Start from [DefaultConfig]: the zero value of every field but ChallengeKey stands
// for the default.
type Config struct {
	// ChallengeKey makes the challenges; the same on all pods, and for nothing else. Required: zero is refused.
	ChallengeKey [32]byte
	// Profile is what the answer to a challenge has to be. Zero: HMAC.
	Profile Profile

	// DisableAdvAuth disables login/advAuth and login/advAuthInit by configuration. Default: false.
	DisableAdvAuth bool
	// DisablePlainLogin disables login with the API key itself. Default: false.
	DisablePlainLogin bool
	// DisabledStatus is the HTTP status of a disabled method. Zero: 403.
	DisabledStatus int
	// DisabledCode is the error number of a disabled method. Zero: 1005, the one number that the venue's pages leave out.
	DisabledCode int

	// SplitAuthErrors gives a wrong key or answer to a known login error 1004, as the venue's page lists it, and so tells
	// anybody which logins exist. Without it 1003 answers both. Default: false.
	SplitAuthErrors bool
	// ExpireDate adds the member ExpireDate to replies that carry a token's lifetime. Zero: NoDate.
	ExpireDate DateForm
	// UnavailableStatus is the HTTP status while the book cannot be reached: 500, which the venue documents, or 503. Zero:
	// 500.
	UnavailableStatus int

	// Prefixes are paths that everything is served below too, read without regard to case. Nil: "/api" and
	// "/AktionNEXT/API". Empty but not nil: none.
	Prefixes []string

	// MaxBody bounds a request body, in bytes. Zero: 16384.
	MaxBody int64
	// CallTimeout bounds the reading and the answering of one request, each. Zero: 10 s.
	CallTimeout time.Duration
	// LoginRate is how many logins a second this pod takes to the book, beyond a burst of twice as many: each writes to
	// it, and no password hash slows them down. More get error 1008. Zero: 2000.
	LoginRate int

	// Now is the pod's clock: for the age of challenges, what is left of a token, and how long its end is remembered. Nil:
	// time.Now.
	Now func() time.Time
}

// DefaultConfig is the configuration to start from. It lacks the key.
func DefaultConfig() Config { return Config{}.withDefaults() }

// Validate says in one sentence what is wrong with the configuration; nil when nothing is.
func (c Config) Validate() error {
	switch {
	case c.ChallengeKey == [32]byte{}:
		return errors.New("the challenge key is not set")
	case c.Profile > DESFire:
		return fmt.Errorf("there is no profile %d", c.Profile)
	case c.ExpireDate > MicrosoftDate:
		return fmt.Errorf("there is no form %d of the expiry date", c.ExpireDate)
	case c.DisabledStatus != 0 && (c.DisabledStatus < 400 || c.DisabledStatus > 599):
		return fmt.Errorf("disabled status %d is no HTTP error", c.DisabledStatus)
	case c.UnavailableStatus != 0 && c.UnavailableStatus != http.StatusInternalServerError &&
		c.UnavailableStatus != http.StatusServiceUnavailable:
		return fmt.Errorf("unavailable status %d: 500 or 503", c.UnavailableStatus)
	case c.DisabledCode < 0 || c.MaxBody < 0 || c.CallTimeout < 0 || c.LoginRate < 0:
		return errors.New("a number is negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Prefixes == nil {
		c.Prefixes = []string{"/api", "/AktionNEXT/API"}
	}
	prefixes := make([]string, 0, len(c.Prefixes)) // the caller's slice stays as it is
	for _, prefix := range c.Prefixes {
		if at := segments(prefix); at != "" {
			prefixes = append(prefixes, at)
		}
	}
	c.Prefixes = prefixes
	if c.Now == nil {
		c.Now = time.Now
	}
	adapters.SetDefault(&c.DisabledStatus, http.StatusForbidden)
	adapters.SetDefault(&c.DisabledCode, codeDisabled)
	adapters.SetDefault(&c.UnavailableStatus, http.StatusInternalServerError)
	adapters.SetDefault(&c.MaxBody, 16<<10)
	adapters.SetDefault(&c.CallTimeout, 10*time.Second)
	adapters.SetDefault(&c.LoginRate, 2000)
	return c
}
