package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"rollbook/engine/session"
)

// Record is what the directory holds of one user: how to check what they present, and what to show of them. Whether
// they may log in at all (enabled, locked) is the book's to say.
type Record struct {
	User  session.UserID
	Names []string // login names, 1 to 16; the first is the one shown
	// Verifier checks the password. Empty: nothing to log in with.
	Verifier Verifier
	// Credential is the verifier's generation: 1 with the first, one more with each change, also to none.
	Credential uint64
	Venues     []session.Venue // where the user may log in; empty: everywhere
	First      string          // given name, may be empty
	Last       string          // family name, may be empty
	Scopes     []string        // access rights that a venue may grant, may be empty
	// Keys are the user's API keys by venue, sealed: see keys.go.
	Keys map[string][]byte
	// Seed is half of the key that the user's origins are sealed under: see origins.go. Empty: a user from before there
	// were seeds, whom the next change of the record gives one.
	Seed    Seed
	Created time.Time // UTC
	Changed time.Time // UTC

	erased  time.Time                  // set on what is left of an erased user, beside User alone
	unknown map[string]json.RawMessage // fields that a newer program wrote: kept
}

// LogValue is the user's id: names and verifier stay out of logs.
func (r Record) LogValue() slog.Value { return slog.StringValue(string(r.User)) }

// AllowedAt reports whether the user may log in at the venue.
func (r *Record) AllowedAt(venue session.Venue) bool {
	for _, v := range r.Venues {
		if v == venue {
			return true
		}
	}
	return len(r.Venues) == 0
}

// hidden is the record without its verifier, its seed and without a share in the original's lists.
func (r *Record) hidden() Record {
	c := r.clone()
	if c.Verifier != "" {
		c.Verifier = Hidden
	}
	for venue := range c.Keys {
		c.Keys[venue] = nil // that there is one may be shown
	}
	c.Seed = nil
	return c
}

func (r *Record) clone() Record {
	c := *r
	c.Names = append([]string(nil), r.Names...)
	c.Keys = maps.Clone(r.Keys)
	c.Seed = slices.Clone(r.Seed)
	c.Venues = append([]session.Venue(nil), r.Venues...)
	c.Scopes = append([]string(nil), r.Scopes...)
	return c
}

// recordVersion is raised only by a change that an older program must not read past.
const recordVersion = 1

// maxRecord bounds the stored form, in bytes.
const maxRecord = 64 << 10

// ErrUnreadable says that a stored record is not what this program can read: damaged, or written by a newer one. It is
// never guessed at. Put the record right, or upgrade.
var ErrUnreadable = errors.New("the directory holds a record that cannot be read")

// The stored form is a JSON object: an operator can read it with any NATS tool, and there are few records. Fields that
// this program does not know are kept when it changes a record, so that in a mixed deployment an older program does
// not take away what a newer one wrote. Keys are matched exactly, which is why the object is taken apart by hand.

type field struct {
	key string
	at  any
}

// fields lists the stored fields once, for reading and for writing, so that the two cannot drift apart.
func (r *Record) fields(version *int, venues *[]string) []field {
	return []field{
		{"version", version}, {"user", &r.User}, {"names", &r.Names}, {"verifier", (*string)(&r.Verifier)},
		{"credential", &r.Credential}, {"venues", venues}, {"first", &r.First}, {"last", &r.Last}, {"scopes", &r.Scopes},
		{"keys", &r.Keys}, {"seed", (*[]byte)(&r.Seed)}, {"created", &r.Created}, {"changed", &r.Changed}, {"erased", &r.erased},
	}
}

func (r *Record) encode() ([]byte, error) {
	if _, _, err := r.validate(); err != nil {
		return nil, err
	}
	version, venues := recordVersion, []string(nil)
	for _, v := range r.Venues {
		venues = append(venues, v.String())
	}
	object := make(map[string]json.RawMessage, len(r.unknown)+12)
	for key, value := range r.unknown {
		object[key] = value
	}
	for _, f := range r.fields(&version, &venues) {
		if reflect.ValueOf(f.at).Elem().IsZero() {
			continue
		}
		value, err := json.Marshal(f.at)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.key, err)
		}
		object[f.key] = value
	}
	data, err := json.Marshal(object) // in the order of the keys
	if err == nil && len(data) > maxRecord {
		err = fmt.Errorf("the record takes more than %d bytes", maxRecord)
	}
	return data, err
}

// decodeRecord reads the stored form of the user's record. An error is [ErrUnreadable] and holds nothing of the data.
func decodeRecord(user session.UserID, data []byte) (r Record, keys []nameKey, hashed *phc, err error) {
	unreadable := func(what string) (Record, []nameKey, *phc, error) {
		return Record{}, nil, nil, fmt.Errorf("%w: %s", ErrUnreadable, what)
	}
	object := map[string]json.RawMessage{}
	if len(data) > maxRecord || json.Unmarshal(data, &object) != nil {
		return unreadable("it is not a JSON object")
	}
	var version int
	var venues []string
	for _, f := range r.fields(&version, &venues) {
		value, present := object[f.key]
		if present && json.Unmarshal(value, f.at) != nil {
			return unreadable("the field " + f.key + " is not of its type")
		}
		delete(object, f.key)
		if f.key == "version" && version != recordVersion {
			return unreadable(fmt.Sprintf("it is of version %d", version))
		}
	}
	if len(object) > 0 {
		r.unknown = object
	}
	for _, name := range venues {
		venue, err := session.ParseVenue(name)
		if err != nil {
			// To pass over it could leave the list empty, which means everywhere.
			return unreadable("it names an unknown venue")
		}
		r.Venues = append(r.Venues, venue)
	}
	if r.User != user {
		return unreadable("it is another user's")
	}
	if keys, hashed, err = r.validate(); err != nil {
		return unreadable(err.Error())
	}
	return r, keys, hashed, nil
}

// validate checks what must hold of every stored record, and gives what a check of a password needs of it.
func (r *Record) validate() (keys []nameKey, hashed *phc, err error) {
	if !r.User.Valid() {
		return nil, nil, errors.New("the user id is not valid")
	}
	if !r.erased.IsZero() {
		return nil, nil, nil
	}
	if r.Credential == 0 {
		return nil, nil, errors.New("the credential's generation is not set")
	}
	if len(r.Seed) != 0 && len(r.Seed) != seedLength {
		return nil, nil, errors.New("the seed is not of its length")
	}
	for _, v := range r.Venues {
		if _, err := session.ParseVenue(v.String()); err != nil {
			return nil, nil, errors.New("it names an unknown venue")
		}
	}
	if keys, err = keysOf(r.Names); err != nil {
		return nil, nil, err
	}
	if r.Verifier != "" {
		parsed, err := parsePHC(r.Verifier)
		if err != nil {
			return nil, nil, err
		}
		hashed = &parsed
	}
	return keys, hashed, nil
}
