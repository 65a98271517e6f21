package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/engine/session"
)

// turn is what a courier knows while it has the lease. All of it is owned by the goroutine of deliver; attempts run on
// goroutines of their own and report to results.
type turn struct {
	*courier
	lease    uint64 // revision; 0: it is lost
	renewed  time.Time
	revision uint64 // of the position
	saved    uint64 // the page that the stored position names
	done     uint64 // all through this page is delivered or parked

	pages   chan bus.StoredPage
	results chan result

	order  []*openPage // pages after done, in order
	open   int         // items of all lines
	flying int         // attempts in flight
	lines  map[lineKey]*line
	ready  []*line // those whose first item may be tried, in order
	asleep []*line // those whose first item waits for its next attempt
}

// openPage is a page that is not done, and those after it that have nothing to deliver.
type openPage struct {
	through uint64 // the last of these pages
	time    session.Instant
	left    int // its items
}

// lineKey is what events keep their order in: a user. What was parked and is tried again has a line of its own: its user
// has gone on without it.
type lineKey struct {
	user  session.UserID
	again bus.Position
}

// line is the events of one user that wait, in order. Only the first is ever tried.
type line struct {
	key   lineKey
	items []*item
	due   time.Time // of the next attempt, while asleep
}

// item is one event on its way.
type item struct {
	at       bus.Position
	id       string
	body     []byte
	kind     session.EventType
	user     session.UserID
	attempts int
	page     *openPage // nil: it was parked
}

// result is the end of an attempt.
type result struct {
	line *line
	outcome
}

// take puts the events of a page into their lines.
func (t *turn) take(stored bus.StoredPage) error {
	raw, err := bus.DecodePage(stored.Data)
	if err != nil {
		return fmt.Errorf("%w: page %d: %w", errStuck, stored.Seq, err)
	}
	page := &openPage{through: stored.Seq, time: session.Instant(raw.Time)}
	for i, data := range raw.Events {
		it, err := t.item(bus.Position{Partition: t.book.Partition(), Page: stored.Seq, Index: uint32(i)}, data)
		if err != nil {
			return err
		}
		if it != nil {
			it.page = page
			page.left++
			t.enqueue(lineKey{user: it.user}, it)
		}
	}
	if n := len(t.order); page.left == 0 && n > 0 {
		t.order[n-1].through = stored.Seq
	} else {
		t.order = append(t.order, page)
	}
	t.advance()
	return nil
}

// item makes what is posted for a stored event; nil when the endpoint does not want it.
func (t *turn) item(at bus.Position, stored []byte) (*item, error) {
	head, err := session.ReadHeading(stored)
	if err == nil && !t.endpoint.wantsType(head.Type) {
		return nil, nil // most of the book, for most endpoints: it is not decoded
	}
	e, err := session.DecodeEvent(stored)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errStuck, at, err)
	}
	if !t.endpoint.wantsVenue(e) {
		return nil, nil
	}
	body, err := Body(at, e)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errStuck, at, err)
	}
	return &item{at: at, id: idOf(at, stored), body: body, kind: e.Type(), user: e.Whose()}, nil
}

// enqueue puts an item at the end of its line.
func (t *turn) enqueue(key lineKey, it *item) {
	l := t.lines[key]
	if l == nil {
		l = &line{key: key}
		t.lines[key] = l
		t.ready = append(t.ready, l)
	}
	l.items = append(l.items, it)
	t.open++
}

// advance moves the position over the pages at the front that have nothing left.
func (t *turn) advance() {
	n := 0
	for ; n < len(t.order) && t.order[n].left == 0; n++ {
		t.done = t.order[n].through
	}
	t.order = t.order[n:]
}

