// Package directory says who may log in, and how to check what they present.
//
// A [Store] is the writing side: the operator's commands claim names, make records and change verifiers in the
// directory's bucket. A [Directory] is the reading side: it watches the bucket and answers a pod's gate from memory. What
// a user may still do (enabled, locked) is not here: the book decides that.
//
// Invariants:
//   - Passwords are hashed with argon2id at a bounded cost; the verifier is the only thing kept, and prints as hidden.
//   - What the book is to hold of where a user was is sealed here, under a key that goes when the record is erased.
//   - A check of a name nobody has runs one hash like any other, against a dummy of the default cost, and names a decoy
//     user of the same form as a real one.
//   - A check judges by all that the bucket held when it began. When that cannot be had it is an error, not a mismatch.
//   - A name is a user's when its claim leads to the user and the user's record lists it: so it is never two users', in
//     whatever order the entries come.
//   - A record that cannot be read is never guessed at: its user's checks are errors until it is mended, and nobody
//     else's are. Stopping the whole pod for one bad record would let one record lock everybody out.
package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/argon2"

	"rollbook/engine/session"
)

// ErrNotReady says that the directory has not been read yet. Nothing is known: ask again later.
var ErrNotReady = errors.New("the directory has not been read yet")

// ErrLost says that a name was not found, while entries of the bucket cannot be read: it may be anybody's.
var ErrLost = errors.New("entries of the directory cannot be read")

// Config is what a directory needs. The deployment key is required.
type Config struct {
	// DeploymentKey derives decoy users and seals origins; the same on all pods.
	DeploymentKey [32]byte
	// Parameters are the cost of a check of a name nobody has; the zero value: [DefaultParameters]. They should be those
	// of the stored verifiers, or the time tells.
	Parameters Parameters
}

// Directory is a pod's view of the bucket. Its methods are safe for concurrent use.
type Directory struct {
	kv     jetstream.KeyValue
	cfg    Config
	log    *slog.Logger
	hash   hashFunc
	dummy  phc
	ready  chan struct{} // closed when the bucket has been read once
	sealer sealer
	// nobodys is a sealed key that is nobody's.
	nobodys []byte
	// stray is the seed for those who have none: see [Directory.Seal].
	stray Seed

	mu      sync.RWMutex
	view    *view         // guarded by mu, with all in it
	lost    int           // guarded by mu: so many entries of the bucket cannot be read
	reached uint64        // guarded by mu: the view is complete up to this revision of the bucket
	moved   chan struct{} // guarded by mu: closed, and replaced, when reached moves
}

// New makes a directory on the bucket; it starts nothing. Parameters beyond the bounds are a mistake in the program.
func New(kv jetstream.KeyValue, cfg Config, log *slog.Logger) *Directory {
	if cfg.Parameters == (Parameters{}) {
		cfg.Parameters = DefaultParameters
	}
	if !cfg.Parameters.valid() {
		panic("directory: the parameters of argon2id are out of bounds")
	}
	salt := make([]byte, newSalt)
	hash := make([]byte, newHash)
	rand.Read(salt)
	rand.Read(hash)
	sealer := newSealer(cfg.DeploymentKey)
	return &Directory{
		kv: kv, cfg: cfg, log: log, hash: argon2.IDKey, dummy: phc{cfg.Parameters, salt, hash}, ready: make(chan struct{}),
		view: newView(), moved: make(chan struct{}), sealer: sealer, nobodys: sealer.seal("", session.NoVenue, hash[:16]),
		stray: newSeed(),
	}
}

// Ready reports whether the bucket has been read once.
func (d *Directory) Ready() bool {
	select {
	case <-d.ready:
		return true
	default:
		return false
	}
}

// Await returns when the bucket has been read once, or with ctx's error.
func (d *Directory) Await(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNotReady, ctx.Err())
	}
}

// Check judges a password. Whatever it finds, it makes one decoy and runs exactly one hash. An error says that nothing
// is known: the directory is not ready, this user's record cannot be read, or nobody is found by the name while entries
// are lost that may have been theirs ([ErrLost]).
func (d *Directory) Check(ctx context.Context, venue session.Venue, name, password string) (session.Credential, error) {
	if !d.Ready() {
		return session.Credential{}, ErrNotReady
	}
	if err := d.catchUp(ctx); err != nil {
		return session.Credential{}, err
	}
	u := d.lookUp(name)
	nobody := decoy(&d.cfg.DeploymentKey, name)
	normal, possible := normalise(password)
	against := &d.dummy
	usable := u != nil && u.broken == nil && u.hashed != nil && u.record.AllowedAt(venue)
	if usable {
		against = u.hashed
	}
	matched := against.matches(d.hash, normal)
	if err := d.doubt(u); err != nil {
		return session.Credential{}, err
	}
	if u == nil {
		return session.Credential{User: nobody, Verdict: session.NoSuchUser}, nil
	}
	verdict := session.Mismatched
	if matched && usable && possible {
		verdict = session.Matched
	}
	return session.Credential{User: u.record.User, Generation: u.record.Credential, Verdict: verdict}, nil
}

// Doubt is why nobody can tell whose the name is: the record or the name cannot be read, or nobody is found while entries
// are lost ([ErrLost]). nil: what the directory says of the name is so.
func (d *Directory) Doubt(name string) error { return d.doubt(d.lookUp(name)) }

// doubt is about what was found by a name; nil: nobody.
func (d *Directory) doubt(u *known) error {
	switch {
	case u == nil && d.Lost() > 0:
		return ErrLost
	case u != nil && u.broken != nil:
		return fmt.Errorf("user %s: %w", u.record.User, u.broken)
	}
	return nil
}

// Find is the user who logs in by that name, in any spelling that compares equal.
func (d *Directory) Find(name string) (session.UserID, bool) {
	u := d.lookUp(name)
	if u == nil || u.record.User == "" {
		return "", false
	}
	return u.record.User, true
}

// Name is the name that the user logs in by, as it is shown.
func (d *Directory) Name(user session.UserID) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.view.users[user]
	if u == nil || len(u.record.Names) == 0 {
		return "", false
	}
	return u.record.Names[0], true
}

// Users lists the records, without their verifiers, in order of their ids. One that cannot be read is left out.
func (d *Directory) Users() []Record {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Record, 0, len(d.view.users))
	for _, u := range d.view.users {
		if u.broken == nil {
			list = append(list, u.record.hidden())
		}
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(string(a.User), string(b.User)) })
	return list
}

// Lost is how many entries of the bucket the server counts and does not give: their place on its disk is damaged. It is
// looked at when a watch begins; what the server itself has forgotten is not counted.
func (d *Directory) Lost() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.lost
}

// Counts gives the number of users, and of those whose record cannot be read.
func (d *Directory) Counts() (users, broken int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, u := range d.view.users {
		if u.broken != nil {
			broken++
		}
	}
	return len(d.view.users), broken
}

// Outdated reports whether the user's verifier has another cost than the default: it should be made again at the next
// chance, for its strength and because its time tells it from a name nobody has.
func (d *Directory) Outdated(user session.UserID) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.view.users[user]
	return u != nil && u.hashed != nil && u.hashed.Parameters != d.cfg.Parameters
}

// lookUp finds a user by a name. A name that cannot be one is nobody's.
func (d *Directory) lookUp(name string) *known {
	key, err := keyOf(name)
	if err != nil {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.view.find(key)
}
