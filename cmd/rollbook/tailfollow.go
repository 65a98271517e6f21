package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/feed/subscribe"
)

// dirTail follows the feed of a data directory, from one instance that runs there to the next. It never opens the
// directory itself: whoever has its lock keeps rollbook serve from starting, and a follower stays for days.
type dirTail struct {
	place  place
	dir    string
	user   func(context.Context, *desk) (session.UserID, error) // nil: of all
	filter subscribe.Filter
	from   subscribe.Start // where to begin, and after an instance has gone where to go on
	print  func(subscribe.Event) error
	log    *slog.Logger

	known bool // an instance has been reached before
}

// lookAgain is how often a data directory is looked at for an instance.
const lookAgain = 100 * time.Millisecond

// errGone says that the instance on the data directory does not answer any more: another may run there, elsewhere.
var errGone = errors.New("the instance on the data directory has gone")

// run follows until ctx ends, or what no other instance mends.
func (t *dirTail) run(ctx context.Context) error {
	notBefore := t.from.Moment()
	all := t.print
	t.print = func(e subscribe.Event) error {
		if e.Time.Before(notBefore) { // an instance that comes later is asked from a position on, and not by time
			return nil
		}
		return all(e)
	}
	if _, runs := bus.FindRunning(t.dir); !runs {
		t.log.Warn("no service listens on the data directory: waiting for rollbook serve", "dir", t.dir)
		if t.from.Same(subscribe.Now()) { // now is when this command was given, and not when an instance comes
			notBefore = time.Now()
			t.from = subscribe.Since(notBefore)
		}
	}
	for {
		d, err := t.reach(ctx)
		if err != nil {
			return err
		}
		err = t.follow(ctx, d)
		d.close()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, errGone):
			return err
		}
		t.log.Warn("the instance on the data directory has gone: reconnecting to the next one", "dir", t.dir)
	}
}

// reach waits for an instance and connects to it. One that has just started may not have the book open, or may be gone
// again: for a while that is no error, and none at all once there has been one.
func (t *dirTail) reach(ctx context.Context) (*desk, error) {
	var failing time.Time
	told := false
	for {
		url, runs := bus.FindRunning(t.dir)
		if runs {
			d, err := t.connect(ctx, url)
			var no *refused
			switch {
			case err == nil:
				t.known = true
				return d, nil
			case errors.As(err, &no), !t.known && !failing.IsZero() && time.Since(failing) > startPatience:
				return nil, err
			case failing.IsZero():
				failing = time.Now()
			case !told && time.Since(failing) > startPatience:
				told = true
				t.log.Warn("the instance on the data directory cannot be followed, trying on", "err", err)
			}
		} else {
			failing = time.Time{}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}

// connect reaches an instance that has a feed. The connection has no log: what it would say when it breaks is said by run.
func (t *dirTail) connect(ctx context.Context, url string) (*desk, error) {
	b, err := t.place.connectRunning(ctx, url, t.dir, "rollbook tail", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	d := &desk{bus: b, log: t.log}
	if _, err = b.Feed(0).State(ctx); err == nil && t.user != nil {
		t.filter.User, err = t.user(ctx, d)
	}
	if errors.Is(err, bus.ErrNotCreated) {
		err = errors.Join(subscribe.ErrNoFeed, err)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	t.user = nil // an id that was found stays
	return d, nil
}

// follow prints what one instance publishes. It returns errGone when that does not answer any more: the client library
// would go on asking at an address where, after a restart, nobody is.
func (t *dirTail) follow(ctx context.Context, d *desk) error {
	conn := d.bus.Conn()
	status := conn.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer conn.RemoveStatusListener(status)
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	defer func() { <-ended }()
	defer cancel(nil)
	go func() {
		defer close(ended)
		select {
		case <-status:
			cancel(errGone)
		case <-watched.Done():
		}
	}()
	if !conn.IsConnected() { // it went before anybody listened
		return errGone
	}
	sub := subscribe.New(subscribe.Config{Conn: conn, Filter: t.filter, From: t.from, Log: t.log})
	err := sub.Run(watched, t.print)
	if c := sub.Cursor(); c.Stream != 0 { // else it did not come as far as to know where to begin
		t.from = subscribe.At(c)
	}
	if errors.Is(context.Cause(watched), errGone) {
		return errGone
	}
	return err
}
