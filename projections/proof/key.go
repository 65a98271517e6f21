package proof

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"rollbook/bus"
)

const algEd25519 = 1 // C2SP signed-note: the type of an Ed25519 key

// ErrKey says that a text is no key of the notary or of a witness.
var ErrKey = errors.New("not a key of this kind")

// Key is a notary's private key: one Ed25519 key, which signs for each partition under that partition's origin, NAME/p<n>.
// The name is that of the book for ever: another book has another.
type Key struct {
	name    string
	private ed25519.PrivateKey
}

// NewKey makes a key from the system's random source.
func NewKey(name string) (Key, error) {
	text, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return Key{}, fmt.Errorf("make the notary's key: %w", err)
	}
	return ParseKey(text)
}

// ParseKey reads a private key in the form of C2SP's signed-note tools, "PRIVATE+KEY+name+hash+base64".
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if _, err := note.NewSigner(text); err != nil { // it checks all parts
		return Key{}, ErrKey // and what it says could hold a part of the key
	}
	parts := strings.SplitN(text, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return Key{}, ErrKey
	}
	defer clear(raw)
	return Key{parts[2], ed25519.NewKeyFromSeed(raw[1:])}, nil
}

// Text is the private key as ParseKey reads it. It is for the key's own file and nothing else.
func (k Key) Text() string {
	raw := append([]byte{algEd25519}, k.private.Seed()...)
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", k.name, k.Public().signerID(k.name), base64.StdEncoding.EncodeToString(raw))
}

// Public is the public half.
func (k Key) Public() PublicKey {
	return PublicKey{k.name, k.private.Public().(ed25519.PublicKey)}
}

// PublicKey is what an auditor needs of a notary's key.
type PublicKey struct {
	name string
	key  ed25519.PublicKey
}

// ParsePublicKey reads "name+hash+base64", C2SP's vkey.
func ParsePublicKey(text string) (PublicKey, error) {
	text = strings.TrimSpace(text)
	if _, err := note.NewVerifier(text); err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	parts := strings.SplitN(text, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return PublicKey{}, ErrKey
	}
	return PublicKey{parts[0], raw[1:]}, nil
}

// Name is the first part of each partition's origin.
func (k PublicKey) Name() string { return k.name }

// Zero reports whether there is no key.
func (k PublicKey) Zero() bool { return k.name == "" }

// String is the vkey.
func (k PublicKey) String() string { return k.vkey(k.name) }

// Origin is the name of a partition's log, and of the key that signs it.
func (k PublicKey) Origin(p bus.Partition) string { return k.name + "/p" + p.String() }

// OriginKey is the vkey of one partition's log, as tools of others want it.
func (k PublicKey) OriginKey(p bus.Partition) string { return k.vkey(k.Origin(p)) }

func (k PublicKey) vkey(name string) string {
	text, err := note.NewEd25519VerifierKey(name, k.key)
	if err != nil {
		panic("proof: a public key of the wrong size: " + err.Error()) // ParsePublicKey and ed25519 make no other
	}
	return text
}

func (k PublicKey) signerID(name string) uint32 { return keyID(name, algEd25519, k.key) }

// keyID is C2SP's: the first four bytes of SHA-256(name, newline, type, key).
func keyID(name string, algorithm byte, key []byte) uint32 {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), algorithm), key...))
	return binary.BigEndian.Uint32(sum[:])
}

// signer signs notes under a name.
type signer struct {
	name string
	key  Key
}

func (s signer) Name() string                     { return s.name }
func (s signer) KeyHash() uint32                  { return s.key.Public().signerID(s.name) }
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key.private, text), nil }

// verifier checks notes that were signed under a name.
type verifier struct {
	name string
	key  ed25519.PublicKey
}

func (v verifier) Name() string                 { return v.name }
func (v verifier) KeyHash() uint32              { return keyID(v.name, algEd25519, v.key) }
func (v verifier) Verify(text, sig []byte) bool { return ed25519.Verify(v.key, text, sig) }
