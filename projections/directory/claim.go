package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

// A claim is the bucket's entry from a name's key to a user id. It is the authority on whose a name is: a name leads to
// a user when its claim names the user AND the user's record lists the name. The record alone could be in two hands,
// since the bucket knows no write of two keys; the claim alone could be what a crash left behind.

// claimPatience is how old a claim must be, that leads to a record without the name, before another user may have the
// name. Commands take seconds; one that was stopped for longer and then goes on does no harm, since the claim decides.
const claimPatience = 10 * time.Minute

// Claim reserves the login names of a new user and returns the id to register in the book and to create. A repeated
// command gets the id that the first try claimed: names that lead to an id without a record are gone on with, and so
// are two commands for one name at the same time, of which then one creates the record. Errors: [ErrBadName], and
// [ErrNameTaken] when a user has one of the names, or two unfinished tries claimed different ones.
func (s *Store) Claim(ctx context.Context, names []string) (session.UserID, error) {
	keys, err := keysOf(names)
	if err != nil {
		return "", err
	}
	user := session.UserID("")
	for _, key := range keys { // look before writing: a name that is taken must not cost the others a claim
		holder, e, err := s.holder(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("claim a name: %w", err)
		}
		r, _, err := s.get(ctx, holder)
		switch {
		case errors.Is(err, ErrErased) || err == nil && s.lapsed(&r, key, e): // to be taken over
		case errors.Is(err, ErrNotFound) && (user == "" || user == holder):
			user = holder
		case errors.Is(err, ErrNotFound) || err == nil:
			return "", ErrNameTaken
		default:
			return "", fmt.Errorf("claim a name: %w", err)
		}
	}
	if user == "" {
		user = NewUserID()
	}
	for i, key := range keys {
		holder, err := s.claim(ctx, key, user)
		switch {
		case err != nil:
			return "", fmt.Errorf("claim a name: %w", err)
		case holder == user:
		case i == 0:
			// Another command claimed the first name between the look and here: go on with its id, if it has no record.
			if _, _, err := s.get(ctx, holder); !errors.Is(err, ErrNotFound) {
				return "", ErrNameTaken
			}
			user = holder
		default:
			return "", ErrNameTaken
		}
	}
	return user, nil
}

// Remove erases a user: the verifier, the names, all that was stored beside them. Disable the user in the book first,
// which ends the sessions. What stays is the id, which says nothing of the person, so that a late command or a pod that
// was away cannot bring the user back.
//
// The record goes first, by one write: from then on nobody logs in. Then the claims, then the markers that deleting
// leaves in the bucket, whose keys hold the hash of the name. A crash in between is repaired by repeating the command,
// or by [Store.Sweep], when only the name is known and it leads nowhere any more. The bucket overwrites on the
// disk what is replaced and removed; copies of the disk, and a cluster's own logs for a while, are out of its reach. With
// the record goes the seed, and with that all that the book, the feed or a copy of them says of where the user came from.
// Errors: [ErrNotFound].
func (s *Store) Remove(ctx context.Context, user session.UserID) error {
	for range 16 {
		e, err := s.kv.Get(ctx, userPrefix+string(user))
		if errors.Is(err, jetstream.ErrKeyNotFound) || !user.Valid() {
			return fmt.Errorf("remove user %s: %w", user, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("remove user %s: %w", user, err)
		}
		// A record that cannot be read can be erased all the same.
		if r, _, _, err := decodeRecord(user, e.Value()); err != nil || r.erased.IsZero() {
			data, err := (&Record{User: user, erased: s.now()}).encode()
			if err != nil {
				return fmt.Errorf("remove user %s: %w", user, err)
			}
			_, err = s.kv.Update(ctx, userPrefix+string(user), data, e.Revision())
			if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
				continue
			}
			if err != nil {
				return fmt.Errorf("remove user %s: %w", user, err)
			}
		}
		return s.Sweep(ctx)
	}
	return fmt.Errorf("remove user %s: %w", user, ErrContended)
}

// Sweep takes away what commands that crashed left behind: claims of erased users, old claims that no record bears out,
// and the markers of deleted claims. Claims without any record stay: a repeated command goes on with them. It reads the
// whole bucket, and may run beside every other command.
func (s *Store) Sweep(ctx context.Context) error {
	claims, lists, err := s.survey(ctx)
	if err != nil {
		return err
	}
	for key, claim := range claims {
		keys, known := lists[session.UserID(claim.Value())]
		idle := known && !slices.Contains(keys, key) && s.now().Sub(claim.Created()) > claimPatience
		if !idle && !(known && keys == nil) {
			continue
		}
		err := s.kv.Purge(ctx, claim.Key(), jetstream.LastRevision(claim.Revision()))
		if err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // a mismatch: somebody took it over just now
			return fmt.Errorf("sweep the directory: %w", err)
		}
	}
	return s.dropMarkers(ctx)
}

// survey reads all claims, and the keys of the names of all users whose record can be read; nil: erased.
func (s *Store) survey(ctx context.Context) (map[nameKey]jetstream.KeyValueEntry, map[session.UserID][]nameKey, error) {
	claims, lists := map[nameKey]jetstream.KeyValueEntry{}, map[session.UserID][]nameKey{}
	err := s.each(ctx, jetstream.AllKeys, func(e jetstream.KeyValueEntry) {
		if user, ok := strings.CutPrefix(e.Key(), userPrefix); ok {
			if _, keys, _, err := decodeRecord(session.UserID(user), e.Value()); err == nil {
				lists[session.UserID(user)] = keys
			}
		} else if text, ok := strings.CutPrefix(e.Key(), namePrefix); ok {
			if key, ok := parseNameKey(text); ok {
				claims[key] = e
			}
		}
	})
	return claims, lists, err
}

