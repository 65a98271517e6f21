// Package history answers what happened, from the book.
//
// A [Reader] reads the pages that a question needs, folds their events into the sessions that they are of ([Roll]), and gives
// what was asked for: the events in order (Walk), who was logged in at a moment (At), or how much went on (Count). By user it
// reads the pages that the user is in: an [Indexer], in the process that writes a partition, keeps lists of them beside the
// book. What no list covers is read from the book, page by page. For a time it begins with the engine's newest snapshot before
// (begin.go). A [Report] is the same as one HTML file.
//
// Invariants:
//   - The book is the truth. A list only says where to look: what is found there is held against the question, and a list
//     that is missing, damaged, too old or of another book costs time alone.
//   - A list is written before the mark says that it is there. A crash in between leaves pages that are listed twice, which
//     does no harm, and never one that is listed nowhere.
//   - Time is the book's clock. A session is over at its deadline, whenever the event that says so was written.
//   - The lists say nothing that the book does not: the start of a user id's hash, and numbers of pages.
package history

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Book is the log of one partition, and the lists beside it: *[bus.Book].
type Book interface {
	Partition() bus.Partition
	// End is the last page as of now.
	End(ctx context.Context) (uint64, error)
	// Read gives the pages after+1 to through, in order.
	Read(ctx context.Context, after, through uint64, fn func(bus.StoredPage) error) error
	// HistoryMark and PutHistoryMark are the mark of the lists: nil when there is none.
	HistoryMark(ctx context.Context) ([]byte, error)
	PutHistoryMark(ctx context.Context, mark []byte) error
	// PutHistory adds a list to a bucket, of which there are [bus.HistoryBuckets]; History gives a bucket's, in order.
	PutHistory(ctx context.Context, bucket int, list []byte) error
	History(ctx context.Context, bucket int, fn func(list []byte) error) error
	// RestoreThrough gives the engine's newest good snapshot of the format that holds no page after the given one to read, and
	// returns its entry: a zero one when there is none.
	RestoreThrough(ctx context.Context, format, through uint64, read func(chunks iter.Seq2[[]byte, error]) error) (bus.Snapshot, bus.StoredPage, error)
}

// Query says which events are asked for. A zero field asks for all.
type Query struct {
	User    session.UserID
	Session session.SessionID
	Venue   session.Venue
	From    session.Instant // at or after this
	To      session.Instant // before this
	Types   []session.EventType
}

// wants says whether an entry is asked for.
func (q *Query) wants(e *Entry) bool {
	at := e.Event.When()
	switch {
	case q.From != 0 && at < q.From, q.To != 0 && at >= q.To:
		return false
	case len(q.Types) > 0 && !slices.Contains(q.Types, e.Event.Type()):
		return false
	case q.User != "" && e.User() != q.User && !e.ends(func(s *session.Session) bool { return s.User == q.User }):
		return false
	case q.Venue != session.NoVenue && e.Venue != q.Venue && !e.ends(func(s *session.Session) bool { return s.Venue == q.Venue }):
		return false
	case q.Session != (session.SessionID{}) && e.Session != q.Session &&
		!e.ends(func(s *session.Session) bool { return s.ID == q.Session }):
		return false
	}
	return true
}

// Entry is an event with what the book says of it elsewhere.
type Entry struct {
	Position bus.Position
	Event    session.Event
	Session  session.SessionID // that it is of; zero: of none
	Venue    session.Venue     // its own, or its session's; none: of no venue, or its session is not in what was read
	Client   string            // its own, or its session's
	Ended    []session.Session // that it ended by covering them, in order of their start: of a SessionsRevoked
}

// User is whose the event is; empty when it is nobody's in particular.
func (e *Entry) User() session.UserID { return e.Event.Whose() }

// ends says whether the entry ended a session that matches.
func (e *Entry) ends(match func(*session.Session) bool) bool {
	for i := range e.Ended {
		if match(&e.Ended[i]) {
			return true
		}
	}
	return false
}

// page is a page of the book with its events as they are stored.
type page struct {
	seq    uint64
	time   session.Instant
	events [][]byte
}

func open(stored bus.StoredPage) (page, error) {
	raw, err := bus.DecodePage(stored.Data)
	if err != nil {
		return page{}, fmt.Errorf("page %d: %w", stored.Seq, err)
	}
	return page{stored.Seq, session.Instant(raw.Time), raw.Events}, nil
}

// event decodes one event.
func (p *page) event(i int) (session.Event, error) {
	e, err := session.DecodeEvent(p.events[i])
	if err != nil {
		return nil, fmt.Errorf("event %d of page %d: %w", i, p.seq, err)
	}
	return e, nil
}
