package directory

import (
	"context"
	"crypto/cipher"
	"crypto/rand"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

// Where clients were stands in the book, which never forgets, so it stands there sealed: AES-256-GCM under a key of the
// user's own. That key is derived (HKDF-SHA-256) from the deployment key and from a seed, 32 random bytes in the user's
// record. Neither half is any good alone: who reads the bucket lacks the deployment key, and once the record is erased
// nobody has the seed, whoever has kept the bytes of the book, a copy of the feed or the deployment key. Commands need no
// deployment key to make a seed.
//
// The sealed form is: 1, a random nonce, the sealed text. The text is the length of what [session.EncodeOrigin] gave, two
// bytes, that, and zeros up to a multiple of 64: the length of a name or an agent does not show. The user's id is
// authenticated beside it.

const (
	originForm = 1  // the first byte of what is sealed
	originPad  = 64 // sealed texts are multiples of so many bytes
	seedLength = 32
)

// Seed is one half of the key of a user's origins, the other being the deployment key. It prints as hidden.
type Seed []byte

// String hides the seed.
func (Seed) String() string { return string(Hidden) }

// GoString hides the seed.
func (Seed) GoString() string { return string(Hidden) }

func newSeed() Seed {
	seed := make(Seed, seedLength)
	rand.Read(seed)
	return seed
}

// Seal seals where a client was, for a command. Whoever it is about, one key is derived and one text of the same length
// is sealed: for a decoy, and for a user from before there were seeds, with a seed of this process that is kept nowhere,
// so that what is recorded of them opens for nobody. The agent and the name are within their bounds: the gate has cut them.
func (d *Directory) Seal(user session.UserID, o session.Origin) []byte {
	d.mu.RLock()
	u, seed := d.view.users[user], d.stray
	if u != nil && len(u.record.Seed) == seedLength {
		seed = u.record.Seed
	}
	d.mu.RUnlock()
	return sealOrigin(&d.cfg.DeploymentKey, seed, user, o)
}

func sealOrigin(deployment *[32]byte, seed Seed, user session.UserID, o session.Origin) []byte {
	plain := session.EncodeOrigin(o)
	text := make([]byte, (2+len(plain)+originPad-1)/originPad*originPad)
	text[0], text[1] = byte(len(plain)>>8), byte(len(plain))
	copy(text[2:], plain)
	aead := originAEAD(deployment, seed, user)
	sealed := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(text)+aead.Overhead())
	sealed[0] = originForm
	rand.Read(sealed[1:])
	return aead.Seal(sealed, sealed[1:], text, []byte(user))
}

// originAEAD derives a user's key.
func originAEAD(deployment *[32]byte, seed Seed, user session.UserID) cipher.AEAD {
	return derivedAEAD(deployment[:], seed, "rollbook/origin/v1/"+string(user))
}

// Origins opens what the book holds sealed of where clients were, with the deployment key and the seeds that the
// directory held when it was made. Nil opens nothing. It is safe for concurrent use.
type Origins struct {
	deployment [32]byte
	seeds      map[session.UserID]Seed
}

// Origins reads the seeds of all users. A record that cannot be read is passed over: its user's origins do not open.
func (s *Store) Origins(ctx context.Context, deployment [32]byte) (*Origins, error) {
	o := &Origins{deployment, make(map[session.UserID]Seed)}
	err := s.each(ctx, userPrefix+"*", func(e jetstream.KeyValueEntry) {
		user := session.UserID(e.Key()[len(userPrefix):])
		if r, _, _, err := decodeRecord(user, e.Value()); err == nil && len(r.Seed) == seedLength {
			o.seeds[user] = r.Seed
		}
	})
	return o, err
}

// Open opens the Origin of an event that concerns the user. Not ok: there is none in it, the user has been erased or had
// no seed at the time, it is a decoy's, it was sealed under another deployment key, or it is damaged. Nobody can tell
// these apart, which is the point.
func (o *Origins) Open(user session.UserID, sealed []byte) (session.Origin, bool) {
	if o == nil {
		return session.Origin{}, false
	}
	seed := o.seeds[user]
	if len(seed) == 0 || len(sealed) == 0 || sealed[0] != originForm {
		return session.Origin{}, false
	}
	aead := originAEAD(&o.deployment, seed, user)
	if len(sealed) < 1+aead.NonceSize() {
		return session.Origin{}, false
	}
	nonce, text := sealed[1:1+aead.NonceSize()], sealed[1+aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, text, []byte(user))
	if err != nil || len(plain) < 2 {
		return session.Origin{}, false
	}
	length := int(plain[0])<<8 | int(plain[1])
	if length > len(plain)-2 {
		return session.Origin{}, false
	}
	origin, err := session.DecodeOrigin(plain[2 : 2+length])
	return origin, err == nil
}
