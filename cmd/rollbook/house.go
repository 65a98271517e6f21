package main

import (
	"context"
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
	"rollbook/adapters/genesis"
	"rollbook/adapters/nebula"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/directory"
	"rollbook/projections/resources"
	"rollbook/projections/tokens"
)

// house is the service put together: every role, nothing running but the embedded bus and the open listeners. One login
// goes venue -> gate -> bus -> writer -> bus -> follower -> tokens -> gate -> venue.
type house struct {
	set *serveSettings
	log *slog.Logger
	dir string // the data directory; empty with a bus elsewhere

	operationsAt net.Listener
	doors        []*door      // the venues, venues.go
	certificate  *certificate // nil without TLS

	embedded *bus.Embedded // nil with a bus elsewhere
	bus      *bus.Bus
	layout   bus.Layout
	submit   *bus.Submitter

	writers   []*engine.Writer
	snapshots []*engine.Snapshotter // one a writer
	follower  *projections.Follower
	sessions  *tokens.Index
	resources *resources.Index
	directory *directory.Directory
	gate      *adapters.Gate
	genesis   *genesis.Handler // made whether it is served or not
	nebula    *nebula.Handler  // nil when it is not served
	board     *signingBoard    // nil when Nebula is not served
	key       [32]byte         // the deployment key
	demoKeys  map[session.Venue]shownKey

	registry *prometheus.Registry
	traffic  *traffic
	status   *status
}

// buildHouse opens what has to be open before anything can run, in an order in which a mistake is noticed before it has
// an effect: the ports, the directory and its lock, the book, the key. What it opened it closes when it fails.
func buildHouse(ctx context.Context, set *serveSettings, dir string, log *slog.Logger) (h *house, err error) {
	h = &house{set: set, log: log, dir: dir, registry: prometheus.NewRegistry(), traffic: newTraffic()}
	defer func() {
		if err != nil {
			h.close()
			h = nil
		}
	}()
	if h.operationsAt, err = listen("operations", set.address(portOperations), "--port-base"); err != nil {
		return
	}
	if err = h.openDoors(); err != nil {
		return
	}
	if err = h.openBus(ctx); err != nil {
		return
	}
	if err = durable(ctx, h.bus, set.AcceptLossWindow, log); err != nil {
		return
	}
	if h.key, err = deploymentKey(set.DeploymentKeyFile, dir, log); err != nil {
		return
	}
	if h.submit, err = h.bus.NewSubmitter(bus.SubmitterConfig{}); err != nil {
		return
	}
	kv, err := h.bus.Directory(ctx)
	if err != nil {
		return
	}
	h.furnish(kv, h.key)
	if err = h.furnishVenues(ctx, h.key); err != nil {
		return
	}
	h.register()
	return h, nil
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
		if err = h.bus.Create(ctx, h.layout); err == nil {
			h.log.Info("created the book", "dir", h.dir, "partitions", h.layout.Partitions)
		}
	}
	if err != nil {
		return h.set.noBook(err)
	}
	return sameCount(h.set.Partitions, h.layout)
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
	if err := h.lockAndStart(ctx); err != nil {
		return err
	}
	var err error
	h.bus, err = h.embedded.Connect(ctx, "rollbook", h.log)
	return err
}

// lockAndStart starts the embedded bus. An operator's command that has the directory to itself is waited for, and the last
// moments of a service that stops; one that runs is not.
func (h *house) lockAndStart(ctx context.Context) (err error) {
	for deadline, told := time.Now().Add(startPatience), false; ; told = true {
		h.embedded, err = bus.StartEmbedded(bus.EmbeddedConfig{DataDir: h.dir, Listen: h.set.BusListen, Log: h.log})
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

// furnish makes the parts; they start nothing.
func (h *house) furnish(kv jetstream.KeyValue, key [32]byte) {
	policies := h.set.policies()
	metrics := engine.NewMetrics()
	h.registry.MustRegister(metrics)
	h.sessions, h.resources = tokens.New(), resources.New()
	var books []projections.Book
	for p := range bus.Partition(h.layout.Partitions) {
		w := newWriter(h.bus, p, policies, h.embedded != nil, h.log, metrics)
		h.writers = append(h.writers, w)
		h.snapshots = append(h.snapshots, engine.NewSnapshotter(engine.SnapshotterConfig{
			Partition: p, Book: h.bus.Book(p), Snapshots: h.bus.Book(p), Writer: w,
			Every: h.set.SnapshotEvents, Pause: h.set.SnapshotPause, Log: h.log, Metrics: metrics}))
		books = append(books, h.bus.Book(p))
	}
	h.follower = projections.NewFollower(projections.Config{
		Books: books, Models: []projections.Model{h.sessions, h.resources}, Staleness: h.set.Staleness, Log: h.log})
	h.directory = directory.New(kv, directory.Config{DeploymentKey: key}, h.log)
	h.gate = adapters.NewGate(adapters.Config{
		Submit: h.submit, Directory: h.directory, Sessions: h.sessions, Resources: h.resources, Follower: h.follower,
		Policies: policies, Partitions: h.layout.Partitions, DeploymentKey: key,
		Checks: h.set.PasswordChecks, Queue: h.set.PasswordQueue, Log: h.log,
	})
	h.status = &status{writers: h.writers, alone: h.embedded != nil, follower: h.follower, directory: h.directory}
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
	operations.server.WriteTimeout = 10 * time.Second // the venues' handlers have bounds of their own
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
