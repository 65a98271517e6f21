package directory

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/crypto/argon2"

	"rollbook/engine/session"
)

// What the caller is to do about an error: ErrNotFound, ask for another name or id. ErrErased, nothing: the user is
// gone for good. ErrNameTaken, ask for another name. ErrExists, another command created this user first: read it.
// ErrContended, try again. Every other failure leaves open whether the write happened: repeat the command.
var (
	ErrNotFound  = errors.New("no such user")
	ErrErased    = errors.New("the user has been erased")
	ErrNameTaken = errors.New("another user has the name")
	ErrExists    = errors.New("the user exists already")
	ErrContended = errors.New("the record is being changed by others all the time")
)

// StoreConfig is how a [Store] makes verifiers and times.
type StoreConfig struct {
	Policy     PasswordPolicy   // of new passwords
	Parameters Parameters       // cost of new verifiers; the zero value: [DefaultParameters]
	Now        func() time.Time // nil: time.Now
	// DeploymentKey seals API keys; without it there are none.
	DeploymentKey [32]byte
}

// Store is the writing side of the directory, for the operator's commands. Any number may be at work at once: every
// write is bound to the revision it was made from, so none is lost and none is half done. Safe for concurrent use.
//
// A new user takes three writes that cannot be one, in this order:
//
//	Claim     the login names, for a new id     a crash after it: the names lead to an id without a record, which
//	                                            nobody can log in by. Claim, repeated, finds that id and goes on with it.
//	register  the id in the book (the caller)   a crash after it: the book knows a user nobody can log in as. Registering
//	                                            again is refused with AlreadyExists, which here means: go on.
//	Create    the record                        from here on the user can log in.
//
// A changed verifier takes two: SetPassword, then the caller announces the generation in the book. A crash between them
// is repaired by the first login with the new password, which announces it, or by repeating the command: that makes yet
// another generation, and the book takes any newer one.
//
// An erased user takes three: the caller disables the user in the book (which ends the sessions), then Remove.
type Store struct {
	kv  jetstream.KeyValue
	cfg StoreConfig
}

// NewStore makes a store on the directory's bucket; an error is one in the configuration.
func NewStore(kv jetstream.KeyValue, cfg StoreConfig) (*Store, error) {
	if err := cfg.Policy.Validate(); err != nil {
		return nil, err
	}
	if cfg.Parameters == (Parameters{}) {
		cfg.Parameters = DefaultParameters
	}
	if !cfg.Parameters.valid() {
		return nil, fmt.Errorf("argon2id with m=%d,t=%d,p=%d is out of bounds", cfg.Parameters.Memory, cfg.Parameters.Time, cfg.Parameters.Threads)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{kv, cfg}, nil
}

// Get reads one user's record, with the verifier. Errors: [ErrNotFound], [ErrErased], [ErrUnreadable].
func (s *Store) Get(ctx context.Context, user session.UserID) (Record, error) {
	r, _, err := s.get(ctx, user)
	return r, err
}

// Find reads the record of the user who logs in by the name. Errors: [ErrBadName] and those of [Store.Get].
func (s *Store) Find(ctx context.Context, name string) (Record, error) {
	key, err := keyOf(name)
	if err != nil {
		return Record{}, err
	}
	holder, _, err := s.holder(ctx, key)
	if err != nil {
		return Record{}, err
	}
	r, err := s.Get(ctx, holder)
	if err != nil {
		return Record{}, err
	}
	if keys, err := keysOf(r.Names); err != nil || !slices.Contains(keys, key) {
		return Record{}, ErrNotFound // a claim that a crash left behind: [Store.Sweep] takes it away
	}
	return r, nil
}

// List reads all users, ordered by id, with their verifiers hidden. A record that cannot be read is left out and
// reported in the error, beside the others.
func (s *Store) List(ctx context.Context) ([]Record, error) {
	var list []Record
	var failures []error
	err := s.each(ctx, userPrefix+"*", func(e jetstream.KeyValueEntry) {
		user := session.UserID(strings.TrimPrefix(e.Key(), userPrefix))
		r, _, _, err := decodeRecord(user, e.Value())
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("user %s: %w", user, err))
		case r.erased.IsZero():
			list = append(list, r.hidden())
		}
	})
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(string(a.User), string(b.User)) })
	return list, errors.Join(append(failures, err)...)
}

// Create stores a new user whose names are claimed for its id, as the last of the three writes. Credential, Seed,
// Created and Changed are set here. The user has no password before [Store.SetPassword], unless the record brings an imported
// verifier or one of [Store.Hash]. Of any number of creations of one id exactly one succeeds; the others get [ErrExists].
func (s *Store) Create(ctx context.Context, r Record) (Record, error) {
	r = r.clone()
	r.Created = s.now()
	r.Changed = r.Created
	r.Credential = 1
	r.Seed = newSeed()
	data, err := r.encode()
	if err != nil {
		return Record{}, fmt.Errorf("create user %s: %w", r.User, err)
	}
	if err := s.claimed(ctx, r.User, r.Names); err != nil {
		return Record{}, fmt.Errorf("create user %s: %w", r.User, err)
	}
	_, err = s.kv.Create(ctx, userPrefix+string(r.User), data)
	if errors.Is(err, jetstream.ErrKeyExists) {
		// The client library repeats a publish whose answer was lost, and then meets its own.
		if e, failed := s.kv.Get(ctx, userPrefix+string(r.User)); failed == nil && bytes.Equal(e.Value(), data) {
			err = nil
		} else {
			err = ErrExists
		}
	}
	if err == nil {
		err = s.claimFor(ctx, r.User, r.Names) // again: see dropMarkers
	}
	if err != nil {
		return Record{}, fmt.Errorf("create user %s: %w", r.User, err)
	}
	return r, nil
}

