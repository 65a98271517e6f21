package proof

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"rollbook/bus"
)

const algEd25519 = 1 // C2SP signed-note: the type of an Ed25519 key

// ErrKey says that a text is no key of the notary or of a witness.
var ErrKey = errors.New("not a key of this kind")

// Key is what a notary signs with: one Ed25519 key, which signs for each partition under that partition's origin, NAME/p<n>. The
// name is that of the book for ever: another book has another. Before that key may stand those that signed before it: as long
// as one of them is there with its private half, it can hand over to the next ([Key.Successor]).
type Key struct {
	name    string
	public  []ed25519.PublicKey  // in the order in which they signed
	private []ed25519.PrivateKey // of these; nil: retired. The last one never is
}

// NewKey makes a key from the system's random source.
func NewKey(name string) (Key, error) {
	text, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return Key{}, fmt.Errorf("make the notary's key: %w", err)
	}
	return ParseKey(text)
}

// ParseKey reads a private key in the form of C2SP's signed-note tools, "PRIVATE+KEY+name+hash+base64". Before it may stand, on
// lines of their own, those that signed before it: so too, or as vkeys when they are retired.
func ParseKey(text string) (Key, error) {
	var k Key
	for _, line := range strings.Fields(text) {
		one, err := parsePrivate(line)
		if err != nil {
			var retired PublicKey
			if retired, err = ParsePublicKey(line); err != nil {
				return Key{}, ErrKey // and what it says could hold a part of the key
			}
			one = Key{retired.name, retired.keys, []ed25519.PrivateKey{nil}}
		}
		if err := k.add(one); err != nil {
			return Key{}, err
		}
	}
	if len(k.public) == 0 || k.private[len(k.private)-1] == nil {
		return Key{}, ErrKey
	}
	return k, nil
}

func parsePrivate(text string) (Key, error) {
	if _, err := note.NewSigner(text); err != nil { // it checks all parts
		return Key{}, ErrKey
	}
	parts := strings.SplitN(text, "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return Key{}, ErrKey
	}
	defer clear(raw)
	private := ed25519.NewKeyFromSeed(raw[1:])
	return Key{parts[2], []ed25519.PublicKey{private.Public().(ed25519.PublicKey)}, []ed25519.PrivateKey{private}}, nil
}

// add puts a key behind those that are there. All have one name, and none is there twice.
func (k *Key) add(one Key) error {
	if len(k.public) > 0 && (k.name != one.name || k.Public().index(one.public[0]) >= 0) {
		return ErrKey
	}
	k.name = one.name
	k.public, k.private = append(k.public, one.public...), append(k.private, one.private...)
	return nil
}

// Successor puts a new key of the same name behind this one. The next checkpoint of each partition is signed by both, and all
// after it by the new one alone.
func (k Key) Successor() (Key, error) {
	next, err := NewKey(k.name)
	if err != nil {
		return Key{}, err
	}
	both := Key{k.name, slices.Clone(k.public), slices.Clone(k.private)}
	return both, both.add(next)
}

// Retire leaves of all keys but the last their public halves. What they have not handed over then is never signed again.
func (k Key) Retire() Key {
	private := make([]ed25519.PrivateKey, len(k.private))
	private[len(private)-1] = k.private[len(private)-1]
	return Key{k.name, k.public, private}
}

// Handing reports whether a key before the last can still sign.
func (k Key) Handing() bool {
	return slices.ContainsFunc(k.private[:len(k.private)-1], func(p ed25519.PrivateKey) bool { return p != nil })
}

