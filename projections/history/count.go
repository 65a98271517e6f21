package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rollbook/engine/session"
)

// Counted says what is counted.
type Counted struct {
	Venue session.Venue   // none: all
	From  session.Instant // zero: the first event
	To    session.Instant // before this; zero: the end of the book
	By    Step            // how long a stretch of the result is
	Zone  *time.Location  // in which hours and days begin; nil: UTC
}

// Step is the length of a stretch.
type Step int

// The steps. A day is a calendar day of the zone: 23 or 25 hours where the clocks change.
const (
	ByHour Step = iota
	ByDay
)

// Counts are how much went on.
type Counts struct {
	From, To  session.Instant // from the first to the last stretch; both zero when nothing was found
	Events    uint64          // that were read for it
	Logins    uint64
	Refreshes uint64
	Refusals  map[session.Refusal]uint64   // of logins, by code
	Ends      map[session.EndReason]uint64 // of sessions, by reason
	Peak      uint64                       // the most sessions that were live at once
	PeakAt    session.Instant              // when first
	Stretches []Stretch                    // in order, without a gap
}

// Stretch is an hour or a day.
type Stretch struct {
	From    session.Instant
	Logins  uint64
	Refused uint64
	Ended   uint64
	Peak    uint64 // the most sessions that were live at once; those that were when it began count
	PeakAt  session.Instant
}

// maxStretches bounds a result: a day's worth of hours over a hundred years is a mistake in a setting.
const maxStretches = 1 << 20

// Count reads the book once, from the newest snapshot before the time that is counted. It keeps 16 bytes in memory for each session in it, so that peaks are exact.
func (r *Reader) Count(ctx context.Context, what Counted) (Counts, error) {
	c := &counter{what: what, result: Counts{Refusals: map[session.Refusal]uint64{}, Ends: map[session.EndReason]uint64{}},
		stretches: map[session.Instant]*Stretch{}}
	if c.what.Zone == nil {
		c.what.Zone = time.UTC
	}
	for _, book := range r.cfg.Books {
		pages, state, err := r.within(ctx, book, what.From, 0)
		if err != nil {
			return Counts{}, fmt.Errorf("partition %s: %w", book.Partition(), err)
		}
		r.total.Add(pages.through - pages.after)
		c.open(state)
		err = r.pages(ctx, book, []span{pages}, func(p page) error {
			past := c.what.To != 0 && len(p.events) > 0
			for i := range p.events {
				e, err := p.event(i)
				if err != nil {
					return err
				}
				past = past && e.When() >= c.what.To
				c.take(e)
			}
			if past {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return Counts{}, fmt.Errorf("partition %s: %w", book.Partition(), err)
		}
		for _, s := range c.live { // whose end is not in what was read
			if s.Deadline() <= c.clock {
				c.end(s, c.clock, session.Expired)
			} else {
				c.end(s, session.Forever, 0)
			}
		}
	}
	return c.finish()
}

// ByDays makes days of hours, in a zone: the same counts without reading the book again.
func (c Counts) ByDays(zone *time.Location) Counts {
	by := counter{what: Counted{By: ByDay, Zone: zone}}
	hours := c.Stretches
	c.Stretches = nil
	for _, h := range hours {
		begin := by.begin(h.From)
		n := len(c.Stretches)
		if n == 0 || c.Stretches[n-1].From != begin {
			c.Stretches = append(c.Stretches, Stretch{From: begin, Peak: h.Peak, PeakAt: h.PeakAt})
			n++
		}
		day := &c.Stretches[n-1]
		day.Logins, day.Refused, day.Ended = day.Logins+h.Logins, day.Refused+h.Refused, day.Ended+h.Ended
		if h.Peak > day.Peak {
			day.Peak, day.PeakAt = h.Peak, h.PeakAt
		}
	}
	if n := len(c.Stretches); n > 0 {
		c.From, c.To = c.Stretches[0].From, by.next(c.Stretches[n-1].From)
	}
	return c
}

// counter is a count on its way.
type counter struct {
	what      Counted
	result    Counts
	stretches map[session.Instant]*Stretch // by their beginning
	live      map[session.SessionID]*session.Session
	clock     session.Instant // the latest that was read of this book
	first     session.Instant // of what is in the range; zero: nothing
	last      session.Instant

	starts, ends []session.Instant // of all sessions that were live in the range
}

// open begins a book, with the sessions that were live before what is read of it; nil: none.
func (c *counter) open(state *session.State) {
	c.live, c.clock = map[session.SessionID]*session.Session{}, 0
	if state == nil {
		return
	}
	c.clock = state.Clock()
	state.EachSession(func(s session.Session) {
		if c.venue(s.Venue) {
			c.live[s.ID] = &s
		}
	})
}

// within says whether an instant is asked for.
func (c *counter) within(at session.Instant) bool {
	return at >= c.what.From && (c.what.To == 0 || at < c.what.To)
}

func (c *counter) venue(v session.Venue) bool {
	return c.what.Venue == session.NoVenue || c.what.Venue == v
}

func (c *counter) take(e session.Event) {
	at := e.When()
	c.clock = max(c.clock, at)
	if c.what.To != 0 && at >= c.what.To {
		return
	}
	c.result.Events++
	c.saw(at)
	switch e := e.(type) {
	case *session.SessionStarted:
		if c.venue(e.Venue) {
			s := e.Begin()
			c.live[e.Session] = &s
			if c.within(at) {
				c.result.Logins++
				c.stretch(at).Logins++
			}
		}
	case *session.SessionRefreshed:
		if s := c.live[e.Session]; s != nil {
			e.Renew(s)
			if c.within(at) {
				c.result.Refreshes++
			}
		}
	case *session.SessionTouched:
		if s := c.live[e.Session]; s != nil {
			e.Note(s)
		}
	case *session.SessionEnded:
		c.end(c.live[e.Session], at, e.Reason)
	case *session.SessionsRevoked:
		for _, s := range c.live {
			if e.Covers(s) {
				c.end(s, at, session.Revoked)
			}
		}
	case *session.LoginRejected:
		if c.venue(e.Venue) && c.within(at) {
			c.result.Refusals[e.Refusal]++
			c.stretch(at).Refused++
		}
	}
}

// end takes a session out: at its deadline, if that came first. Without a reason it is the end of what was read.
func (c *counter) end(s *session.Session, at session.Instant, why session.EndReason) {
	if s == nil {
		return
	}
	delete(c.live, s.ID)
	if deadline := s.Deadline(); deadline <= at {
		at = deadline
		if why != 0 {
			why = session.Expired
		}
	}
	if why != 0 && c.within(at) {
		c.saw(at)
		c.result.Ends[why]++
		c.stretch(at).Ended++
	}
	if at > c.what.From && at > s.Started {
		c.starts, c.ends = append(c.starts, s.Started), append(c.ends, at)
	}
}

// saw widens what the stretches reach over.
func (c *counter) saw(at session.Instant) {
	if !c.within(at) {
		return
	}
	if c.first == 0 || at < c.first {
		c.first = at
	}
	c.last = max(c.last, at)
}

// begin is when the stretch of an instant begins.
func (c *counter) begin(at session.Instant) session.Instant {
	t := at.Time().In(c.what.Zone)
	if c.what.By == ByDay {
		return session.At(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, c.what.Zone))
	}
	// Subtracting, and not time.Date: where the clocks go back an hour stands twice on them.
	_, offset := t.Zone()
	const hour = int64(time.Hour)
	local := int64(at) + int64(offset)*int64(time.Second)
	return session.Instant(local - ((local%hour)+hour)%hour - int64(offset)*int64(time.Second))
}

// next is when the stretch after this one begins.
func (c *counter) next(begin session.Instant) session.Instant {
	if c.what.By == ByHour {
		return c.begin(begin.Add(time.Hour))
	}
	t := begin.Time().In(c.what.Zone)
	return session.At(time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, c.what.Zone))
}

