package directory

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"rollbook/engine/session"
)

// Keys of the bucket. Others may stand beside them and are passed over.
const (
	userPrefix = "user." // + user id: the user's record, or what is left of an erased one
	namePrefix = "name." // + hex of the name's key: the id of the user who has the name
)

const (
	maxName  = 128 // Unicode code points of a login name
	maxNames = 16  // login names of one user
)

// ErrBadName says that a text cannot be a login name: it is empty, longer than 128 characters, or holds what RFC 8265
// keeps out of user names (spaces, controls, symbols beyond ASCII, mixed directions). Ask for another.
var ErrBadName = errors.New("not a possible login name")

// CheckName says whether a text can be a login name: nil, or an [ErrBadName] with the reason. Whether it is taken is
// [Store.Claim]'s to say.
func CheckName(name string) error {
	_, err := comparedForm(name)
	return err
}

// nameKey is the SHA-256 of a login name's compared form. A bucket key has to be, since names hold characters that a
// key must not. It is no secret: whoever guesses the name can tell; so an erasure takes the key away too.
type nameKey [sha256.Size]byte

func (k nameKey) String() string { return hex.EncodeToString(k[:]) }

// keyOf gives the key that equal names share.
func keyOf(name string) (nameKey, error) {
	compared, err := comparedForm(name)
	if err != nil {
		return nameKey{}, err
	}
	return sha256.Sum256([]byte(compared)), nil
}

// keysOf gives the names' keys in the order of the names. The names of one user must differ.
func keysOf(names []string) ([]nameKey, error) {
	if len(names) == 0 || len(names) > maxNames {
		return nil, fmt.Errorf("%w: a user has 1 to %d", ErrBadName, maxNames)
	}
	keys := make([]nameKey, 0, len(names))
	for _, name := range names {
		key, err := keyOf(name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(keys, key) {
			return nil, fmt.Errorf("%w: the same one twice", ErrBadName)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// parseNameKey reads the part of a bucket key after "name.".
func parseNameKey(text string) (k nameKey, ok bool) {
	if len(text) != hex.EncodedLen(len(k)) || strings.ToLower(text) != text {
		return k, false
	}
	_, err := hex.Decode(k[:], []byte(text))
	return k, err == nil
}

// comparedForm is what two spellings of one name share: width and case mapped, NFC (UsernameCaseMapped, RFC 8265, 3.3).
// The profile is not idempotent for every character, so it is applied until nothing changes (RFC 8264, 7). ASCII names,
// which e-mail addresses mostly are, take the first step only.
func comparedForm(name string) (string, error) {
	if name == "" || len(name) > maxName*utf8.UTFMax || utf8.RuneCountInString(name) > maxName {
		return "", fmt.Errorf("%w: it must have 1 to %d characters", ErrBadName, maxName)
	}
	form := name
	for range 4 {
		next, err := precis.UsernameCaseMapped.CompareKey(form)
		if err != nil || next == "" {
			return "", fmt.Errorf("%w: a character in it, or their order, is not allowed", ErrBadName)
		}
		if next == form {
			return form, nil
		}
		form = next
	}
	return "", fmt.Errorf("%w: it has no stable form", ErrBadName)
}

// NewUserID mints the id of a new user: "u-" and 26 of a-z 2-7, 130 random bits.
func NewUserID() session.UserID {
	var random [17]byte
	rand.Read(random[:])
	return userID(random)
}

// decoy is the id that a name nobody has is counted under: always the same for the same name, of exactly the form of a
// real one, and not to be told from one without the deployment key. So an unknown name can be locked like a known one,
// and nothing shows which it was.
func decoy(key *[32]byte, name string) session.UserID {
	mac := hmac.New(sha256.New, key[:])
	if compared, err := comparedForm(name); err == nil {
		mac.Write([]byte("rollbook/decoy-user/v1/name/" + compared))
	} else {
		mac.Write([]byte("rollbook/decoy-user/v1/refused/" + name))
	}
	return userID([17]byte(mac.Sum(nil)))
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func userID(random [17]byte) session.UserID {
	return session.UserID("u-" + base32Lower.EncodeToString(random[:])[:26])
}