// Update changes a record and returns it as stored. change may be called again on a newer record when another command
// was faster; it must not keep what it is given. User, Credential, Seed, Created and Changed are not its to set: a
// changed verifier or API key raises Credential, which the caller then announces in the book.
//
// New names are claimed before the record is written and names given up are let go after it. A crash before the record
// leaves claims that lead to a record without the name, so to nobody; a crash after it leaves the old claims in the
// same state. Repeating the command finishes the first; [Store.Sweep] the second.
func (s *Store) Update(ctx context.Context, user session.UserID, change func(*Record) error) (Record, error) {
	for range 16 {
		old, revision, err := s.get(ctx, user)
		if err != nil {
			return Record{}, fmt.Errorf("update user %s: %w", user, err)
		}
		r := old.clone()
		if err := change(&r); err != nil {
			return Record{}, fmt.Errorf("update user %s: %w", user, err)
		}
		r.User, r.Credential, r.Seed, r.Created, r.Changed = old.User, old.Credential, old.Seed, old.Created, s.now()
		if len(r.Seed) == 0 {
			r.Seed = newSeed()
		}
		if r.Verifier != old.Verifier || !maps.EqualFunc(r.Keys, old.Keys, bytes.Equal) {
			r.Credential++
		}
		data, err := r.encode()
		if err != nil {
			return Record{}, fmt.Errorf("update user %s: %w", user, err)
		}
		if err := s.claimFor(ctx, user, r.Names); err != nil {
			return Record{}, fmt.Errorf("update user %s: %w", user, err)
		}
		_, err = s.kv.Update(ctx, userPrefix+string(user), data, revision)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			continue
		}
		if err == nil {
			err = s.claimFor(ctx, user, r.Names) // again: see dropMarkers
		}
		if err == nil {
			err = s.release(ctx, user, old.Names, r.Names)
		}
		if err != nil {
			return Record{}, fmt.Errorf("update user %s: %w", user, err)
		}
		return r, nil
	}
	return Record{}, fmt.Errorf("update user %s: %w", user, ErrContended)
}

// SetPassword gives the user a new verifier, of the next generation, and returns that generation for the book. Errors:
// [ErrPassword] with the reason, and those of [Store.Get].
func (s *Store) SetPassword(ctx context.Context, user session.UserID, password string) (credential uint64, err error) {
	var verifier Verifier
	r, err := s.Update(ctx, user, func(r *Record) error {
		if err := s.cfg.Policy.Check(password, r.Names); err != nil {
			return err
		}
		if verifier == "" { // hashed once, however often others are faster
			verifier = s.hash(password)
		}
		r.Verifier = verifier
		return nil
	})
	return r.Credential, err
}

// SetVerifier gives the user a verifier made elsewhere, or with the empty one takes the password away, and returns the
// generation for the book. Errors: [ErrBadVerifier], and those of [Store.Get].
func (s *Store) SetVerifier(ctx context.Context, user session.UserID, v Verifier) (credential uint64, err error) {
	r, err := s.Update(ctx, user, func(r *Record) error {
		r.Verifier = v
		return nil
	})
	return r.Credential, err
}

// Hash makes the verifier of a password that the policy accepts for a user of these names: for the record of a new
// user. An error is [ErrPassword] with the reason.
func (s *Store) Hash(password string, names []string) (Verifier, error) {
	if err := s.cfg.Policy.Check(password, names); err != nil {
		return "", err
	}
	return s.hash(password), nil
}

// hash hashes a password that the policy has accepted.
func (s *Store) hash(password string) Verifier {
	normal, _ := normalise(password)
	salt := make([]byte, newSalt)
	rand.Read(salt)
	hashed := newPHC(argon2.IDKey, s.cfg.Parameters, salt, normal)
	return hashed.verifier()
}

func (s *Store) now() time.Time { return s.cfg.Now().UTC().Round(0) }

func (s *Store) get(ctx context.Context, user session.UserID) (Record, uint64, error) {
	if !user.Valid() {
		return Record{}, 0, ErrNotFound
	}
	e, err := s.kv.Get(ctx, userPrefix+string(user))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Record{}, 0, ErrNotFound
	}
	if err != nil {
		return Record{}, 0, fmt.Errorf("read the record: %w", err)
	}
	r, _, _, err := decodeRecord(user, e.Value())
	if err == nil && !r.erased.IsZero() {
		err = ErrErased
	}
	if err != nil {
		return Record{}, 0, err
	}
	return r, e.Revision(), nil
}

// each calls fn for what the bucket holds under the pattern at this moment, without what was deleted or replaced.
func (s *Store) each(ctx context.Context, pattern string, fn func(jetstream.KeyValueEntry)) error {
	w, finish, err := watch(ctx, s.kv, pattern)
	if err != nil {
		return fmt.Errorf("read the directory: %w", err)
	}
	defer finish()
	newest := map[string]jetstream.KeyValueEntry{} // for a moment there are two of a key, and after a crash for longer
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-w.Updates():
			if !open {
				return errors.New("read the directory: the watch ended")
			}
			if e != nil {
				newest[e.Key()] = e
				continue
			}
			for _, e := range newest {
				if e.Operation() == jetstream.KeyValuePut {
					fn(e)
				}
			}
			return nil
		}
	}
}