func (c *counter) stretch(at session.Instant) *Stretch {
	begin := c.begin(at)
	s := c.stretches[begin]
	if s == nil {
		s = &Stretch{From: begin}
		c.stretches[begin] = s
	}
	return s
}

// finish puts the stretches in order and finds the peaks.
func (c *counter) finish() (Counts, error) {
	if c.first == 0 {
		return c.result, nil
	}
	for begin := c.begin(c.first); begin <= c.last; begin = c.next(begin) {
		s := c.stretches[begin]
		if s == nil {
			s = &Stretch{From: begin}
		}
		if c.result.Stretches = append(c.result.Stretches, *s); len(c.result.Stretches) > maxStretches {
			return Counts{}, fmt.Errorf("more than %d stretches", maxStretches)
		}
	}
	c.result.From = c.result.Stretches[0].From
	c.result.To = c.next(c.result.Stretches[len(c.result.Stretches)-1].From)
	c.peaks()
	return c.result, nil
}

// peaks walks through the starts and ends in order. At an instant where one session ends and another starts there is one.
func (c *counter) peaks() {
	slices.Sort(c.starts)
	slices.Sort(c.ends)
	i, j := 0, 0
	live := func(at session.Instant) uint64 { // each end comes after its start, so that this is never less than none
		for ; i < len(c.starts) && c.starts[i] <= at; i++ {
		}
		for ; j < len(c.ends) && c.ends[j] <= at; j++ {
		}
		return uint64(i - j)
	}
	for n := range c.result.Stretches {
		s := &c.result.Stretches[n]
		s.PeakAt = max(s.From, c.what.From)
		s.Peak = live(s.PeakAt)
		for until := c.next(s.From); i < len(c.starts) && c.starts[i] < until && c.starts[i] <= c.last; {
			at := c.starts[i]
			if n := live(at); n > s.Peak {
				s.Peak, s.PeakAt = n, at
			}
		}
		if s.Peak > c.result.Peak {
			c.result.Peak, c.result.PeakAt = s.Peak, s.PeakAt
		}
	}
}
