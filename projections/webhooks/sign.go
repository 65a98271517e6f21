package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Secret is the key of an endpoint's signatures. It prints as nothing.
type Secret struct{ key []byte }

// String keeps a secret out of logs.
func (Secret) String() string { return "secret" }

// GoString does too.
func (Secret) GoString() string { return "secret" }

const secretPrefix = "whsec_"

// ErrSecret: the text is no secret: whsec_ and the base64 of 24 to 64 random bytes.
var ErrSecret = errors.New("a webhook secret is whsec_ and the base64 of 24 to 64 random bytes")

// ParseSecret reads a secret in the form of the specification. The error does not show it.
func ParseSecret(text string) (Secret, error) {
	coded, ok := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return Secret{}, ErrSecret
	}
	return Secret{key}, nil
}

// sign is the header webhook-signature: one signature for each secret, with spaces between. Signed are the id, the time
// and the body, with dots between.
func sign(secrets []Secret, id string, at time.Time, body []byte) string {
	var list []string
	for _, s := range secrets {
		mac := hmac.New(sha256.New, s.key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		list = append(list, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(list, " ")
}
