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

// view is what the bucket says: where each claim leads, and how each user is checked. Claims and records are kept apart
// and joined when a name is looked up, so the order in which their entries arrive does not matter.
type view struct {
	users  map[session.UserID]*known
	claims map[nameKey]session.UserID // empty: a claim that cannot be read
}

// known is one user, as one entry of the bucket says; it does not change.
type known struct {
	record Record // its verifier is hidden; of a user whose record cannot be read: the last one that could be
	keys   []nameKey
	hashed *phc  // nil: nothing to log in with
	broken error // the record cannot be read
}

// astray stands for the user of a claim that cannot be read: it may be anybody's, so nothing is known.
var astray = &known{broken: fmt.Errorf("%w: a claim without a user id", ErrUnreadable)}

func newView() *view {
	return &view{users: make(map[session.UserID]*known), claims: make(map[nameKey]session.UserID)}
}

// find is whose the name is; nil: nobody's.
func (v *view) find(key nameKey) *known {
	user, claimed := v.claims[key]
	if claimed && user == "" {
		return astray
	}
	u := v.users[user]
	if u == nil || u.broken == nil && !slices.Contains(u.keys, key) {
		return nil // nobody's claim, or one that a crash left behind
	}
	return u
}

const (
	// rewatch is how long Run waits before it watches again after trouble.
	rewatch = 200 * time.Millisecond
	// lookOver is how often a watch is compared with the end of the bucket.
	lookOver = time.Second
	// watchPatience bounds the start and the end of a watch, and a question about the bucket.
	watchPatience = 5 * time.Second
)

// errBehind: the bucket has moved on and the watch has not.
var errBehind = errors.New("the watch has fallen silent")

// Run follows the bucket until ctx ends, and watches it again after any trouble: a watch begins with all that is there.
// It always returns ctx's error.
func (d *Directory) Run(ctx context.Context) error {
	for failures := 0; ; {
		through, err := d.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if through {
			failures = 0
		}
		if failures++; failures == 1 { // once for each time of trouble, which may be long
			d.log.Warn("the directory is watched again", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rewatch):
		}
	}
}

// follow is one watch: all that is there, then the changes. What is there replaces what was known as a whole, so that
// what went away unseen is gone, and a first part that breaks off changes nothing. through tells whether it came to that.
//
// The client library mends a watch by itself, but takes ten seconds or more to find out that it must, and cannot tell
// that the bucket was put back to an earlier state. So the watch is compared with the bucket's end: what was there at
// one look must have arrived by the next, unless entries are still coming in.
func (d *Directory) follow(ctx context.Context) (through bool, err error) {
	state, err := d.state(ctx)
	if err != nil {
		return false, fmt.Errorf("watch the directory: %w", err)
	}
	seen := state.LastSeq // the first part holds all up to here, and the end may be an entry that is gone
	keys := map[string]struct{}{}
	w, finish, err := watch(ctx, d.kv, jetstream.AllKeys)
	if err != nil {
		return false, fmt.Errorf("watch the directory: %w", err)
	}
	defer finish()
	ticker := time.NewTicker(lookOver)
	defer ticker.Stop()
	v, owed, before := newView(), uint64(0), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return through, ctx.Err()
		case <-ticker.C:
			if end, err := d.end(ctx); err != nil || !through {
				// The bus is away: what was known stays good, and the next look judges the watch.
			} else if end < seen || seen < owed && seen == before {
				return through, errBehind
			} else {
				owed, before = end, seen
			}
		case e, open := <-w.Updates():
			switch {
			case !open:
				return through, errors.New("the watch ended")
			case e == nil:
				d.lose(ctx, state, len(keys))
				d.replace(v)
				through, keys = true, nil
			default:
				d.apply(v, e)
				seen = max(seen, e.Revision())
				if !through && e.Key() != "" {
					keys[e.Key()] = struct{}{}
				}
			}
			if through {
				d.reach(seen)
			}
		}
	}
}

// lose notes how many keys the server counts and has not given. It says nothing of a bucket that has changed meanwhile: the
// next watch is a new look.
func (d *Directory) lose(ctx context.Context, before jetstream.StreamState, given int) {
	after, err := d.state(ctx)
	if err != nil || after.LastSeq != before.LastSeq || after.NumSubjects != before.NumSubjects {
		return
	}
	lost := max(int(after.NumSubjects)-given, 0)
	d.mu.Lock()
	d.lost = lost
	d.mu.Unlock()
	if lost > 0 {
		d.log.Error("entries of the directory cannot be read: their place on the bus's disk is damaged; names that are not "+
			"found are answered as unavailable until a backup is restored", "entries", lost, "read", given)
	}
}

