package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rollbook/adapters"
	"rollbook/adapters/nebula"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/directory"
	"rollbook/projections/feed"
	"rollbook/projections/history"
	"rollbook/projections/proof"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
	"rollbook/projections/webhooks"
)

// roles say what a process does.
type roles struct {
	writers bool // it has a writer for each partition, writing or standing by
	venues  bool // it serves venues
	hooks   bool // it posts events to the endpoints of --webhooks, if there are any
	notary  bool // it signs, on a bus elsewhere; with an embedded bus it does anyway
}

var (
	everything   = roles{writers: true, venues: true, hooks: true}
	onlyWriters  = roles{writers: true}
	onlyAdapters = roles{venues: true}
	onlyWebhooks = roles{hooks: true}
	onlyNotary   = roles{notary: true}
)

// house is the service put together, nothing running but the embedded bus and the open listeners. One login goes venue -> gate -> bus -> writer -> bus -> follower -> tokens -> gate -> venue.
type house struct {
	set   *serveSettings
	roles roles
	log   *slog.Logger
	dir   string // the data directory; empty with a bus elsewhere

	operationsAt net.Listener
	doors        []*door      // the venues, venues.go
	certificate  *certificate // nil without TLS
	proxies      *adapters.Proxies

	embedded *bus.Embedded // nil with a bus elsewhere
	bus      *bus.Bus
	layout   bus.Layout

	writers   []*engine.Writer      // none in a process of adapters alone
	snapshots []*engine.Snapshotter // one a writer
	histories []*history.Indexer    // one a writer
	spread    *engine.Spread        // nil on an embedded bus
	feed      *feed.Publisher       // of the partitions that the writers write; nil without them
	notary    *proof.Notary         // nil when this process signs nothing
	watch     *proof.Watch          // nil when it compares nothing

	couriers *webhooks.Couriers // nil without webhooks

	// Nil in a process without venues.
	submit    *bus.Submitter
	follower  *projections.Follower
	sessions  *tokens.Index
	resources *resources.Index
	directory *directory.Directory
	gate      *adapters.Gate
	asked     *adapters.Metrics
	nebula    *nebula.Handler // nil when it is not served
	board     *signingBoard   // nil when Nebula is not served
	key       [32]byte        // the deployment key
	demoKeys  map[session.Venue]shownKey

	registry *prometheus.Registry
	traffic  *traffic
	tracing  *tracing // nil when nothing is traced
	status   *status
}

// buildHouse opens what has to be open before anything can run, in an order in which a mistake is noticed before it has
// an effect: the ports, the directory and its lock, the book, the key. What it opened it closes when it fails. Without
// house and error, ctx has ended first.
func buildHouse(ctx context.Context, set *serveSettings, r roles, dir string, log *slog.Logger) (*house, error) {
	h := &house{set: set, roles: r, log: log, dir: dir, registry: prometheus.NewRegistry(), traffic: newTraffic()}
	err := h.open(ctx)
	if err == nil && ctx.Err() == nil {
		return h, nil
	}
	h.close()
	if ctx.Err() != nil {
		log.Info("stopped before it was ready")
		return nil, nil
	}
	return nil, err
}

func (h *house) open(ctx context.Context) (err error) {
	if h.operationsAt, err = listen("operations", h.set.address(portOperations), "--port-base"); err != nil {
		return err
	}
	if h.roles.venues {
		if err := h.openDoors(); err != nil {
			return err
		}
	}
	if err := h.openBus(ctx); err != nil {
		return err
	}
	if h.tracing, err = openTracing(ctx, h.set.Trace, h.log); err != nil {
		return err
	}
	if h.submit, err = h.bus.NewSubmitter(bus.SubmitterConfig{}); err != nil {
		return err
	}
	h.status = &status{alone: h.embedded != nil}
	if h.roles.writers {
		if err := durable(ctx, h.bus, h.set.AcceptLossWindow, h.log); err != nil {
			return err
		}
		h.furnishWriters()
	}
	if err := h.furnishNotary(); err != nil {
		return err
	}
	if h.roles.venues {
		if err := h.openVenues(ctx); err != nil {
			return err
		}
	}
	if h.roles.hooks && h.set.Webhooks != "" {
		if err := h.openWebhooks(ctx); err != nil {
			return err
		}
	}
	h.register()
	return nil
}

