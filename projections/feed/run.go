package feed

import (
	"context"
	"time"

	"rollbook/bus"
)

// run is one go at publishing, from one marker until something fails. All of it is owned by the goroutine of loop.
type run struct {
	*part
	pages  <-chan []bus.FeedEvent
	marker bus.FeedMarker // the last one that is known to be stored

	waiting []bus.FeedEvent
	staged  Batch     // sent but for its end
	storing *storing  // a batch whose end was sent
	begun   time.Time // when the last batch began
}

// storing is a batch that the server is storing.
type storing struct {
	batch  Batch
	events int
	done   chan outcome
}

type outcome struct {
	marker bus.FeedMarker
	err    error
}

// loop gathers what waits and publishes it. While a batch is being stored the next one fills; once full it is sent, but
// its end, which names the marker that it follows, waits for the outcome. What is less than a batch begins one when the last
// has begun gatherFor ago.
func (r *run) loop(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	gathered := time.NewTimer(gatherFor)
	defer gathered.Stop()
	for {
		r.gather()
		if in, ok := r.ripe(); ok && in == 0 {
			if err := r.send(ctx); err != nil {
				return err
			}
			continue
		} else if ok {
			gathered.Reset(in)
		}
		var stored <-chan outcome
		if r.storing != nil {
			stored = r.storing.done
		}
		select {
		case events := <-r.pages:
			r.waiting = append(r.waiting, events...)
		case o := <-stored:
			if err := r.stored(o); err != nil {
				return err
			}
		case <-gathered.C:
		case <-look.C:
			if !r.Writing() {
				return errNotWriting
			}
		case <-keep.C:
			if err := r.keep(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ripe says in how long what waits is to be sent; it is not ok before there is more of it, or the last batch is stored.
func (r *run) ripe() (in time.Duration, ok bool) {
	switch {
	case len(r.waiting) >= r.most:
		return 0, true
	case len(r.waiting) == 0 || r.storing != nil:
		return 0, false
	}
	return max(gatherFor-time.Since(r.begun), 0), true
}

// gather takes what was read, up to a batch, without waiting.
func (r *run) gather() {
	for len(r.waiting) < r.most {
		select {
		case events := <-r.pages:
			r.waiting = append(r.waiting, events...)
		default:
			return
		}
	}
}

// send sends a batch, waits for the one before it, and has it stored.
func (r *run) send(ctx context.Context) error {
	if !r.Writing() {
		return errNotWriting
	}
	n := min(len(r.waiting), r.most)
	if err := r.makeRoom(ctx); err != nil {
		return err
	}
	r.begun = time.Now()
	at := r.waiting[n-1].At
	var err error
	if r.staged, err = r.Feed.Begin(r.waiting[:n], at); err != nil {
		<-r.room
		return err
	}
	if err := r.await(ctx); err != nil {
		return err
	}
	r.store(ctx, n)
	r.waiting = r.waiting[n:]
	if len(r.waiting) == 0 {
		r.waiting = nil // the array may be that of a large page
	}
	return nil
}

// makeRoom waits for the right to have a batch on its way. Whoever has one already does not wait for another, which might
// be for somebody who does the same.
func (r *run) makeRoom(ctx context.Context) error {
	if r.storing != nil {
		select {
		case r.room <- struct{}{}:
			return nil
		default:
		}
		if err := r.await(ctx); err != nil {
			return err
		}
	}
	select {
	case r.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// store ends the staged batch, which is stored while the next one gathers.
func (r *run) store(ctx context.Context, events int) {
	s := &storing{batch: r.staged, events: events, done: make(chan outcome, 1)}
	r.staged, r.storing = nil, s
	after := r.marker
	go func() {
		marker, err := s.batch.Commit(ctx, after)
		<-r.room
		s.done <- outcome{marker, err}
	}()
}

// await waits for the outcome of the batch that is being stored, if there is one.
func (r *run) await(ctx context.Context) error {
	if r.storing == nil {
		return nil
	}
	select {
	case o := <-r.storing.done:
		return r.stored(o)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stored takes an outcome. After anything but success this go is over: the marker is read again.
func (r *run) stored(o outcome) error {
	s := r.storing
	r.storing = nil
	if o.err != nil {
		r.progress.doubt(s, o.err)
		return o.err
	}
	r.marker = o.marker
	r.told = ""
	r.progress.published(r.marker.At, s.events)
	return nil
}

// keep publishes the marker again when half of the stream has come after it, or half of the time that the stream keeps
// anything has passed: a partition where nothing happens must not lose its place to what happens elsewhere.
func (r *run) keep(ctx context.Context) error {
	if r.storing != nil || r.marker.Seq == 0 || len(r.waiting) > 0 {
		return nil
	}
	state, err := r.Feed.State(ctx)
	if err != nil {
		return err
	}
	if r.marker.Stored.IsZero() {
		r.marker.Stored = state.Now // it is not older than the last look
	}
	old := state.MaxAge > 0 && state.Now.Sub(r.marker.Stored) > state.MaxAge/2
	if kept := state.Last - min(state.First, state.Last); !old && r.marker.Seq >= state.Last-kept/2 {
		return nil
	}
	if err := r.makeRoom(ctx); err != nil {
		return err
	}
	if r.staged, err = r.Feed.Begin(nil, r.marker.At); err != nil {
		<-r.room
		return err
	}
	r.store(ctx, 0)
	return r.await(ctx)
}

// drop gives up what is on its way. A batch whose end was sent may still be stored: whoever goes on finds its marker, or
// makes it fail.
func (r *run) drop() {
	if r.staged != nil {
		r.staged.Abandon()
		<-r.room
	}
	if r.storing != nil {
		_ = r.stored(<-r.storing.done) // its wait ended with ctx, or ends soon
	}
}
