package adapterstest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"rollbook/engine/session"
)

// Person is somebody whom a directory knows.
type Person struct {
	User session.UserID
	// Names are what the person logs in by, whatever the case of the letters; the first is the one that is shown.
	Names []string
	// Password is the right one; when it is empty none is.
	Password string
	// Key is the API key; empty: none.
	Key []byte
	// Scopes are what a venue may grant.
	Scopes []string
	// Venues are those that the person may use; nil: all.
	Venues []session.Venue
	// Credential is the generation. Zero: 1.
	Credential uint64
}

// People is a directory in memory, by the contract of [adapters.Directory]; it compares where the real one hashes. A test
// changes it while pods ask it.
type People struct {
	mu    sync.Mutex
	all   []Person
	away  error         // when set, nothing is up to date
	lag   uint64        // how far the next answer's generation is behind
	hold  chan struct{} // when set, a check of a password waits for it
	now   int           // checks of passwords that run
	atMax int           // the most that ran at once
}

// NewPeople makes a directory of these people.
func NewPeople(all ...Person) *People {
	p := &People{}
	for _, person := range all {
		p.Put(person)
	}
	return p
}

// Put adds a person, or takes the place of what was known under that user id.
func (p *People) Put(person Person) {
	person.Credential = max(1, person.Credential)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(known Person) bool { return known.User == person.User })
	p.all = append(p.all, person)
}

// Change alters what is known of a user; of one whom nobody knows nothing is.
func (p *People) Change(user session.UserID, change func(*Person)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		if p.all[i].User == user {
			change(&p.all[i])
		}
	}
}

// Away makes the directory one that is not up to date, with that error; nil ends it.
func (p *People) Away(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = err
}

// Lag makes the next answer of Generation older by n, once.
func (p *People) Lag(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lag = n
}

// Hold keeps every check of a password waiting until release is called.
func (p *People) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := make(chan struct{})
	p.hold = hold
	return func() { close(hold) }
}

// MostAtOnce is the most checks of passwords that have run at the same time.
func (p *People) MostAtOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.atMax
}

// named and known find somebody; they are called with mu held.
func (p *People) named(name string) (Person, bool) {
	return p.first(func(person Person) bool {
		return slices.ContainsFunc(person.Names, func(own string) bool { return strings.EqualFold(own, name) })
	})
}

func (p *People) known(user session.UserID) (Person, bool) {
	return p.first(func(person Person) bool { return person.User == user })
}

func (p *People) first(is func(Person) bool) (Person, bool) {
	if i := slices.IndexFunc(p.all, is); i >= 0 {
		return p.all[i], true
	}
	return Person{}, false
}

func (p Person) mayUse(venue session.Venue) bool {
	return p.Venues == nil || slices.Contains(p.Venues, venue)
}

// Check judges a password.
func (p *People) Check(_ context.Context, venue session.Venue, name, password string) (session.Credential, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now++
	p.atMax = max(p.atMax, p.now)
	defer func() { p.now-- }()
	if hold := p.hold; hold != nil {
		p.mu.Unlock()
		<-hold
		p.mu.Lock()
	}
	if p.away != nil {
		return session.Credential{}, p.away
	}
	person, known := p.named(name)
	switch {
	case !known:
		return session.Credential{User: p.Decoy(name), Generation: 1, Verdict: session.NoSuchUser}, nil
	case person.Password == "" || person.Password != password || !person.mayUse(venue):
		return session.Credential{User: person.User, Generation: person.Credential, Verdict: session.Mismatched}, nil
	}
	return session.Credential{User: person.User, Generation: person.Credential, Verdict: session.Matched}, nil
}

// Find is the user of that name.
func (p *People) Find(name string) (session.UserID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, known := p.named(name)
	return person.User, known
}

// Name is the first of the user's names.
func (p *People) Name(user session.UserID) (string, bool) {
	profile, known := p.Profile(user)
	if !known {
		return "", false
	}
	return profile.Names[0], true
}

// Profile is the user's names and scopes.
func (p *People) Profile(user session.UserID) (session.Profile, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, known := p.known(user)
	return session.Profile{User: user, Names: slices.Clone(person.Names), Scopes: slices.Clone(person.Scopes)}, known
}

// Current is the error of Away.
func (p *People) Current(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away
}

// Doubt is nil: whom it does not know nobody knows.
func (p *People) Doubt(string) error { return nil }

// Generation is that of the user's credential, less what Lag said.
func (p *People) Generation(user session.UserID, venue session.Venue) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, known := p.known(user)
	lag := p.lag
	p.lag = 0
	return person.Credential - lag, known && person.mayUse(venue)
}

// Decoy is a user like any other, the same for the same name.
func (p *People) Decoy(name string) session.UserID {
	hash := session.HashToken(strings.ToLower(name))
	return session.UserID("decoy-" + session.SessionID(hash[:16]).String())
}

// Seal writes the origin down, in the clear, with the user: what a real directory seals can be told apart by whoever made
// it alone.
func (p *People) Seal(user session.UserID, o session.Origin) []byte {
	return append([]byte(string(user)+"\x00"), session.EncodeOrigin(o)...)
}

// Key is the user's API key.
func (p *People) Key(user session.UserID, venue session.Venue) ([]byte, uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	person, known := p.known(user)
	if !known || len(person.Key) == 0 || !person.mayUse(venue) {
		return nil, 0, false
	}
	return slices.Clone(person.Key), person.Credential, true
}
