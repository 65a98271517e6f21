package directory

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Verifier is what a password is checked against: an argon2id hash (RFC 9106) in the PHC string form,
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//
// with salt and hash in unpadded base 64 (c2sp.org/phc-strings). Empty: there is nothing to log in with. It is a
// secret: it prints and logs as [Hidden].
type Verifier string

// Hidden stands for a verifier in lists that are not to carry it. It verifies nothing and is never stored.
const Hidden Verifier = "hidden"

// Parameters are the cost of one hash.
type Parameters struct {
	Memory  uint32 // KiB; 8 for each thread, to 262144 (256 MiB)
	Time    uint32 // passes over the memory; 1 to 10
	Threads uint8  // lanes; 1 to 16
}

// DefaultParameters is the cost of new verifiers, and of the check of a name nobody has: 19 MiB, 2 passes, 1 lane (the
// OWASP password storage cheat sheet's choice), about 35 ms of one core. More lanes would make one login faster and the
// pod's logins no more.
var DefaultParameters = Parameters{Memory: 19456, Time: 2, Threads: 1}

// Bounds on what is read. A verifier may be imported: without them one record could take all memory of every pod, at
// the choice of whoever knows the name it belongs to.
const (
	maxMemory  = 256 << 10 // KiB
	maxTime    = 10
	maxThreads = 16
	minSalt    = 8
	maxSalt    = 64
	minHash    = 16
	maxHash    = 64
	newSalt    = 16 // of new verifiers (RFC 9106, 3.1)
	newHash    = 32
)

// ErrBadVerifier says that a text is not an argon2id PHC string within the bounds. An importer is to be told.
var ErrBadVerifier = errors.New("not an acceptable argon2id PHC string")

// String is [Hidden], or empty when there is no verifier.
func (v Verifier) String() string {
	if v == "" {
		return ""
	}
	return string(Hidden)
}

// GoString keeps the verifier out of %#v.
func (v Verifier) GoString() string { return strconv.Quote(v.String()) }

// LogValue keeps the verifier out of logs.
func (v Verifier) LogValue() slog.Value { return slog.StringValue(v.String()) }

// Parameters reads the cost; an error is [ErrBadVerifier].
func (v Verifier) Parameters() (Parameters, error) {
	hashed, err := parsePHC(v)
	return hashed.Parameters, err
}

// hashFunc is [argon2.IDKey]; tests put a counting one in its place.
type hashFunc func(password, salt []byte, time, memory uint32, threads uint8, length uint32) []byte

// phc is a verifier taken apart.
type phc struct {
	Parameters
	salt, hash []byte
}

// newPHC hashes a normalised password. The salt is newSalt random bytes.
func newPHC(run hashFunc, p Parameters, salt []byte, password string) phc {
	return phc{p, salt, run([]byte(password), salt, p.Time, p.Memory, p.Threads, newHash)}
}

// matches hashes a normalised password at the verifier's own cost and compares in constant time.
func (h *phc) matches(run hashFunc, password string) bool {
	got := run([]byte(password), h.salt, h.Time, h.Memory, h.Threads, uint32(len(h.hash)))
	return subtle.ConstantTimeCompare(got, h.hash) == 1
}

// valid reports whether the cost is within the bounds.
func (p Parameters) valid() bool {
	return p.Threads >= 1 && p.Threads <= maxThreads && p.Time >= 1 && p.Time <= maxTime &&
		p.Memory >= 8*uint32(p.Threads) && p.Memory <= maxMemory
}

func (h *phc) verifier() Verifier {
	b64 := base64.RawStdEncoding
	return Verifier(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Time, h.Threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.hash)))
}

// parsePHC reads the one spelling that verifier() writes: no optional or reordered parameters, no padding, no leading
// zeros, no stray bits. What has one meaning has one form, so that nobody else's reader can disagree with this one.
func parsePHC(v Verifier) (phc, error) {
	bad := func(what string) (phc, error) { return phc{}, fmt.Errorf("%w: %s", ErrBadVerifier, what) }
	parts := strings.Split(string(v), "$")
	switch {
	case len(parts) != 6 || parts[0] != "":
		return bad("five parts after a $ each belong there")
	case parts[1] != "argon2id":
		return bad("the algorithm is not argon2id")
	case parts[2] != "v="+strconv.Itoa(argon2.Version):
		return bad("the version is not 19")
	}
	var h phc
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return bad("the parameters are not m, t and p")
	}
	memory, ok1 := number(numbers[0], "m=")
	passes, ok2 := number(numbers[1], "t=")
	threads, ok3 := number(numbers[2], "p=")
	if !ok1 || !ok2 || !ok3 || threads > maxThreads {
		return bad("the parameters are not m, t and p within their bounds")
	}
	if h.Parameters = (Parameters{memory, passes, uint8(threads)}); !h.valid() {
		return bad("the parameters are out of bounds")
	}
	var ok bool
	if h.salt, ok = binary(parts[4], minSalt, maxSalt); !ok {
		return bad("the salt is not 8 to 64 bytes of unpadded base 64")
	}
	if h.hash, ok = binary(parts[5], minHash, maxHash); !ok {
		return bad("the hash is not 16 to 64 bytes of unpadded base 64")
	}
	return h, nil
}

// number reads a decimal number of at most six digits without leading zeros.
func number(text, prefix string) (uint32, bool) {
	digits, ok := strings.CutPrefix(text, prefix)
	if !ok || len(digits) == 0 || len(digits) > 6 || digits[0] == '0' {
		return 0, false
	}
	n := uint32(0)
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint32(c-'0')
	}
	return n, true
}

// binary reads unpadded base 64. The decoder itself passes over line ends and, were it not strict, stray bits.
func binary(text string, least, most int) ([]byte, bool) {
	if len(text) > base64.RawStdEncoding.EncodedLen(most) || strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(text)
	return b, err == nil && len(b) >= least && len(b) <= most
}
