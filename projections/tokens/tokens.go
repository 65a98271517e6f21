// Package tokens answers: is this token good, and whose is it?
//
// It folds the session events of the book into an index by token hash, by session id, by the id that the venue shows,
// and by user. It is built for millions of live sessions: what is kept of one is a fixed-size record without pointers,
// in slabs that the garbage collector passes by, and an entry in the table of access tokens that answers a check without
// a second trip to memory. Look-ups allocate nothing.
//
// Invariants:
//   - It holds hashes only. A token is told by the first 120 or 128 bits of its SHA-256, which nobody can aim at.
//   - A session is found by all of its tokens or by none: it leaves every index under one lock.
//   - It never looks at a clock: whether a deadline has passed is for the one who asks.
package tokens

import (
	"sync"

	"rollbook/engine/session"
	"rollbook/projections"
)

// lately is how long (by the book's clock) the end of a session is remembered by its handle, so that a second logout
// finds it.
const lately = session.Instant(10 * 60 * 1e9)

// Index is the live sessions as of the page applied last. Its methods are safe for concurrent use.
type Index struct {
	mu sync.RWMutex
	// All below is guarded by mu: Apply takes it once a page.

	slab     slab
	access   accessTable   // the access tokens of live sessions
	tokens   map[key]place // their refresh tokens, and those that rotations replaced
	ids      map[session.SessionID]slot
	handles  map[session.Handle]slot // of sessions whose handle is not their id (any more)
	spent    map[slot][]key          // the refresh tokens that rotations replaced, of sessions that rotate
	oneTime  map[session.TokenHash]oneTime
	lapses   lapses // when they pass their deadlines
	users    names[session.UserID]
	ofUser   []chain // by user number: that user's sessions
	clients  names[string]
	scopes   scopeSets
	ended    map[session.Handle]ended // lately
	endings  []session.Handle         // the keys of ended, in order of time
	watchers map[session.SessionID][]chan struct{}
	ahead    ahead
}

// key is the first half of a token hash.
type key [16]byte

func keyOf(h session.TokenHash) key { return key(h[:16]) }

// slot is a record's place in the slab; zero is none.
type slot uint32

// place is a slot and, in the upper two bits, the kind of the token.
type place uint32

const kindShift = 30

func placeOf(s slot, k session.TokenKind) place { return place(s) | place(k)<<kindShift }

func (p place) slot() slot              { return slot(p & (1<<kindShift - 1)) }
func (p place) kind() session.TokenKind { return session.TokenKind(p >> kindShift) }

type ended struct {
	session.Session // ID, User and Venue alone
	at              session.Instant
}

// New is the index before the first page.
func New() *Index {
	return &Index{
		tokens: make(map[key]place), ids: make(map[session.SessionID]slot), handles: make(map[session.Handle]slot),
		spent: make(map[slot][]key), oneTime: make(map[session.TokenHash]oneTime),
		users: newNames[session.UserID](), clients: newNames[string](), scopes: newScopeSets(),
		ended: make(map[session.Handle]ended), watchers: make(map[session.SessionID][]chan struct{}), ahead: newAhead(),
	}
}

// Name implements [projections.Model].
func (*Index) Name() string { return "tokens" }

// Len is the number of live sessions.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.ids)
}

// Check finds the live session of an access token, whatever its deadline. It allocates nothing.
func (x *Index) Check(hash session.TokenHash) (session.Live, bool) {
	x.mu.RLock()
	live, found := x.access.find(&hash)
	x.mu.RUnlock()
	return live, found
}

// ByToken finds the session that any token belongs to, whatever its deadline; NoToken when there is none. It allocates
// nothing.
func (x *Index) ByToken(hash session.TokenHash) (session.Session, session.TokenKind) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if live, found := x.access.find(&hash); found {
		return x.session(x.slab.at(x.ids[live.ID])), session.AccessToken
	}
	at, ok := x.tokens[keyOf(hash)]
	if !ok {
		return session.Session{}, session.NoToken
	}
	return x.session(x.slab.at(at.slot())), at.kind()
}

// ByHandle finds a session by the id its venue shows. One that ended lately is found with its ID, User and Venue alone.
func (x *Index) ByHandle(h session.Handle) (session.Session, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, ok := x.handles[h]
	if !ok {
		at, ok = x.ids[session.SessionID(h)]
	}
	if ok {
		if r := x.slab.at(at); r.handle == h {
			return x.session(r), true
		}
	}
	e, ok := x.ended[h]
	return e.Session, ok
}

// ByID finds a live session.
func (x *Index) ByID(id session.SessionID) (session.Session, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	at, ok := x.ids[id]
	if !ok {
		return session.Session{}, false
	}
	return x.session(x.slab.at(at)), true
}

// ByUser lists a user's live sessions, the oldest first.
func (x *Index) ByUser(user session.UserID) []session.Session {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n, ok := x.users.find(user)
	if !ok {
		return nil
	}
	var list []session.Session
	for at := x.ofUser[n].first; at != 0; {
		r := x.slab.at(at)
		list = append(list, x.session(r))
		at = r.next
	}
	return list
}

// session spreads a record out.
func (x *Index) session(r *record) session.Session {
	return session.Session{
		ID: r.id, Handle: r.handle, User: x.users.list[r.user], Venue: r.venue, Client: x.clients.list[r.client], Bound: r.bound,
		Generation: r.generation, Started: r.started, LastActive: r.lastActive, Until: r.until, Idle: r.idle,
		Access: r.access, AccessUntil: r.accessUntil, AccessIdle: r.accessIdle,
		Refresh: r.refresh, RefreshUntil: r.refreshUntil, Spent: r.spent, SpentUntil: r.spentUntil,
		Failed: r.failed, Rejected: r.rejected, PreviousLogin: r.previousLogin, Scopes: x.scopes.list[r.scopes],
	}
}

var _ projections.Model = (*Index)(nil)
