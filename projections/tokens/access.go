package tokens

import (
	"encoding/binary"

	"rollbook/engine/session"
)

// accessTable finds the live session of an access token: the question that every request of every client asks. On a
// machine where a miss of the caches costs more than the hash of the token, the answer stands in the table itself: an
// entry fills one cache line and holds all that a check needs, so that a look-up waits for memory about once.
//
// Open addressing with linear probing and backward-shift deletion. 256 shards grow one by one, so that growing never
// holds readers up for long.
type accessTable struct {
	shards [256]accessShard
}

type accessShard struct {
	entries []accessEntry // a power of two of them, or none
	used    int
}

// accessEntry is 64 bytes. An entry without a session id is free.
type accessEntry struct {
	key      key120
	session  session.SessionID
	user     session.UserID // shares the interned text
	deadline session.Instant
	noteFrom session.Instant
}

// key120 is the first 120 bits of a token's hash, and in the last byte the venue of the session.
type key120 struct{ high, low uint64 }

func keyOf120(h *session.TokenHash) key120 {
	return key120{binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:]) &^ 0xff}
}

func (k key120) is(other key120) bool { return k.high == other.high && (k.low^other.low)>>8 == 0 }

func (e *accessEntry) free() bool { return e.session == (session.SessionID{}) }

func (e *accessEntry) live() session.Live {
	return session.Live{ID: e.session, User: e.user, Deadline: e.deadline, NoteFrom: e.noteFrom, Venue: session.Venue(e.key.low)}
}

func entryOf(k key120, live session.Live) accessEntry {
	k.low |= uint64(live.Venue)
	return accessEntry{key: k, session: live.ID, user: live.User, deadline: live.Deadline, noteFrom: live.NoteFrom}
}

func (t *accessTable) shard(k key120) *accessShard { return &t.shards[k.high>>56] }

// home is where the entry of a key belongs when nothing stands in the way.
func (s *accessShard) home(k key120) uint64 { return k.high & uint64(len(s.entries)-1) }

// seek is where the entry of a key stands; not found: the free place where the search ended.
func (s *accessShard) seek(k key120) (at uint64, found bool) {
	mask := uint64(len(s.entries) - 1)
	for at = s.home(k); !s.entries[at].free(); at = (at + 1) & mask {
		if s.entries[at].key.is(k) {
			return at, true
		}
	}
	return at, false
}

// find is the live session of a token.
func (t *accessTable) find(h *session.TokenHash) (session.Live, bool) {
	k := keyOf120(h)
	s := t.shard(k)
	if len(s.entries) == 0 {
		return session.Live{}, false
	}
	at, found := s.seek(k)
	if !found {
		return session.Live{}, false
	}
	return s.entries[at].live(), true
}

// put adds a token, or replaces what is known of it.
func (t *accessTable) put(h *session.TokenHash, live session.Live) {
	k := keyOf120(h)
	s := t.shard(k)
	if (s.used+1)*5 > len(s.entries)*3 { // at most 60 % full
		s.grow()
	}
	at, found := s.seek(k)
	if !found {
		s.used++
	}
	s.entries[at] = entryOf(k, live)
}

func (s *accessShard) grow() {
	old := s.entries
	s.entries = make([]accessEntry, max(8, 2*len(old)))
	for i := range old {
		if !old[i].free() {
			at, _ := s.seek(old[i].key)
			s.entries[at] = old[i]
		}
	}
}

// remove takes a token out, and moves those up that stood further on because of it.
func (t *accessTable) remove(h *session.TokenHash) {
	k := keyOf120(h)
	s := t.shard(k)
	if len(s.entries) == 0 {
		return
	}
	hole, found := s.seek(k)
	if !found {
		return
	}
	s.used--
	mask := uint64(len(s.entries) - 1)
	for i := (hole + 1) & mask; !s.entries[i].free(); i = (i + 1) & mask {
		// The entry may fill the hole unless its home lies behind the hole, on the way to where it stands.
		if (i-s.home(s.entries[i].key))&mask >= (i-hole)&mask {
			s.entries[hole] = s.entries[i]
			hole = i
		}
	}
	s.entries[hole] = accessEntry{}
}