// start begins as many attempts as may be in flight, and gives a channel that wakes when the next one is due.
func (t *turn) start(ctx context.Context) <-chan time.Time {
	now := time.Now()
	var next time.Time
	still := t.asleep[:0]
	for _, l := range t.asleep {
		if !l.due.After(now) {
			t.ready = append(t.ready, l)
			continue
		}
		if still = append(still, l); next.IsZero() || l.due.Before(next) {
			next = l.due
		}
	}
	clear(t.asleep[len(still):])
	t.asleep = still
	for t.flying < t.endpoint.Parallel && len(t.ready) > 0 {
		l := t.ready[0]
		t.ready = t.ready[1:]
		it := l.items[0]
		it.attempts++
		t.flying++
		go func() {
			// An attempt in flight outlives the term's end: an answer that nobody hears is a delivery made twice.
			t.results <- result{l, t.post.post(context.WithoutCancel(ctx), it.id, it.body)}
		}()
	}
	if next.IsZero() {
		return nil
	}
	return time.After(time.Until(next))
}

// settle notes the end of an attempt. An event that was given up is parked before the position can pass it.
func (t *turn) settle(ctx context.Context, r result) error {
	t.flying--
	it := r.line.items[0]
	switch {
	case r.err == nil:
		t.w.metrics.delivered.WithLabelValues(t.endpoint.Name).Inc()
		if it.page == nil {
			if err := t.w.store.unpark(ctx, t.endpoint.Name, it.at); err != nil {
				return err
			}
		}
	case it.attempts < t.endpoint.Attempts:
		t.w.metrics.failed.WithLabelValues(t.endpoint.Name).Inc()
		r.line.due = time.Now().Add(t.pause(it.attempts, r.after))
		t.asleep = append(t.asleep, r.line)
		return nil
	default:
		t.w.metrics.failed.WithLabelValues(t.endpoint.Name).Inc()
		p := Parked{Type: it.kind, User: it.user, Attempts: it.attempts, Error: clip(r.err.Error()), Since: time.Now().UTC()}
		if err := t.w.store.park(ctx, t.endpoint.Name, it.at, p); err != nil {
			return err // the term begins again, and with it the attempts
		}
		t.w.metrics.parked.WithLabelValues(t.endpoint.Name).Inc()
		t.log.Warn("an event was parked", "position", it.at, "attempts", it.attempts, "err", p.Error)
	}
	t.open--
	r.line.items = r.line.items[1:]
	if len(r.line.items) == 0 {
		delete(t.lines, r.line.key)
	} else {
		t.ready = append(t.ready, r.line)
	}
	if it.page != nil {
		it.page.left--
		t.advance()
	}
	return nil
}

// pause is how long to wait after so many attempts.
func (t *turn) pause(attempts int, asked time.Duration) time.Duration {
	d := t.w.cfg.BackoffLast
	if n := attempts - 1; n < 32 && t.w.cfg.BackoffFirst<<n > 0 {
		d = min(d, t.w.cfg.BackoffFirst<<n)
	}
	d = d/2 + rand.N(d/2+1)
	return max(d, min(asked, t.w.cfg.BackoffLast))
}

// clip bounds what is stored of an error.
func clip(text string) string {
	if len(text) > 200 {
		return text[:200]
	}
	return text
}

// tryAgain takes up a parked event that an operator wants tried again.
func (t *turn) tryAgain(ctx context.Context, entry jetstream.KeyValueEntry) error {
	var p Parked
	_, at, ok := parseParked(entry.Key())
	key := lineKey{again: at}
	if entry.Operation() != jetstream.KeyValuePut || !ok || json.Unmarshal(entry.Value(), &p) != nil || !p.Again || t.lines[key] != nil {
		return nil
	}
	return t.book.Read(ctx, at.Page-1, at.Page, func(stored bus.StoredPage) error {
		raw, err := bus.DecodePage(stored.Data)
		if err != nil {
			return fmt.Errorf("%w: page %d: %w", errStuck, at.Page, err)
		}
		if int(at.Index) >= len(raw.Events) {
			t.log.Warn("a parked event is not in the book", "position", at)
			return nil
		}
		it, err := t.item(at, raw.Events[at.Index])
		if err == nil && it != nil {
			t.enqueue(key, it)
		}
		return err
	})
}

// measure tells the metrics how things stand.
func (t *turn) measure() {
	lag := 0.0
	if len(t.order) > 0 {
		lag = max(0, time.Since(t.order[0].time.Time()).Seconds())
	}
	t.w.metrics.lag.WithLabelValues(t.labels()...).Set(lag)
	t.w.metrics.waiting.WithLabelValues(t.labels()...).Set(float64(t.open))
}