// reach notes up to which revision the view is complete.
func (d *Directory) reach(revision uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if revision != d.reached {
		d.reached = revision
		close(d.moved)
		d.moved = make(chan struct{})
	}
}

// catchUpPatience is how long a check waits for the view to hold what the bucket held when it was asked.
const catchUpPatience = 2 * time.Second

// catchUp returns when the view holds all that the bucket held when it was called. Known names and unknown ones wait
// alike: whether a name is known is what nobody may tell by the time.
func (d *Directory) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	end, err := d.end(ctx)
	if err != nil {
		return fmt.Errorf("find the end of the directory: %w", err)
	}
	for {
		d.mu.RLock()
		reached, moved := d.reached, d.moved
		d.mu.RUnlock()
		if reached >= end {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: at revision %d of %d: %w", errBehind, reached, end, ctx.Err())
		}
	}
}

// end is the revision of the last write to the bucket, whatever it wrote.
func (d *Directory) end(ctx context.Context) (uint64, error) {
	state, err := d.state(ctx)
	return state.LastSeq, err
}

// state is the bucket's, as its leader knows it.
func (d *Directory) state(ctx context.Context) (state jetstream.StreamState, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	status, err := d.kv.Status(ctx)
	if err != nil {
		return state, err
	}
	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return state, errors.New("the bucket is not a stream")
	}
	return bucket.StreamInfo().State, nil
}

// replace makes the view the one that answers.
func (d *Directory) replace(v *view) {
	d.mu.Lock()
	d.view = v
	d.mu.Unlock()
	if !d.Ready() {
		close(d.ready)
	}
}

// apply takes one entry of the bucket into the view. Keys that are neither a user's nor a name's are passed over.
func (d *Directory) apply(v *view, e jetstream.KeyValueEntry) {
	put := e.Operation() == jetstream.KeyValuePut
	if text, ok := strings.CutPrefix(e.Key(), userPrefix); ok && session.UserID(text).Valid() {
		d.applyRecord(v, session.UserID(text), e.Value(), put)
	} else if text, ok := strings.CutPrefix(e.Key(), namePrefix); ok {
		if key, ok := parseNameKey(text); ok {
			d.applyClaim(v, key, session.UserID(e.Value()), put)
		}
	}
}

func (d *Directory) applyRecord(v *view, user session.UserID, data []byte, put bool) {
	var record Record
	var keys []nameKey
	var hashed *phc
	var err error
	if put {
		record, keys, hashed, err = decodeRecord(user, data)
	}
	if err != nil {
		d.log.Error("a user's record cannot be read: their logins fail until it is mended", "user", user, "err", err)
	}
	if record.Verifier != "" {
		record.Verifier = Hidden
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil:
		record = Record{User: user}
		if old := d.view.users[user]; old != nil {
			record = old.record // for the name to show
		}
		v.users[user] = &known{record: record, broken: err}
	case !put || !record.erased.IsZero():
		delete(v.users, user)
	default:
		v.users[user] = &known{record: record, keys: keys, hashed: hashed}
	}
}

func (d *Directory) applyClaim(v *view, key nameKey, user session.UserID, put bool) {
	if put && !user.Valid() {
		d.log.Error("a claim of a name cannot be read: logins by that name fail until it is mended")
		user = ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if put {
		v.claims[key] = user
	} else {
		delete(v.claims, key)
	}
}

// watch begins to watch the bucket's keys of the pattern. finish ends it and waits until its goroutines are done, or will
// be once the server answers.
func watch(ctx context.Context, kv jetstream.KeyValue, pattern string) (w jetstream.KeyWatcher, finish func(), err error) {
	ctx, cancel := context.WithCancel(ctx)            // a watch's helper goroutine lives as long as its context
	patience := time.AfterFunc(watchPatience, cancel) // the client library awaits the server's answer without end
	w, err = kv.Watch(ctx, pattern)
	patience.Stop() // too late: then the watch ends at once
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return w, func() {
		defer cancel()
		_ = w.Stop() // an error means that the connection is closed, which ends the watch as well
		for {        // the library's callback may be in the middle of handing something over
			select {
			case _, open := <-w.Updates():
				if !open {
					return
				}
			case <-time.After(watchPatience):
				return // a connection that closed as the watch began never ends it
			}
		}
	}, nil
}
