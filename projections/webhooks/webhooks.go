// Package webhooks delivers the book's events to HTTPS endpoints of other systems.
//
// For each endpoint and partition there is a courier. It takes a lease in the bucket WEBHOOKS, reads how far its endpoint
// has come, follows the book from there, and posts every event that the endpoint wants, signed as the Standard Webhooks
// specification has it (https://www.standardwebhooks.com, v1, HMAC-SHA-256). An attempt that fails is repeated with growing
// pauses; an event that failed too often is parked, where an operator sees it and can have it tried again.
//
// Invariants:
//   - At least once: the position moves only over pages whose events were all delivered or parked, and is written after
//     that. A crash between a delivery and the write leads to a second delivery, under the same webhook-id.
//   - In order per user: no event is tried before the user's earlier ones have been delivered or parked. Users, and
//     endpoints, do not wait for each other, but for a bound on how much one courier keeps in memory.
//   - One process delivers an endpoint's partition at a time, unless a lease is lost while an attempt is in flight.
//   - Nothing is posted to an address of a private network unless the endpoint's own setting says so, whatever the name
//     resolves to; no redirect is followed; an answer is read to a bound and thrown away.
//   - No hash of a token and nothing sealed leaves: see [Body]. A secret is in no error, log, metric or stored value.
package webhooks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// Book is the log of one partition: *[bus.Book].
type Book interface {
	Partition() bus.Partition
	Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error
	Read(ctx context.Context, after, through uint64, fn func(bus.StoredPage) error) error
	End(ctx context.Context) (uint64, error)
}

// Config is what deliveries stand on. Required are Books, Store, Endpoints and Log.
type Config struct {
	Books     []Book // one a partition
	Store     jetstream.KeyValue
	Endpoints []Endpoint
	Agent     string // the User-Agent of the requests; "" means "rollbook"

	// Lease is how long a process may be silent before another takes its deliveries over. Zero: 10 s.
	Lease time.Duration
	// BackoffFirst is the pause after the first failed attempt; each further one is twice as long, up to BackoffLast. Half of
	// each is left to chance. Zero: 1 s and 1 h. BackoffLast bounds also what an endpoint may ask for with Retry-After.
	BackoffFirst, BackoffLast time.Duration
	// Save is the least time from one write of a position to the next. Zero: 1 s.
	Save time.Duration
	// Open is how many events of one courier may wait for their delivery; the book is read on when there is room. Zero: 10000.
	Open int
	Log  *slog.Logger
}

const usualLease = 10 * time.Second

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, usual time.Duration) {
		if *d <= 0 {
			*d = usual
		}
	}
	set(&c.Lease, usualLease)
	set(&c.BackoffFirst, time.Second)
	set(&c.BackoffLast, time.Hour)
	set(&c.Save, time.Second)
	if c.Open <= 0 {
		c.Open = 10_000
	}
	if c.Agent == "" {
		c.Agent = "rollbook"
	}
	return c
}

// Couriers deliver to all endpoints.
type Couriers struct {
	cfg     Config
	store   store
	holder  string // names this process in leases
	metrics *metrics
	list    []*courier
}

// New checks the endpoints and makes their couriers; it starts nothing.
func New(cfg Config) (*Couriers, error) {
	cfg = cfg.withDefaults()
	var id [8]byte
	_, _ = rand.Read(id[:]) // it does not fail
	w := &Couriers{cfg: cfg, store: store{cfg.Store}, holder: hex.EncodeToString(id[:]), metrics: newMetrics()}
	names := map[string]bool{}
	for _, e := range cfg.Endpoints {
		e = e.withDefaults()
		if err := e.Check(); err != nil {
			return nil, err
		}
		if names[e.Name] {
			return nil, fmt.Errorf("two webhook endpoints are called %q", e.Name)
		}
		names[e.Name] = true
		post := newPoster(e, cfg.Agent)
		for _, book := range cfg.Books {
			w.list = append(w.list, &courier{w: w, endpoint: e, book: book, post: post,
				log: cfg.Log.With("endpoint", e.Name, "partition", book.Partition())})
		}
	}
	return w, nil
}

// lease is what this process writes into a lease that it holds.
func (w *Couriers) lease(n uint64) leaseValue {
	return leaseValue{Holder: w.holder, N: n, Millis: w.cfg.Lease.Milliseconds()}
}

// Run delivers until ctx ends; attempts that are in flight then are waited for. It fails only when the book can not be
// read on: a page that is damaged, or of a newer program. What ails one endpoint, or the bucket, is logged and tried again.
func (w *Couriers) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, c := range w.list {
		running.Go(func() {
			if err := c.run(ctx); ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	if len(w.list) == 0 {
		<-ctx.Done()
	}
	running.Wait()
	return context.Cause(ctx)
}

// errStuck marks what no further attempt mends.
var errStuck = errors.New("the book can not be delivered on")

// run takes turns at the lease until ctx ends.
func (c *courier) run(ctx context.Context) error {
	told := ""
	for {
		err := c.term(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errStuck) {
			c.log.Error("webhooks are stuck", "err", err)
			return err
		}
		if errors.Is(err, errMoved) {
			continue
		}
		if text := fmt.Sprint(err); text != told { // the same again is no news
			told = text
			c.log.Warn("deliveries begin again", "err", err)
		}
		if err := sleep(ctx, c.w.cfg.Lease/4); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
