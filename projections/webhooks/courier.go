package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// courier delivers the events of one partition to one endpoint.
type courier struct {
	w        *Couriers
	endpoint Endpoint
	book     Book
	post     *poster
	log      *slog.Logger
}

// term is one holding of the lease: from its taking to its loss, or to the end of ctx.
func (c *courier) term(ctx context.Context) error {
	lease, err := c.hold(ctx)
	if err != nil {
		return err
	}
	defer c.post.close()
	t := &turn{courier: c, lease: lease, renewed: time.Now(), pages: make(chan bus.StoredPage), results: make(chan result),
		lines: map[lineKey]*line{}}
	err = t.deliver(ctx)
	if !errors.Is(err, errMoved) || t.lease != 0 {
		c.release(t.lease)
	}
	for _, gauge := range []interface{ DeleteLabelValues(...string) bool }{c.w.metrics.lag, c.w.metrics.waiting} {
		gauge.DeleteLabelValues(c.labels()...) // whoever delivers now knows them
	}
	return err
}

// hold waits until the lease is this process's, and gives its revision. Nobody's clock is compared with another's: a lease
// is over when it was seen unchanged for its whole length.
func (c *courier) hold(ctx context.Context) (uint64, error) {
	key, seen, since := leaseKey(c.endpoint.Name, c.book.Partition()), uint64(0), time.Time{}
	for {
		var held leaseValue
		revision, err := c.w.store.get(ctx, key, &held)
		if err != nil {
			return 0, err
		}
		now := time.Now()
		switch {
		case revision == 0, revision == seen && now.Sub(since) >= c.w.cfg.Lease, held.Holder == c.w.holder:
			revision, err = c.w.store.put(ctx, key, c.w.lease(held.N+1), revision)
			if err == nil {
				return revision, nil
			}
			if !errors.Is(err, errMoved) {
				return 0, err
			}
		case revision != seen:
			seen, since = revision, now
		}
		if err := sleep(ctx, c.w.cfg.Lease/8); err != nil {
			return 0, err
		}
	}
}

// releasePatience is how long the end of a term may take; a lease that is not given back runs out.
const releasePatience = 2 * time.Second

// release gives the lease back, if it is still ours, so that nobody has to wait for its end.
func (c *courier) release(revision uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	err := c.w.store.kv.Delete(ctx, leaseKey(c.endpoint.Name, c.book.Partition()), jetstream.LastRevision(revision))
	if err != nil && !overtaken(err) {
		c.log.Debug("a lease was not given back, and runs out", "err", err)
	}
}

// begin finds where to go on: at the position, or for a new endpoint where its setting says. That is written before
// anything is delivered, so that an endpoint's beginning does not move with a crash.
func (t *turn) begin(ctx context.Context) error {
	key := atKey(t.endpoint.Name, t.book.Partition())
	var at Progress
	revision, err := t.w.store.get(ctx, key, &at)
	if err != nil {
		return err
	}
	end, err := t.book.End(ctx)
	if err != nil {
		return err
	}
	if revision == 0 {
		if !t.endpoint.FromBeginning {
			at.Page = end
		}
		at.Saved = time.Now().UTC()
		if revision, err = t.w.store.put(ctx, key, at, 0); err != nil {
			return err
		}
		t.log.Info("a new webhook endpoint", "from_page", at.Page+1)
	}
	if at.Page > end {
		return fmt.Errorf("the position is page %d, and the book ends at %d: it is not the book that was delivered", at.Page, end)
	}
	t.revision, t.saved, t.done = revision, at.Page, at.Page
	return nil
}