// openVenues opens what the venues need of the bus, and makes what answers.
func (h *house) openVenues(ctx context.Context) (err error) {
	if h.key, err = deploymentKey(h.set.DeploymentKeyFile, h.dir, h.log); err != nil {
		return err
	}
	kv, err := h.bus.Directory(ctx)
	if err != nil {
		return err
	}
	h.furnish(kv, h.key)
	return h.furnishVenues(ctx, h.key)
}

// openBus starts the embedded bus, or connects to one elsewhere, and opens the book. On a fresh embedded bus it creates
// it: nobody else can have one there, so no setting can be mistyped into a second history.
func (h *house) openBus(ctx context.Context) (err error) {
	if h.set.Bus != "" {
		h.bus, err = h.set.connect(ctx, "rollbook", h.log)
	} else {
		err = h.startBus(ctx)
	}
	if err != nil {
		return err
	}
	h.layout, err = h.bus.Open(ctx)
	if errors.Is(err, bus.ErrNotCreated) {
		h.layout = bus.Layout{Partitions: max(h.set.Partitions, 1), Replicas: 1}
	}
	if h.embedded != nil && (errors.Is(err, bus.ErrNotCreated) || errors.Is(err, bus.ErrUnfinished)) {
		if h.set.DeploymentKeyFile == "" {
			if err := makeKey(h.dir); err != nil {
				return fmt.Errorf("make the deployment key: %w", err)
			}
		}
		if err = h.bus.Create(ctx, h.layout); err == nil {
			h.log.Info("created the book", "dir", h.dir, "partitions", h.layout.Partitions)
		}
	}
	if err != nil {
		return h.set.noBook(err)
	}
	if err = h.set.agrees(h.layout); err == nil && h.embedded != nil {
		err = h.bus.SetFeedRetention(ctx, h.set.retention())
	}
	if err == nil && h.embedded == nil {
		h.tellWhatIsMissing(ctx)
	}
	return err
}

func (h *house) startBus(ctx context.Context) error {
	if h.set.BusListen != "" {
		// The server would go on trying for minutes. Whoever takes the port between here and there has it wait.
		probe, err := listen("the embedded bus", h.set.BusListen, "--bus-listen")
		if err != nil {
			return err
		}
		if err := probe.Close(); err != nil {
			return err
		}
	}
	secure, err := h.set.BusListenTLS.server(h.log)
	if err != nil {
		return err
	}
	if err := h.lockAndStart(ctx, secure); err != nil {
		return err
	}
	h.bus, err = h.embedded.Connect(ctx, "rollbook", h.log)
	return err
}

