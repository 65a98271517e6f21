package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

type serveCommand struct {
	serveSettings `embed:""`
	Demo          bool `help:"Serve this machine alone, with a user and resources to try things with. Without --data, in a directory that is removed at the end."`
}

// Help is shown by `serve --help`.
func (serveCommand) Help() string {
	return `Everything runs in this process: the bus with its streams on disk, the writer, the views of the book, and the
listeners. The first start in a data directory creates the book there. It has no user: add one, while it runs or not,
with rollbook user add NAME.

SIGINT and SIGTERM stop it in order: no new requests, those in progress are answered, sockets are closed, then the
writer, the views and the bus stop. A second signal ends the process at once; nothing that was promised is lost.`
}

// Run serves until a signal comes or a part fails.
func (c *serveCommand) Run(ctx context.Context, app *cli) error {
	if err := c.check(everything); err != nil {
		return err
	}
	usual := slog.LevelInfo
	if c.Demo {
		usual = slog.LevelWarn // the screen is to be read
	}
	log := app.Log.logger(os.Stderr, usual)
	if !c.Demo {
		c.warnInTheClear(log)
	}
	if c.busLeaves() {
		log.Warn("the bus is open to other machines, in the clear: whoever has a key file of the data directory can use it from there",
			"bus_listen", c.BusListen)
	}
	dir, cleanup, err := c.directory()
	if err != nil {
		return err
	}
	defer cleanup(log)
	h, err := buildHouse(ctx, &c.serveSettings, everything, dir, log)
	if err != nil || h == nil {
		return err
	}
	defer h.close()
	if c.Demo {
		return h.run(ctx, h.furnishDemo, func() error { return h.showDemo(c.Data != "") })
	}
	return h.run(ctx, nil, h.announce)
}

// directory finds the data directory, and with --demo makes or checks it. cleanup removes what is only for this run.
func (c *serveCommand) directory() (dir string, cleanup func(*slog.Logger), err error) {
	keep := func(*slog.Logger) {}
	if !c.Demo {
		if c.Bus != "" {
			return "", keep, nil
		}
		if dir, err = c.dir(); err == nil && marked(dir) && !loopback(c.Host) {
			err = refuse("demo", "%s was made by --demo and has a user whose password everybody can read: it is not served beyond this machine", dir)
		}
		return dir, keep, err
	}
	switch {
	case !loopback(c.Host):
		return "", keep, refuse("demo", "--demo has a password that everybody can read, and does not listen on --host %s", c.Host)
	case c.Bus != "":
		return "", keep, refuse("demo", "--demo has a bus of its own: leave --bus out")
	case c.Data == "":
		if dir, err = os.MkdirTemp("", "rollbook-demo-"); err != nil {
			return "", keep, fmt.Errorf("make a directory for the demo: %w", err)
		}
		cleanup = func(log *slog.Logger) {
			if err := os.RemoveAll(dir); err != nil {
				log.Warn("the demo's directory stays behind", "dir", dir, "err", err)
			}
		}
	case holdsBook(c.Data) && !marked(c.Data):
		return "", keep, refuse("demo", "%s was not made by --demo: a user with a password that everybody can read does not belong there", c.Data)
	default:
		dir, cleanup = c.Data, keep
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = mark(dir)
	}
	return dir, cleanup, err
}

// announce says in the log that the service is ready, and how to go on when it is new.
func (h *house) announce() error {
	at := []any{"operations", url(h.operationsAt)}
	if h.dir != "" {
		at = append(at, "dir", h.dir)
	}
	for _, d := range h.doors {
		at = append(at, d.venue.String(), h.doorURL(d, "http"))
	}
	h.log.Info("ready", at...)
	if !h.roles.venues {
		return nil
	}
	if users, _ := h.directory.Counts(); users > 0 {
		return nil
	}
	where := "--data " + h.dir
	if h.embedded == nil {
		where = "--bus URL --creds FILE"
	}
	h.log.Info("nobody can log in yet: add a user with: rollbook user add NAME " + where)
	return nil
}

