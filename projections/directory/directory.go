// Package directory says who may log in, and how to check what they present.
//
// A [Store] is the writing side: the operator's commands claim names, make records and change verifiers in the
// directory's bucket. A [Directory] is the reading side: it watches the bucket and answers a pod's gate from memory. What
// a user may still do (enabled, locked) is not here: the book decides that.
//
// Invariants:
//   - Passwords are hashed with argon2id at a bounded cost; the verifier is the only thing kept, and prints as hidden.
//   - A check of a name nobody has runs one hash like any other, against a dummy of the default cost, and names a decoy
//     user of the same form as a real one.
//   - Before the bucket has been read once, nothing is known: a check is an error, not a mismatch.
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
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/argon2"

	"rollbook/engine/session"
)

// ErrNotReady says that the directory has not been read yet. Nothing is known: ask again later.
var ErrNotReady = errors.New("the directory has not been read yet")

// Config is what a directory needs. The deployment key is required.
type Config struct {
	// DeploymentKey derives decoy users; the same on all pods.
	DeploymentKey [32]byte
	// Parameters are the cost of a check of a name nobody has; the zero value: [DefaultParameters]. They should be those
	// of the stored verifiers, or the time tells.
	Parameters Parameters
}

// Directory is a pod's view of the bucket. Its methods are safe for concurrent use.
type Directory struct {
	kv    jetstream.KeyValue
	cfg   Config
	log   *slog.Logger
	hash  hashFunc
	dummy phc
	ready chan struct{} // closed when the bucket has been read once

	mu      sync.RWMutex
	users map[session.UserID]*known   // guarded by mu
	names map[nameKey]session.UserID  // guarded by mu: of users whose record could be read
	seen  map[session.UserID]struct{} // guarded by mu: while the first part of a watch runs, who has been in it; else nil
}

// known is one user. A record that cannot be read keeps the names it had, so that its user is told from a stranger.
type known struct {
	record Record
	keys   []nameKey
	hashed *phc  // nil: nothing to log in with
	broken error // the record cannot be read
}

// New makes a directory on the bucket; it starts nothing.
func New(kv jetstream.KeyValue, cfg Config, log *slog.Logger) *Directory {
	if cfg.Parameters == (Parameters{}) {
		cfg.Parameters = DefaultParameters
	}
	salt := make([]byte, newSalt)
	hash := make([]byte, newHash)
	rand.Read(salt)
	rand.Read(hash)
	return &Directory{
		kv: kv, cfg: cfg, log: log, hash: argon2.IDKey, dummy: phc{cfg.Parameters, salt, hash}, ready: make(chan struct{}),
		users: make(map[session.UserID]*known), names: make(map[nameKey]session.UserID),
	}
}

// rewatch is how long Run waits before it watches again after trouble.
const rewatch = 200 * time.Millisecond

// Run follows the bucket until ctx ends, and watches it again after any trouble: a watch begins with all that is there.
// It always returns ctx's error.
func (d *Directory) Run(ctx context.Context) error {
	for {
		err := d.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.log.Warn("the directory is watched again", "err", err)
		timer := time.NewTimer(rewatch)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// follow is one watch: all that is there, then the changes. What was known before and is not there any more is dropped
// when the first part is through.
func (d *Directory) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // a watch's helper goroutine lives as long as its context
	defer cancel()
	w, err := d.kv.Watch(ctx, userPrefix+"*")
	if err != nil {
		return fmt.Errorf("watch the directory: %w", err)
	}
	defer finish(w)
	d.mu.Lock()
	d.seen = make(map[session.UserID]struct{})
	d.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.Updates():
			switch {
			case !open:
				return errors.New("the watch ended")
			case e == nil:
				d.through()
			default:
				d.apply(e)
			}
		}
	}
}

