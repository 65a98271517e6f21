package tokens

import (
	"strings"
	"time"

	"rollbook/engine/session"
)

// record is what is kept of one live session: no pointers, so that the garbage collector does not look inside.
type record struct {
	id                     session.SessionID
	handle                 session.Handle
	access, refresh, spent session.TokenHash
	started, lastActive    session.Instant
	until, accessUntil     session.Instant
	refreshUntil           session.Instant
	spentUntil             session.Instant
	previousLogin          session.Instant
	idle, accessIdle       time.Duration
	user, client           uint32 // numbers of interned values
	generation             uint32
	failed, rejected       uint32
	prev, next             slot   // of the same user
	scopes                 uint16 // number of an interned list
	venue                  session.Venue
	bound                  bool
}

// chain is a user's sessions, linked through their records.
type chain struct{ first, last slot }

// slab holds records in chunks, so that growing copies none.
type slab struct {
	chunks [][]record
	used   slot   // records ever taken
	freed  []slot // to be taken again
}

const chunk = 4096

func (s *slab) at(n slot) *record { return &s.chunks[(n-1)/chunk][(n-1)%chunk] }

func (s *slab) take() slot {
	if n := len(s.freed); n > 0 {
		at := s.freed[n-1]
		s.freed = s.freed[:n-1]
		return at
	}
	if s.used%chunk == 0 {
		s.chunks = append(s.chunks, make([]record, chunk))
	}
	s.used++
	return s.used
}

func (s *slab) free(n slot) {
	*s.at(n) = record{}
	s.freed = append(s.freed, n)
}

// names gives equal strings one number; number 0 is the empty string.
type names[T ~string] struct {
	list    []T
	numbers map[T]uint32
}

func newNames[T ~string]() names[T] {
	return names[T]{list: []T{""}, numbers: map[T]uint32{"": 0}}
}

func (n *names[T]) find(name T) (uint32, bool) {
	at, ok := n.numbers[name]
	return at, ok
}

func (n *names[T]) number(name T) uint32 {
	if at, ok := n.numbers[name]; ok {
		return at
	}
	at := uint32(len(n.list))
	n.list = append(n.list, name)
	n.numbers[name] = at
	return at
}

// scopeSets gives equal lists of scopes one number; number 0 is no scopes.
type scopeSets struct {
	list    [][]string
	numbers map[string]uint16
}

func newScopeSets() scopeSets {
	return scopeSets{list: [][]string{nil}, numbers: map[string]uint16{"": 0}}
}

func (s *scopeSets) number(scopes []string) uint16 {
	joined := strings.Join(scopes, "\x00")
	if at, ok := s.numbers[joined]; ok {
		return at
	}
	at := uint16(len(s.list))
	s.list = append(s.list, scopes)
	s.numbers[joined] = at
	return at
}
