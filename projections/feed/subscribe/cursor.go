package subscribe

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Position is where an event stands in the book. Within a partition positions are totally ordered.
type Position struct {
	Partition uint16
	Page      uint64 // from 1
	Index     uint32 // in the page, from 0
}

// String is "partition/page.index", as in "0/17.3".
func (p Position) String() string { return fmt.Sprintf("%d/%d.%d", p.Partition, p.Page, p.Index) }

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	part, rest, ok1 := strings.Cut(s, "/")
	page, index, ok2 := strings.Cut(rest, ".")
	p, err1 := strconv.ParseUint(part, 10, 16)
	g, err2 := strconv.ParseUint(page, 10, 64)
	i, err3 := strconv.ParseUint(index, 10, 32)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return Position{}, fmt.Errorf("position %q is not of the form partition/page.index", s)
	}
	return Position{uint16(p), g, uint32(i)}, nil
}

// Compare orders positions of one partition: -1, 0 or +1.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Partition, q.Partition), cmp.Compare(p.Page, q.Page), cmp.Compare(p.Index, q.Index))
}

// Cursor is where a subscription is. As text it is one line, the same for everybody who keeps it: the creation of the
// stream in unix ns, the last sequence that is done with, the last position of each partition that was seen, and the restores
// in the past of the book, in order.
type Cursor struct {
	Stream    int64
	Sequence  uint64
	Positions map[uint16]Position
	Restored  []Restore
}

// String is the cursor on one line.
func (c Cursor) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d", c.Stream, c.Sequence)
	for _, p := range slices.Sorted(maps.Keys(c.Positions)) {
		b.WriteString(" " + c.Positions[p].String())
	}
	for _, r := range c.Restored {
		b.WriteString(" " + r.String())
	}
	return b.String()
}

// ParseCursor reads what String wrote.
func ParseCursor(s string) (Cursor, error) {
	words := strings.Fields(s)
	if len(words) < 2 {
		return Cursor{}, fmt.Errorf("%q is no cursor", s)
	}
	created, err1 := strconv.ParseInt(words[0], 10, 64)
	seq, err2 := strconv.ParseUint(words[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Cursor{}, fmt.Errorf("%q is no cursor: %w", s, err)
	}
	c := Cursor{Stream: created, Sequence: seq, Positions: map[uint16]Position{}}
	for _, word := range words[2:] {
		if r, err := parseRestore(word); err == nil {
			c.Restored = append(c.Restored, r)
			continue
		}
		p, err := ParsePosition(word)
		if err != nil {
			return Cursor{}, fmt.Errorf("%q is no cursor: %w", s, err)
		}
		c.Positions[p.Partition] = p
	}
	return c, nil
}

// File keeps a cursor. It is written whole after each batch of events and at the end: after a crash the last events come
// again. For those to whom each event may come but once, see [Event.Cursor].
type File struct{ path string }

// NewFile is the file at a path, which need not be there yet.
func NewFile(path string) *File { return &File{path} }

// Load reads the cursor; ok is false when there is none yet.
func (f *File) Load() (c Cursor, ok bool, err error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return Cursor{}, false, nil
	}
	if err == nil {
		c, err = ParseCursor(string(bytes.TrimSpace(text)))
	}
	if err != nil {
		return Cursor{}, false, fmt.Errorf("read the cursor: %w", err)
	}
	return c, true, nil
}

// Save writes the cursor: a crash leaves the old one or the new one.
func (f *File) Save(c Cursor) error {
	tmp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+"-*")
	if err != nil {
		return fmt.Errorf("keep the cursor: %w", err)
	}
	_, err = tmp.WriteString(c.String() + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("keep the cursor: %w", err)
	}
	return nil
}

// Start is where a subscription begins.
type Start struct {
	all    bool
	since  time.Time
	behind *Position
	at     *Cursor
}

// Now begins with what comes after the end of the feed.
func Now() Start { return Start{} }

// Beginning begins with the oldest event that the feed has.
func Beginning() Start { return Start{all: true} }

// Since begins with the events that happened at a time or later, as far as the feed has them.
func Since(t time.Time) Start { return Start{since: t} }

// Behind begins with what stands in the feed behind an event: later events of its partition, and what was published after
// it of the others.
func Behind(p Position) Start { return Start{behind: &p} }

// At goes on where an earlier subscription was.
func At(c Cursor) Start { return Start{at: &c} }

// Moment is the time of [Since], and zero for every other start.
func (s Start) Moment() time.Time { return s.since }

// Same reports whether two subscriptions would begin alike.
func (s Start) Same(as Start) bool {
	same := func(a, b *Position) bool { return a == b || a != nil && b != nil && *a == *b }
	text := func(c *Cursor) string {
		if c == nil {
			return ""
		}
		return c.String()
	}
	return s.all == as.all && s.since.Equal(as.since) && same(s.behind, as.behind) && text(s.at) == text(as.at)
}

// begin finds the sequence to begin with.
func (s *Subscription) begin(ctx context.Context) error {
	from := s.cfg.From
	if s.cfg.File != nil {
		c, ok, err := s.cfg.File.Load()
		if err != nil {
			return err
		}
		if ok {
			from = At(c)
			s.saved = c.Sequence
		}
	}
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	s.known = state.Last
	switch {
	case from.at != nil:
		for p, at := range from.at.Positions {
			s.cursor.Positions[p] = at
		}
		s.next = from.at.Sequence + 1
		if from.at.Stream != state.Created {
			// The stream was made anew and its sequences say nothing; what was seen is dropped by position, unless the book is
			// another one behind those positions.
			if err := from.at.parted(state.Restored); err != nil {
				return err
			}
			s.cfg.Log.Warn("the feed was made anew: it is read from its beginning, without what was seen")
			s.next = state.First
		}
	case from.all:
		s.next = state.First
	case from.behind != nil:
		p := *from.behind
		subject := subjectEvents + strconv.Itoa(int(p.Partition)) + ".*.*"
		var seen bool
		s.next, err = s.search(ctx, state, subject, func(f *found) bool {
			at, err := ParsePosition(f.header.Get(headerPosition))
			before := err == nil && at.Compare(p) <= 0
			seen = seen || before
			return !before
		})
		if err == nil && !seen && p.Page > 0 && state.First > 1 {
			err = fmt.Errorf("%w: it begins after %s", ErrGap, p)
		}
	case !from.since.IsZero():
		s.since = from.since
		s.next, err = s.search(ctx, state, subjectEvents+">", func(f *found) bool { return !f.stored.Before(from.since) })
	default:
		s.next = state.Last + 1
	}
	if err != nil {
		return err
	}
	s.next = max(s.next, 1)
	s.cursor.Stream, s.cursor.Sequence, s.cursor.Restored = state.Created, s.next-1, state.Restored
	return nil
}

// search finds the sequence of which all messages with the subject from there on are past something, by halving: past is
// false for the older ones and true for the younger.
func (s *Subscription) search(ctx context.Context, state stateOf, subject string, past func(*found) bool) (uint64, error) {
	low, high := max(state.First, 1), state.Last+1
	for low < high {
		middle := low + (high-low)/2
		f, err := s.ask(ctx, middle, subject)
		if err != nil {
			return 0, err
		}
		if f == nil || past(f) {
			high = middle
		} else {
			low = f.seq + 1
		}
	}
	return low, nil
}