// through ends the first part of a watch.
func (d *Directory) through() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for user := range d.users {
		if _, seen := d.seen[user]; !seen {
			d.drop(user)
		}
	}
	d.seen = nil
	select {
	case <-d.ready:
	default:
		close(d.ready)
	}
}

// apply takes one entry of the bucket.
func (d *Directory) apply(e jetstream.KeyValueEntry) {
	user := session.UserID(strings.TrimPrefix(e.Key(), userPrefix))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen != nil {
		d.seen[user] = struct{}{}
	}
	if e.Operation() != jetstream.KeyValuePut {
		d.drop(user)
		return
	}
	record, keys, hashed, err := decodeRecord(user, e.Value())
	switch {
	case err != nil:
		d.log.Error("a user's record cannot be read: their logins fail until it is mended", "user", user, "err", err)
		broken := &known{record: Record{User: user}, broken: err}
		if old := d.users[user]; old != nil {
			broken.record, broken.keys = old.record, old.keys
		}
		d.users[user] = broken
	case !record.erased.IsZero():
		d.drop(user)
	default:
		d.drop(user)
		d.users[user] = &known{record: record, keys: keys, hashed: hashed}
		for _, key := range keys {
			d.names[key] = user
		}
	}
}

// drop forgets a user. A name that another user has got meanwhile stays theirs.
func (d *Directory) drop(user session.UserID) {
	old := d.users[user]
	if old == nil {
		return
	}
	delete(d.users, user)
	for _, key := range old.keys {
		if d.names[key] == user {
			delete(d.names, key)
		}
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

// Check judges a password. Whatever it finds, it runs exactly one hash. An error says that nothing is known: the
// directory is not ready, or this user's record cannot be read.
func (d *Directory) Check(_ context.Context, venue session.Venue, name, password string) (session.Credential, error) {
	if !d.Ready() {
		return session.Credential{}, ErrNotReady
	}
	u := d.lookUp(name)
	normal, possible := normalise(password)
	against := &d.dummy
	usable := u != nil && u.broken == nil && u.hashed != nil && u.record.AllowedAt(venue)
	if usable {
		against = u.hashed
	}
	matched := against.matches(d.hash, normal)
	switch {
	case u == nil:
		return session.Credential{User: decoy(&d.cfg.DeploymentKey, name), Verdict: session.NoSuchUser}, nil
	case u.broken != nil:
		return session.Credential{}, fmt.Errorf("user %s: %w", u.record.User, u.broken)
	}
	verdict := session.Mismatched
	if matched && usable && possible {
		verdict = session.Matched
	}
	return session.Credential{User: u.record.User, Generation: u.record.Credential, Verdict: verdict}, nil
}

// Find is the user who logs in by that name, in any spelling that compares equal.
func (d *Directory) Find(name string) (session.UserID, bool) {
	u := d.lookUp(name)
	if u == nil {
		return "", false
	}
	return u.record.User, true
}

// Name is the name that the user logs in by, as it is shown.
func (d *Directory) Name(user session.UserID) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.users[user]
	if u == nil || len(u.record.Names) == 0 {
		return "", false
	}
	return u.record.Names[0], true
}

// Users lists the records, without their verifiers, in order of their ids. One that cannot be read is left out.
func (d *Directory) Users() []Record {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Record, 0, len(d.users))
	for _, u := range d.users {
		if u.broken == nil {
			list = append(list, u.record.hidden())
		}
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(string(a.User), string(b.User)) })
	return list
}

// Counts gives the number of users, and of those whose record cannot be read.
func (d *Directory) Counts() (users, broken int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, u := range d.users {
		if u.broken != nil {
			broken++
		}
	}
	return len(d.users), broken
}

// Outdated reports whether the user's verifier has another cost than the default: it should be made again at the next
// chance, for its strength and because its time tells it from a name nobody has.
func (d *Directory) Outdated(user session.UserID) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.users[user]
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
	user, ok := d.names[key]
	if !ok {
		return nil
	}
	return d.users[user]
}