// lockAndStart starts the embedded bus. An operator's command that has the directory to itself is waited for, and the last
// moments of a service that stops; one that runs is not.
func (h *house) lockAndStart(ctx context.Context, secure *tls.Config) (err error) {
	for deadline, told := time.Now().Add(startPatience), false; ; told = true {
		h.embedded, err = bus.StartEmbedded(bus.EmbeddedConfig{DataDir: h.dir, Listen: h.set.BusListen, TLS: secure, Log: h.log})
		if !errors.Is(err, bus.ErrDataDirInUse) {
			return err
		}
		if _, runs := bus.FindRunning(h.dir); runs || time.Now().After(deadline) {
			return fmt.Errorf("another rollbook runs on %s: stop it, or choose another directory with --data", h.dir)
		}
		if !told {
			h.log.Info("waiting for another rollbook to leave the data directory", "dir", h.dir)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// furnishWriters makes a writer for each partition; they start nothing.
func (h *house) furnishWriters() {
	metrics := engine.NewMetrics()
	h.registry.MustRegister(metrics)
	if h.embedded == nil {
		h.spread = engine.NewSpread(h.bus, h.layout.Partitions)
	}
	listing := history.NewMetrics()
	h.registry.MustRegister(listing)
	leases := &engine.Leases{Length: h.set.podLease(), Pods: h.bus.Pods, Submit: h.submit.Submit}
	for p := range bus.Partition(h.layout.Partitions) {
		w := newWriter(h.bus, p, engine.Config{Policies: h.set.policies(), Spread: h.spread, Leases: leases,
			Alone: h.embedded != nil, Trace: h.tracing.writer(), Log: h.log, Metrics: metrics})
		h.writers = append(h.writers, w)
		h.snapshots = append(h.snapshots, engine.NewSnapshotter(engine.SnapshotterConfig{
			Partition: p, Book: h.bus.Book(p), Snapshots: h.bus.Book(p), Writer: w,
			Every: h.set.SnapshotEvents, Pause: h.set.SnapshotPause, Log: h.log, Metrics: metrics}))
		h.histories = append(h.histories, history.NewIndexer(history.IndexerConfig{Book: h.bus.Book(p),
			Writing: func() bool { return w.Role() == engine.Writing }, Log: h.log, Metrics: listing}))
	}
	h.status.writers = h.writers
	h.furnishFeed()
}

// furnish makes the views and the gate; they start nothing.
func (h *house) furnish(kv jetstream.KeyValue, key [32]byte) {
	h.sessions, h.resources, h.asked = tokens.New(), resources.New(), adapters.NewMetrics()
	var books []projections.Book
	for p := range bus.Partition(h.layout.Partitions) {
		books = append(books, h.bus.Book(p))
	}
	follow := projections.Config{Books: books, Models: []projections.Model{h.sessions, h.resources}, Staleness: h.set.Staleness,
		Trace: h.tracing.view(), Log: h.log}
	if h.watch != nil {
		follow.Models, follow.Trust = append(follow.Models, h.watch), h.watch.Err
	}
	h.follower = projections.NewFollower(follow)
	h.directory = directory.New(kv, directory.Config{DeploymentKey: key}, h.log)
	h.gate = adapters.NewGate(adapters.Config{
		Submit: h.submit, Directory: h.directory, Sessions: h.sessions, Resources: h.resources, Follower: h.follower,
		Policies: h.set.policies(), Partitions: h.layout.Partitions, DeploymentKey: key,
		Announce: func(pod session.PodID) error { return h.bus.AnnouncePod(pod) },
		Checks:   h.set.PasswordChecks, Queue: h.set.PasswordQueue, Trace: h.tracing.gate(), Metrics: h.asked, Log: h.log,
	})
	h.status.follower, h.status.directory = h.follower, h.directory
}

// close closes what buildHouse opened, in the reverse order; the listeners belong to their servers once those run, and
// closing them twice does no harm.
func (h *house) close() {
	for _, d := range h.doors {
		_ = d.at.Close()
	}
	if h.operationsAt != nil {
		_ = h.operationsAt.Close()
	}
	if h.submit != nil {
		h.submit.Close()
	}
	h.tracing.close(h.log)
	switch {
	case h.embedded != nil:
		h.embedded.Shutdown() // closes the connection first
	case h.bus != nil:
		if err := h.bus.Close(); err != nil {
			h.log.Warn("the bus did not close in order", "err", err)
		}
	}
}

// servers are the HTTP servers: that of operations, and those of the venues.
func (h *house) servers() (operations *web, venues []*web) {
	operations = newWeb("operations", h.operationsAt, newOperations(h.status, h.registry), h.log)
	operations.server.WriteTimeout = 10 * time.Second // nothing is asked of the book for it
	return operations, h.venueServers()
}

// url is where the operations listener answers.
func url(l net.Listener) string { return "http://" + l.Addr().String() }

// listen opens a port, and says which option moves it when it cannot.
func listen(what, address, option string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, refuse("port_taken", "%s cannot listen on %s, the port is taken: stop what has it, or move with %s", what, address, option)
	case errors.Is(err, os.ErrPermission):
		return nil, refuse("port_not_permitted", "%s may not listen on %s: choose a port above 1023 with %s", what, address, option)
	}
	return nil, refuse("address", "%s cannot listen on %s: %w", what, address, err)
}