// Text is the key as ParseKey reads it. It is for the key's own file and nothing else.
func (k Key) Text() string {
	var lines []string
	for i, private := range k.private {
		if private == nil {
			lines = append(lines, vkey(k.name, k.public[i]))
			continue
		}
		raw := append([]byte{algEd25519}, private.Seed()...)
		lines = append(lines, fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", k.name, keyID(k.name, algEd25519, k.public[i]), base64.StdEncoding.EncodeToString(raw)))
		clear(raw)
	}
	return strings.Join(lines, "\n")
}

// Public is the public half.
func (k Key) Public() PublicKey { return PublicKey{k.name, k.public} }

func (k Key) last() int { return len(k.public) - 1 }

func (k Key) signs(at int) bool { return k.private[at] != nil }

// PublicKey is what an auditor needs of a notary's key: the key that signs, and before it those that have signed before.
type PublicKey struct {
	name string
	keys []ed25519.PublicKey // in the order in which they signed
}

// ParsePublicKey reads "name+hash+base64", C2SP's vkey, or several of one name, in the order in which they signed.
func ParsePublicKey(text string) (PublicKey, error) {
	var k PublicKey
	for _, line := range strings.Fields(text) {
		if _, err := note.NewVerifier(line); err != nil {
			return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		parts := strings.SplitN(line, "+", 3)
		raw, err := base64.StdEncoding.DecodeString(parts[2])
		if err != nil || len(raw) != 1+ed25519.PublicKeySize || len(k.keys) > 0 && k.name != parts[0] {
			return PublicKey{}, ErrKey
		}
		key := ed25519.PublicKey(raw[1:])
		if k.index(key) >= 0 {
			return PublicKey{}, ErrKey
		}
		k.name, k.keys = parts[0], append(k.keys, key)
	}
	if len(k.keys) == 0 {
		return PublicKey{}, ErrKey
	}
	return k, nil
}

func (k PublicKey) index(key ed25519.PublicKey) int {
	return slices.IndexFunc(k.keys, func(own ed25519.PublicKey) bool { return own.Equal(key) })
}

// Name is the first part of each partition's origin.
func (k PublicKey) Name() string { return k.name }

// Zero reports whether there is no key.
func (k PublicKey) Zero() bool { return k.name == "" }

// String is the vkey; of several, each on a line.
func (k PublicKey) String() string {
	var lines []string
	for _, key := range k.keys {
		lines = append(lines, vkey(k.name, key))
	}
	return strings.Join(lines, "\n")
}

// Origin is the name of a partition's log, and of the key that signs it.
func (k PublicKey) Origin(p bus.Partition) string { return k.name + "/p" + p.String() }

// OriginKey is the vkey of one partition's log, as tools of others want it; of several keys, the last one's.
func (k PublicKey) OriginKey(p bus.Partition) string { return vkey(k.Origin(p), k.keys[len(k.keys)-1]) }

func vkey(name string, key ed25519.PublicKey) string {
	text, err := note.NewEd25519VerifierKey(name, key)
	if err != nil {
		panic("proof: a public key of the wrong size: " + err.Error()) // ParsePublicKey and ed25519 make no other
	}
	return text
}

// verifiers check what any of the keys has signed under a name.
func (k PublicKey) verifiers(name string) note.Verifiers {
	var list []note.Verifier
	for _, key := range k.keys {
		list = append(list, verifier{name, key})
	}
	return note.VerifierList(list...)
}

// succeeds says which key must sign what comes after a note that was signed by some of the keys, where the key at must have
// signed: the latest that signed beside it. ok is false when it has not signed: no key takes over by its own word.
func succeeds(at int, by []int) (next int, ok bool) {
	return slices.Max(append(by, at)), slices.Contains(by, at)
}

// keyID is C2SP's: the first four bytes of SHA-256(name, newline, type, key).
func keyID(name string, algorithm byte, key []byte) uint32 {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), algorithm), key...))
	return binary.BigEndian.Uint32(sum[:])
}

// signer signs notes under a name.
type signer struct {
	name    string
	private ed25519.PrivateKey
}

func (s signer) Name() string { return s.name }
func (s signer) KeyHash() uint32 {
	return keyID(s.name, algEd25519, s.private.Public().(ed25519.PublicKey))
}
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }

// verifier checks notes that were signed under a name.
type verifier struct {
	name string
	key  ed25519.PublicKey
}

func (v verifier) Name() string                 { return v.name }
func (v verifier) KeyHash() uint32              { return keyID(v.name, algEd25519, v.key) }
func (v verifier) Verify(text, sig []byte) bool { return ed25519.Verify(v.key, text, sig) }