// markersPatience bounds the removal of markers: the client library awaits the server's answers without end.
const markersPatience = time.Minute

// dropMarkers removes the markers of deleted keys. The readers do not need them: that a user is gone is said by the
// erased record, which is a value and stays, and a claim counts for nothing without a record.
//
// The server offers no removal bound to a revision. A name that is claimed anew between the look at its marker and the
// removal loses that claim. So whoever writes a record claims its names once more after the write, and here a claim that
// a record misses is made again after the removal: whichever of the two comes last sees what the other did. A crash in
// between is repaired by the next sweep.
func (s *Store) dropMarkers(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, markersPatience)
	defer cancel()
	if err := s.kv.PurgeDeletes(bounded, jetstream.DeleteMarkersOlderThan(-1)); err != nil {
		return fmt.Errorf("sweep the directory: %w", err)
	}
	claims, lists, err := s.survey(ctx)
	if err != nil {
		return err
	}
	for user, keys := range lists {
		if !slices.ContainsFunc(keys, func(key nameKey) bool { return claims[key] == nil }) {
			continue
		}
		r, _, err := s.get(ctx, user) // as it is now: a name may have been given up since
		if err == nil {
			err = s.claimFor(ctx, user, r.Names)
		}
		if err != nil && !errors.Is(err, ErrErased) && !errors.Is(err, ErrNameTaken) {
			return fmt.Errorf("sweep the directory: %w", err)
		}
	}
	return nil
}

// holder is the id that a name's claim leads to, and the claim's revision; or [ErrNotFound].
func (s *Store) holder(ctx context.Context, key nameKey) (session.UserID, jetstream.KeyValueEntry, error) {
	e, err := s.kv.Get(ctx, namePrefix+key.String())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", nil, ErrNotFound
	}
	if err != nil {
		return "", nil, fmt.Errorf("read a claim: %w", err)
	}
	user := session.UserID(e.Value())
	if !user.Valid() {
		return "", nil, fmt.Errorf("%w: a claim without a user id", ErrUnreadable)
	}
	return user, e, nil
}

// claim makes the name the user's if it is free, and returns whose it then is. A claim that leads to an erased user, or
// for a while now to a record without the name, is taken over, bound to its revision: of two that try, one does.
func (s *Store) claim(ctx context.Context, key nameKey, user session.UserID) (session.UserID, error) {
	for range 16 {
		_, err := s.kv.Create(ctx, namePrefix+key.String(), []byte(user))
		if err == nil {
			return user, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return "", err
		}
		holder, e, err := s.holder(ctx, key)
		if errors.Is(err, ErrNotFound) {
			continue // let go just now
		}
		if err != nil || holder == user {
			return holder, err
		}
		idle, err := s.idle(ctx, key, holder, e)
		if err != nil || !idle {
			return holder, err
		}
		_, err = s.kv.Update(ctx, namePrefix+key.String(), []byte(user), e.Revision())
		if err == nil {
			return user, nil
		}
		if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return "", err
		}
	}
	return "", ErrContended
}

func (s *Store) idle(ctx context.Context, key nameKey, holder session.UserID, claim jetstream.KeyValueEntry) (bool, error) {
	r, _, err := s.get(ctx, holder)
	switch {
	case errors.Is(err, ErrErased):
		return true, nil
	case errors.Is(err, ErrNotFound):
		return false, nil // an unfinished creation
	case err != nil:
		return false, err
	}
	return s.lapsed(&r, key, claim), nil
}

// lapsed reports whether a claim that leads to the record has stood for long without the record's listing the name.
func (s *Store) lapsed(r *Record, key nameKey, claim jetstream.KeyValueEntry) bool {
	keys, err := keysOf(r.Names)
	return err == nil && !slices.Contains(keys, key) && s.now().Sub(claim.Created()) > claimPatience
}

// claimFor claims all the names for a user.
func (s *Store) claimFor(ctx context.Context, user session.UserID, names []string) error {
	keys, err := keysOf(names)
	if err != nil {
		return err
	}
	for _, key := range keys {
		holder, err := s.claim(ctx, key, user)
		if err != nil {
			return fmt.Errorf("claim a name: %w", err)
		}
		if holder != user {
			return ErrNameTaken
		}
	}
	return nil
}

// claimed checks that the user holds the claims of all the names.
func (s *Store) claimed(ctx context.Context, user session.UserID, names []string) error {
	keys, err := keysOf(names)
	if err != nil {
		return err
	}
	for _, key := range keys {
		switch holder, _, err := s.holder(ctx, key); {
		case errors.Is(err, ErrNotFound) || err == nil && holder != user:
			return fmt.Errorf("a name is not claimed for this user: %w", ErrNameTaken)
		case err != nil:
			return err
		}
	}
	return nil
}

// release lets go of the names that the user no longer has.
func (s *Store) release(ctx context.Context, user session.UserID, old, kept []string) error {
	oldKeys, err := keysOf(old)
	if err != nil {
		return err
	}
	keptKeys, err := keysOf(kept)
	if err != nil {
		return err
	}
	released := false
	for _, key := range oldKeys {
		if slices.Contains(keptKeys, key) {
			continue
		}
		holder, e, err := s.holder(ctx, key)
		if errors.Is(err, ErrNotFound) || err == nil && holder != user {
			continue
		}
		if err != nil {
			return err
		}
		err = s.kv.Purge(ctx, namePrefix+key.String(), jetstream.LastRevision(e.Revision()))
		if err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("let go of a name: %w", err)
		}
		released = true
	}
	if !released {
		return nil
	}
	return s.dropMarkers(ctx)
}