// stage is one part while it runs. It has a context of its own, so that the parts stop one after the other.
type stage struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// begin runs a part in the group. A part that ends before it is told to has failed, and ends the group.
func begin(ctx context.Context, g *errgroup.Group, name string, run func(context.Context) error) *stage {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &stage{cancel: cancel, done: make(chan struct{})}
	g.Go(func() error {
		defer close(s.done)
		err := run(ctx)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			return nil
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return fmt.Errorf("%s: %w", name, err)
	})
	return s
}

func (s *stage) stop() {
	s.cancel()
	<-s.done
}

// run runs all parts until ctx ends or one fails, and stops them in order: first what lets requests in, last what they
// need. prepare, unless nil, is called when all parts but the venues do their work, ready when those are served too.
func (h *house) run(ctx context.Context, prepare func(context.Context) error, ready func() error) error {
	g, failing := errgroup.WithContext(ctx)
	operations, venues := h.servers()
	atOperations := begin(ctx, g, "operations", operations.Run)
	order := h.begin(ctx, g) // in which they stop

	err := h.awaitReady(failing)
	if err == nil && prepare != nil {
		err = prepare(failing)
	}
	if err == nil {
		if h.roles.venues {
			order = append([]*stage{begin(ctx, g, "the venues", serveTogether(venues))}, order...)
		}
		h.status.phase.Store(phaseServing)
		err = ready()
	}
	if err == nil {
		<-failing.Done()
	}
	h.log.Info("stopping")
	h.status.phase.Store(phaseStopping)
	for _, s := range append(order, atOperations) {
		s.stop()
	}
	if failed := g.Wait(); failed != nil {
		return failed
	}
	if ctx.Err() != nil {
		return nil // a signal, at whatever moment it came
	}
	return err
}

// begin runs the parts that this process has, but for what listens, and gives them in the order in which they stop: the
// gate's notes of use need the writers, and the writers' neighbours are told last that the process goes.
func (h *house) begin(ctx context.Context, g *errgroup.Group) (order []*stage) {
	var views []*stage
	if h.roles.venues {
		views = append(views, begin(ctx, g, "read the directory", h.directory.Run), begin(ctx, g, "follow the book", h.follower.Run))
		if h.nebula != nil {
			order = append(order, begin(ctx, g, "Nebula's keys", h.nebula.Run))
		}
		order = append(order, begin(ctx, g, "the gate", h.gate.Run))
	}
	if h.watch != nil {
		views = append(views, begin(ctx, g, "compare with what was signed", h.watch.Run))
	}
	if h.notary != nil {
		order = append(order, begin(ctx, g, "the notary", h.notary.Run))
	}
	if h.spread != nil {
		views = append([]*stage{begin(ctx, g, "share the partitions", h.spread.Run)}, views...)
	}
	if h.feed != nil {
		order = append(order, begin(ctx, g, "the feed", h.feed.Run))
	}
	if h.couriers != nil {
		order = append(order, begin(ctx, g, "the webhooks", h.couriers.Run))
	}
	for _, s := range h.snapshots {
		order = append(order, begin(ctx, g, "the snapshots", s.Run))
	}
	for _, x := range h.histories {
		order = append(order, begin(ctx, g, "the history index", x.Run))
	}
	for _, w := range h.writers {
		order = append(order, begin(ctx, g, "the writer", w.Run))
	}
	return append(order, views...)
}

// awaitReady returns when every part can do its work: the writers write or could, the view includes all that the book
// held at the start, the directory has been read, tokens can be signed.
func (h *house) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < len(h.writers); {
		if _, ok := h.status.role(i); ok {
			i++
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !h.roles.venues {
		return nil
	}
	// A barrier gives up after some seconds; a long book takes longer to read.
	for {
		err := h.follower.Barrier(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.log.Info("reading the book", "progress", h.follower.Lags())
	}
	if err := h.directory.Await(ctx); err != nil {
		return err
	}
	return h.awaitSigning(ctx)
}
