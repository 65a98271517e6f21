// Package subscribe reads the feed: each event that matches, once, in order, from wherever the reader left off.
//
// A [Subscription] reads what is stored by batched direct get, from a sequence on, and gives each event to a function.
// When that was all, as the stream's leader knows it, it waits for the feed's bell, which the server rings when a batch of
// events has been stored, for a restored connection, or for two seconds of silence, and reads on. So it needs no consumer
// on the server, and no right to make one. [Event.Cursor] is where to go on after an event: whoever stores it together
// with what the event caused sees each event once, also when killed. [File] keeps it for those to whom an event may come again.
//
// Invariants:
//   - Events of one partition come in the order of their positions; one at or before a position that was seen is dropped.
//   - What stands at positions that were seen, in a book that was restored since, is an error, [ErrRestored].
//   - What retention took before it was read is an error, [ErrGap], and never passed over.
//   - The cursor is behind an event only when the function has returned without an error for it.
//   - Nothing is taken from a message that was heard: it may be of a batch that came to nothing.
package subscribe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"rollbook/engine/session"
)

var (
	// ErrGap says that the feed no longer has what comes next: its retention is shorter than the reader was away. What is
	// missing is in the book. Begin anew, with [Beginning] or [Now], knowing that events were missed.
	ErrGap = errors.New("the feed no longer has the events that come next")
	// ErrClosed says that the connection was closed.
	ErrClosed = errors.New("the connection is closed")
	// ErrNoFeed says that there is no stream EVENTS on this bus.
	ErrNoFeed = errors.New("there is no feed on this bus")
	// ErrRefused says that the server did not answer a question as it should; the text says how.
	ErrRefused = errors.New("the feed cannot be read")
)

// Event is an event of the feed.
type Event struct {
	Position Position
	Time     time.Time         // when it happened, by the book's clock
	User     session.UserID    // empty: it concerns no single user
	Type     session.EventType // such as "SessionStarted"
	Event    session.Event     // the same with all its fields, by type: *session.SessionStarted, ...
	Body     []byte            // as it stands in the book; see docs/events.md
	Sequence uint64            // in the stream EVENTS

	of *Subscription
}

// Cursor is where a subscription goes on after this event. It is valid within the function that the event was given to.
func (e Event) Cursor() Cursor {
	c := e.of.Cursor()
	c.Sequence = e.Sequence
	c.Positions[e.Position.Partition] = e.Position
	return c
}

// Filter says which events are wanted; its zero value wants all.
type Filter struct {
	User  session.UserID      // empty: of all, and of none
	Types []session.EventType // none: all
	Venue session.Venue       // zero: all; otherwise those that name this venue
}

// Config is what a subscription stands on.
type Config struct {
	// Conn is the connection, best from [Connect]. Required. It stays open.
	Conn   *nats.Conn
	Filter Filter
	// From is where to begin: [Now], [Beginning], [Since], [Behind] or [At]. The zero value is Now.
	From Start
	// File, unless nil, keeps the cursor, and where it has one, From does not count.
	File *File
	Log  *slog.Logger // nil means no logging
}

const (
	// silence is how long nothing is heard before the stream is asked.
	silence = 2 * time.Second
	// answerPatience is how long one question waits before it is asked again.
	answerPatience = 2 * time.Second
	retryFirst     = 10 * time.Millisecond
	retryLast      = time.Second
)

// Subscription reads the feed. Its methods but Run belong to the goroutine that Run calls the function on.
type Subscription struct {
	cfg  Config
	want string // the subjects of the events that may match

	// Owned by Run.
	next   uint64    // the sequence to read next
	since  time.Time // events that happened before are left out
	cursor Cursor
	saved  uint64 // the sequence that the file has
	known  uint64 // the stream reaches at least as far

	rung atomic.Uint64 // the last marker heard of
	poke chan struct{} // there may be something to read
}

// New makes a subscription; it starts nothing.
func New(cfg Config) *Subscription {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	user, kind := "*", "*"
	if cfg.Filter.User != "" {
		user = token(cfg.Filter.User)
	}
	if len(cfg.Filter.Types) == 1 {
		kind = string(cfg.Filter.Types[0])
	}
	return &Subscription{cfg: cfg, want: subjectEvents + "*." + user + "." + kind, poke: make(chan struct{}, 1),
		cursor: Cursor{Positions: map[uint16]Position{}}}
}

// Cursor is a copy of where the subscription is.
func (s *Subscription) Cursor() Cursor {
	c := s.cursor
	c.Positions = maps.Clone(c.Positions)
	return c
}