// deliver does the work of a term, on this goroutine; others read the book and make the attempts, and are joined here.
func (t *turn) deliver(ctx context.Context) error {
	if err := t.begin(ctx); err != nil {
		return err
	}
	watch, err := t.w.store.kv.Watch(ctx, "parked."+t.endpoint.Name+"."+t.book.Partition().String()+".>")
	if err != nil {
		return err
	}
	defer func() { _ = watch.Stop() }()
	reading, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	failed := make(chan error, 1)
	running.Go(func() {
		err := t.book.Follow(reading, t.done, func(page bus.StoredPage) error {
			select {
			case t.pages <- page:
				return nil
			case <-reading.Done():
				return reading.Err()
			}
		})
		failed <- err
	})
	err = t.loop(ctx, watch.Updates(), failed)
	stop()
	t.drain()
	running.Wait()
	return err
}

// loop is the term's work until something ends it.
func (t *turn) loop(ctx context.Context, parked <-chan jetstream.KeyValueEntry, failed <-chan error) error {
	renew := time.NewTicker(t.w.cfg.Lease / 4)
	defer renew.Stop()
	save := time.NewTicker(t.w.cfg.Save)
	defer save.Stop()
	for {
		wake := t.start(ctx)
		pages := t.pages
		if t.open >= t.w.cfg.Open {
			pages = nil // the book waits
		}
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err = <-failed:
			if errors.Is(err, bus.ErrGap) {
				err = fmt.Errorf("%w: %w", errStuck, err)
			}
			return err
		case page := <-pages:
			err = t.take(page)
		case r := <-t.results:
			err = t.settle(ctx, r)
		case <-wake:
		case entry, open := <-parked:
			if !open {
				return errors.New("the parked events can not be watched")
			}
			if entry != nil {
				err = t.tryAgain(ctx, entry)
			}
		case <-renew.C:
			err = t.renew(ctx)
		case <-save.C:
			err = t.save(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// renew keeps the lease, and looks whether an operator has moved the position. While the bus is away the lease is kept for
// as long as nobody else can have taken it.
func (t *turn) renew(ctx context.Context) error {
	key := leaseKey(t.endpoint.Name, t.book.Partition())
	revision, err := t.w.store.put(ctx, key, t.w.lease(uint64(time.Now().Unix())), t.lease)
	switch {
	case errors.Is(err, errMoved):
		t.lease = 0
		return err
	case err == nil:
		t.lease, t.renewed = revision, time.Now()
	case time.Since(t.renewed) >= t.w.cfg.Lease:
		return err
	default:
		return nil
	}
	var at Progress
	revision, err = t.w.store.get(ctx, atKey(t.endpoint.Name, t.book.Partition()), &at)
	if err == nil && revision > t.revision {
		t.log.Info("the position was set from elsewhere", "page", at.Page)
		return errMoved
	}
	return nil
}

// save writes the position if it has moved.
func (t *turn) save(ctx context.Context) error {
	t.measure()
	if t.done == t.saved {
		return nil
	}
	revision, err := t.w.store.put(ctx, atKey(t.endpoint.Name, t.book.Partition()), Progress{t.done, time.Now().UTC()}, t.revision)
	switch {
	case errors.Is(err, errMoved):
		// Perhaps our own write, whose answer was lost: what is there is read, and no more than a page is delivered twice.
		return err
	case err != nil:
		return nil // tried again with the next tick; until then deliveries are only remembered here
	}
	t.revision, t.saved = revision, t.done
	return nil
}

// drain waits for the attempts in flight and writes the position a last time.
func (t *turn) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), t.endpoint.Timeout+releasePatience)
	defer cancel()
	for t.flying > 0 {
		if err := t.settle(ctx, <-t.results); err != nil {
			t.log.Debug("the end of a delivery was not noted, and it is made again", "err", err)
		}
	}
	if t.lease == 0 {
		return // somebody else's by now
	}
	ctx, cancel = context.WithTimeout(context.Background(), releasePatience)
	defer cancel()
	if err := t.save(ctx); err != nil && !errors.Is(err, errMoved) {
		t.log.Debug("the position was not written, and what came after it is delivered again", "err", err)
	}
}
