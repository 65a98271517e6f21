package directory

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"

	"rollbook/engine/session"
)

// An API key must be had in the clear to check an answer that was computed with it, so it cannot be hashed. It is sealed:
// AES-256-GCM under a key derived from the deployment key (HKDF-SHA-256), bound to its user and venue, in the user's
// record. Who reads the bucket without the deployment key has nothing; who erases the record has erased it.

// ErrNoKey says that a text is no API key of this deployment: it was sealed with another deployment key, or damaged.
var ErrNoKey = errors.New("an API key cannot be unsealed")

// maxKey bounds an API key, in bytes.
const maxKey = 256

// sealer seals API keys. Its zero value is unusable.
type sealer struct{ aead cipher.AEAD }

func newSealer(deployment [32]byte) sealer {
	return sealer{derivedAEAD(deployment[:], nil, "rollbook/api-key/v1")}
}

// derivedAEAD is AES-256-GCM under a key that HKDF with SHA-256 (RFC 5869) derives from the deployment key.
func derivedAEAD(deployment, salt []byte, info string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, deployment, salt, info, 32)
	if err != nil {
		panic("directory: HKDF refused 32 bytes: " + err.Error())
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("directory: AES refused 32 bytes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("directory: GCM refused AES: " + err.Error())
	}
	return aead
}

func keyContext(user session.UserID, venue session.Venue) []byte {
	return []byte(string(user) + "\x00" + venue.String())
}

func (s sealer) seal(user session.UserID, venue session.Venue, key []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, key, keyContext(user, venue))
}

func (s sealer) open(user session.UserID, venue session.Venue, sealed []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrNoKey
	}
	key, err := s.aead.Open(nil, sealed[:n], sealed[n:], keyContext(user, venue))
	if err != nil {
		return nil, ErrNoKey
	}
	return key, nil
}

// SetKey gives the user an API key for a venue, or with an empty one takes it away, and returns the generation for the
// book: an answer computed with the key before is then judged by an outdated credential. The store needs the deployment
// key. Errors are those of [Store.Get].
func (s *Store) SetKey(ctx context.Context, user session.UserID, venue session.Venue, key []byte) (credential uint64, err error) {
	switch {
	case s.cfg.DeploymentKey == ([32]byte{}):
		return 0, errors.New("API keys need the deployment key")
	case len(key) > maxKey:
		return 0, fmt.Errorf("an API key has at most %d bytes", maxKey)
	}
	r, err := s.Update(ctx, user, func(r *Record) error {
		changed := maps.Clone(r.Keys)
		if changed == nil {
			changed = make(map[string][]byte, 1)
		}
		delete(changed, venue.String())
		if len(key) > 0 {
			changed[venue.String()] = newSealer(s.cfg.DeploymentKey).seal(user, venue, key)
		}
		r.Keys = changed
		return nil
	})
	return r.Credential, err
}

// Key is the user's API key for the venue, unsealed, and the generation of the user's credential. Not ok: the user has
// none, may not use the venue, or it was sealed under another deployment key. Whatever it finds, it unseals once: ask it
// for a decoy too, and the time does not tell who has a key.
func (d *Directory) Key(user session.UserID, venue session.Venue) (key []byte, generation uint64, ok bool) {
	u, sealed := d.usable(user, venue), d.nobodys
	has := u != nil && len(u.record.Keys[venue.String()]) > 0
	if has {
		sealed = u.record.Keys[venue.String()]
	}
	key, err := d.sealer.open(user, venue, sealed)
	switch {
	case !has:
		return nil, 0, false
	case err != nil:
		d.log.Error("an API key cannot be unsealed: is this the deployment key that sealed it?", "user", user, "venue", venue)
		return nil, 0, false
	}
	return key, u.record.Credential, true
}

// Generation is that of the user's credential; not ok when the user may not use the venue.
func (d *Directory) Generation(user session.UserID, venue session.Venue) (generation uint64, ok bool) {
	u := d.usable(user, venue)
	if u == nil {
		return 0, false
	}
	return u.record.Credential, true
}

// usable is a user whose record can be read and who may use the venue.
func (d *Directory) usable(user session.UserID, venue session.Venue) *known {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.view.users[user]
	if u == nil || u.broken != nil || !u.record.AllowedAt(venue) {
		return nil
	}
	return u
}

// Profile is what a venue may show of the user, and may grant.
func (d *Directory) Profile(user session.UserID) (session.Profile, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.view.users[user]
	if u == nil || u.broken != nil {
		return session.Profile{}, false
	}
	r := u.record.clone()
	return session.Profile{User: user, Names: r.Names, First: r.First, Last: r.Last, Scopes: r.Scopes}, true
}

// Decoy is the user that a name nobody has is counted under.
func (d *Directory) Decoy(name string) session.UserID { return decoy(&d.cfg.DeploymentKey, name) }

// Current returns when the view holds all that the bucket held when it was called: for a check of something other than a
// password, which [Directory.Check] does by itself.
func (d *Directory) Current(ctx context.Context) error {
	if !d.Ready() {
		return ErrNotReady
	}
	return d.catchUp(ctx)
}