// Run gives every event that matches to fn, for ever, on the caller's goroutine. It returns fn's error as it is, [ErrGap],
// [ErrRestored], [ErrClosed], [ErrNoFeed], [ErrRefused], or ctx's error. While the bus is away it waits.
func (s *Subscription) Run(ctx context.Context, fn func(Event) error) error {
	return s.run(ctx, fn, false)
}

// ReadAll is Run to the end of the feed, as it is when ReadAll gets there.
func (s *Subscription) ReadAll(ctx context.Context, fn func(Event) error) error {
	return s.run(ctx, fn, true)
}

func (s *Subscription) run(ctx context.Context, fn func(Event) error, once bool) (err error) {
	bell, err := s.cfg.Conn.Subscribe(subjectBells, s.heard)
	if err != nil {
		return fmt.Errorf("subscribe to the feed: %w", closedOr(err))
	}
	defer func() { _ = bell.Unsubscribe() }()
	status := s.cfg.Conn.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer s.cfg.Conn.RemoveStatusListener(status)
	read, err := s.newReader()
	if err != nil {
		return err
	}
	defer read.close()
	if err := s.begin(ctx); err != nil {
		return err // and the file keeps what it has: the cursor is not where that says yet
	}
	defer func() { err = errors.Join(err, s.save()) }()
	for {
		if err := s.catchUp(ctx, read, fn); err != nil || once {
			return err
		}
		quiet := time.NewTimer(silence)
		select {
		case <-s.poke:
		case <-quiet.C:
		case st := <-status:
			if st == nats.CLOSED {
				return ErrClosed
			}
		case <-ctx.Done():
			quiet.Stop()
			return ctx.Err()
		}
		quiet.Stop()
	}
}

// heard takes the bell: a marker was stored, and with it the events before it.
func (s *Subscription) heard(m *nats.Msg) {
	if seq, ok := headerUint(m.Header, headerSequence); ok && seq > s.rung.Load() {
		s.rung.Store(seq)
	}
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// catchUp reads to the end of the stream, as its leader knows it.
func (s *Subscription) catchUp(ctx context.Context, read *reader, fn func(Event) error) error {
	pause := retryFirst
	for {
		before := s.next
		more, err := s.batch(ctx, read, fn)
		if errors.Is(err, errNoAnswer) {
			s.cfg.Log.Debug("the feed does not answer, trying on", "sequence", s.next)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, retryLast)
			continue
		}
		if err != nil {
			return err
		}
		if s.next > before {
			pause = retryFirst
			if err := s.save(); err != nil {
				return err
			}
		}
		if more {
			continue
		}
		done, err := s.confirm(ctx)
		if done || err != nil {
			return err
		}
		// A replica that lags has answered, or there is more by now.
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// confirm asks the leader whether there is nothing more, and whether nothing left the stream unread.
func (s *Subscription) confirm(ctx context.Context) (done bool, err error) {
	s.known = max(s.known, s.rung.Load())
	reached := s.known
	found, err := s.ask(ctx, s.next, s.want)
	if err != nil || found != nil {
		return false, err
	}
	state, err := s.state(ctx)
	if err != nil {
		return false, err
	}
	if state.First > s.next && state.First <= state.Last+1 && s.next <= state.Last {
		return false, fmt.Errorf("%w: %d comes next, and %d is the first that is left", ErrGap, s.next, state.First)
	}
	if state.Last < reached {
		return false, nil // a new leader that does not know all yet
	}
	if s.next <= reached {
		s.next = reached + 1
		s.cursor.Sequence = reached
	}
	s.known = max(s.known, state.Last)
	return s.known <= reached, s.save()
}

// save writes the cursor to the file, when it has moved.
func (s *Subscription) save() error {
	if s.cfg.File == nil || s.cursor.Sequence == s.saved {
		return nil
	}
	if err := s.cfg.File.Save(s.cursor); err != nil {
		return err
	}
	s.saved = s.cursor.Sequence
	return nil
}

// give hands an event to fn, unless it was seen or does not match.
func (s *Subscription) give(e Event, fn func(Event) error) error {
	if seen, ok := s.cursor.Positions[e.Position.Partition]; ok && e.Position.Compare(seen) <= 0 {
		return nil
	}
	f := s.cfg.Filter
	wanted := !e.Time.Before(s.since) && (len(f.Types) == 0 || slices.Contains(f.Types, e.Type))
	if wanted && f.Venue != 0 {
		venue, ok := venueOf(e.Event)
		wanted = ok && venue == f.Venue
	}
	if wanted {
		if err := fn(e); err != nil {
			return err
		}
	}
	s.cursor.Positions[e.Position.Partition] = e.Position
	return nil
}
