package session

import (
	"cmp"
	"slices"
)

// BookRestored: what stands before it was read from a backup, and what the book held beyond that is not here. It changes
// no state by itself: the sessions that a restore ends have events of their own.
type BookRestored struct {
	Header
	Page uint64   // the last page that was restored, this event's is the next; 0: the book was empty
	Root [32]byte // of the Merkle tree over the restored pages, as the notary has it
	Made Instant  // when the backup was begun
	Kept bool     // the sessions and one-time tokens of the backup were left as they were
}

// Type implements [Event].
func (*BookRestored) Type() EventType { return "BookRestored" }
func (*BookRestored) kind() uint64    { return kindBookRestored }

func (x *BookRestored) fields(c *coder) {
	x.Header.fields(c)
	c.uint(&x.Page)
	c.hash((*TokenHash)(&x.Root))
	c.instant(&x.Made)
	c.bool(&x.Kept)
}

// Retire lists the events after which nothing that the state knows can be presented any more: every session ends as
// [Restored], the oldest first, and what one-time tokens are then open count as used. A state that was restored knows
// neither who has logged out since nor which token was redeemed.
func (s *State) Retire(now Instant) []Event {
	var live []Session
	s.EachSession(func(l Session) { live = append(live, l) })
	slices.SortFunc(live, func(a, b Session) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	var events []Event
	for _, l := range live {
		events = append(events, &SessionEnded{Header: Header{now, l.User}, Session: l.ID, Reason: Restored})
	}
	var open []*oneTime
	for _, t := range s.oneTime {
		if t.session == (SessionID{}) { // the others end with their sessions
			open = append(open, t)
		}
	}
	slices.SortFunc(open, func(a, b *oneTime) int { return slices.Compare(a.token[:], b.token[:]) })
	for _, t := range open {
		events = append(events, &OneTimeRedeemed{Header: Header{now, t.user}, Venue: t.venue, Token: t.token})
	}
	return events
}
