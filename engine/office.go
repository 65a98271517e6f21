package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"rollbook/bus"
)

// When a writer gives its partition to the process that should have it: not before it has written for a while, so that
// partitions do not wander, and not before that process was preferred at several looks in a row.
const (
	handOverAfter = 3 * time.Second
	handOverLook  = presenceEvery
	handOverLooks = 3
)

var (
	// errDeposed says that another writer has opened a newer epoch.
	errDeposed = errors.New("another writer has taken over")
	// errHandOver ends a term in order: another process should write this partition.
	errHandOver = errors.New("the partition is handed over")
)

// hold writes for one term of office: until ctx ends, another writer is heard of or met, the partition is handed over,
// or something fails. A term that ends in order is resigned from.
func (w *Writer) hold(ctx context.Context) error {
	office := &office{w: w, epoch: w.epoch, since: time.Now()}
	term, end := context.WithCancelCause(ctx)
	if !w.cfg.Alone {
		// Paused for a while, a writer without work would otherwise never learn that another has taken over.
		stop, err := w.cfg.Book.Announcements(func(a bus.Announcement) {
			if a.Epoch > office.epoch {
				end(errDeposed)
			}
		})
		if err != nil {
			end(nil)
			return fmt.Errorf("listen for another writer: %w", err)
		}
		defer stop()
	}
	var beside sync.WaitGroup
	beside.Go(func() { office.announce(term, end) })
	if w.cfg.Leases != nil {
		known := w.state.Pods()
		beside.Go(func() { w.watchPods(term, known) })
	}
	err := w.write(term)
	if cause := context.Cause(term); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	end(nil)
	beside.Wait()
	if !w.cfg.Alone && (ctx.Err() != nil || errors.Is(err, errHandOver)) {
		w.resign(ctx, office)
	}
	return err
}

// office is a term of office as the goroutine beside Run keeps it.
type office struct {
	w     *Writer
	epoch uint64
	since time.Time

	// Owned by announce until it has returned.
	successor bus.EngineID // who should write; zero: we, or nobody in particular
	looks     int          // how often in a row
}

// announce says that this writer is there, and how far the book goes, until ctx ends. Now and then it looks whether
// another process should write, and ends the term for that.
func (o *office) announce(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	looked := o.since
	for ctx.Err() == nil {
		// A lost announcement is made up for by the next; a bus that is away is noticed by the append.
		_ = o.w.cfg.Book.Announce(o.announcement())
		if time.Since(looked) >= handOverLook {
			looked = time.Now()
			if o.yields() {
				end(errHandOver)
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (o *office) announcement() bus.Announcement {
	return bus.Announcement{Epoch: o.epoch, Last: o.w.announced.Load(), Time: o.w.cfg.Now().UnixNano(), Engine: o.w.cfg.Spread.id()}
}

// yields says whether the partition is to be handed over. Preferred is only who stands by with the book read.
func (o *office) yields() bool {
	preferred := o.w.cfg.Spread.preferred(o.w.cfg.Partition)
	if preferred == o.w.cfg.Spread.id() {
		preferred = bus.EngineID{}
	}
	if preferred != o.successor {
		o.successor, o.looks = preferred, 0
	}
	o.looks++
	return o.successor != (bus.EngineID{}) && o.looks >= handOverLooks && time.Since(o.since) >= handOverAfter && o.w.Role() == Writing
}

// resign leaves in the book how far the commands are done with, so that none that was refused is decided again, and says
// that we have stopped. When either is lost the successor takes over after a silence, as from a killed writer.
func (w *Writer) resign(ctx context.Context, o *office) {
	if !w.clean {
		return // a page is in doubt: nothing true can be said about the end of the book
	}
	if w.read != w.noted.read || w.source != w.noted.source {
		at := int64(w.clock())
		closing, err := bus.EncodePage(bus.Page{Epoch: w.epoch, Time: at, Incarnation: w.source, CommandsRead: w.read})
		if err != nil {
			return
		}
		seq, err := w.append(ctx, closing)
		if err != nil {
			w.cfg.Log.Warn("the last page of a term could not be stored", "partition", w.cfg.Partition, "err", err)
			return
		}
		w.last, w.lastTime, w.noted = seq, at, commandsRead{w.source, w.read}
		w.announced.Store(seq)
	}
	last := o.announcement()
	last.Resigns = true
	if ctx.Err() == nil {
		last.Successor = o.successor
	}
	if err := w.cfg.Book.Announce(last); err != nil {
		return
	}
	w.cfg.Metrics.resigned()
	w.cfg.Log.Info("resigned", "partition", w.cfg.Partition, "epoch", w.epoch, "page", w.last, "to", last.Successor.String())
}
