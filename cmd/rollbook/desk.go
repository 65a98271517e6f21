package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// desk is where an operator's command works: the bus, and a way to have commands done. It belongs to one goroutine.
type desk struct {
	bus    *bus.Bus
	layout bus.Layout
	log    *slog.Logger

	submit *bus.Submitter // nil before the first command

	// With a bus in this process, because no instance runs on the data directory; else unused.
	own     *bus.Embedded
	writers sync.WaitGroup
	writing context.Context // ends with a writer, its cause is why
	stop    context.CancelCauseFunc
}

// startPatience is how long a command waits for an instance that is just starting or stopping on the same directory.
const startPatience = 5 * time.Second

// open reaches the book, wherever it is. It never creates one.
func (p place) open(ctx context.Context, log *slog.Logger) (*desk, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	d := &desk{log: log}
	var err error
	if p.Bus != "" {
		d.bus, err = p.connect(ctx, "rollbook operator", log)
	} else {
		err = d.openDir(ctx, p)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	if d.layout, err = d.bus.Open(ctx); err != nil {
		d.close()
		return nil, p.noBook(err)
	}
	return d, nil
}

// openDir connects to the instance that runs on a data directory, or starts a bus there.
func (d *desk) openDir(ctx context.Context, p place) error {
	dir, err := p.dir()
	if err != nil {
		return err
	}
	if !holdsBook(dir) {
		return p.noBook(bus.ErrNotCreated)
	}
	for deadline := time.Now().Add(startPatience); ; {
		if url, ok := bus.FindRunning(dir); ok {
			d.bus, err = p.connectRunning(ctx, url, dir, "rollbook operator", d.log)
		} else if d.own, err = bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir, Log: d.log}); err == nil {
			d.bus, err = d.own.Connect(ctx, "rollbook operator", d.log)
			return err
		}
		switch over := time.Now().After(deadline); {
		case over && errors.Is(err, bus.ErrDataDirInUse):
			return fmt.Errorf("another rollbook has %s, and it listens nowhere: if it is a service, start it with --bus-listen HOST:PORT, or stop it first", dir)
		case over || err == nil:
			return err
		case ctx.Err() != nil:
			return errInterrupted
		}
		// Somebody holds the directory but does not listen: it is starting or stopping, or is another command.
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// close ends what the desk started, in order.
func (d *desk) close() {
	if d.submit != nil {
		d.submit.Close()
	}
	if d.stop != nil {
		d.stop(nil)
		d.writers.Wait()
	}
	switch {
	case d.own != nil:
		d.own.Shutdown()
	case d.bus != nil:
		if err := d.bus.Close(); err != nil {
			d.log.Warn("the connection did not close in order", "err", err)
		}
	}
}

// ready makes the desk able to have commands done. A command that only reads does without, and leaves no page behind.
func (d *desk) ready() error {
	if d.submit != nil {
		return nil
	}
	if d.own != nil {
		d.writing, d.stop = context.WithCancelCause(context.Background())
		for p := range bus.Partition(d.layout.Partitions) {
			w := newWriter(d.bus, p, engine.Config{Policies: session.DefaultPolicies(), Alone: true, Log: d.log})
			d.writers.Go(func() { d.stop(w.Run(d.writing)) })
		}
	}
	var err error
	d.submit, err = d.bus.NewSubmitter(bus.SubmitterConfig{})
	return err
}

// commandPatience bounds how long a command's outcome is awaited: enough for a writer to take over, and for the one of
// this process to read a long book.
const commandPatience = 30 * time.Second

// do has a command done by the writer of a partition.
func (d *desk) do(ctx context.Context, p bus.Partition, cmd session.Command) (session.Reply, error) {
	if err := d.ready(); err != nil {
		return session.Reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	if d.writing != nil {
		var lose context.CancelCauseFunc
		ctx, lose = context.WithCancelCause(ctx)
		defer context.AfterFunc(d.writing, func() { lose(context.Cause(d.writing)) })()
	}
	answer, err := d.submit.Submit(ctx, bus.Command{
		ID: bus.NewCommandID(), Partition: p, Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	if errors.Is(err, bus.ErrNoOutcome) {
		return session.Reply{}, fmt.Errorf("it is not known whether it happened, and repeating it is safe: %w", err)
	}
	if err != nil {
		return session.Reply{}, err
	}
	return session.DecodeReply(answer.Body)
}

// doFor has a command done by the writer that a user belongs to.
func (d *desk) doFor(ctx context.Context, user session.UserID, cmd session.Command) (session.Reply, error) {
	return d.do(ctx, bus.PartitionOf(string(user), d.layout.Partitions), cmd)
}

// ledger reads the book as of now.
func (d *desk) ledger(ctx context.Context) (*ledger, error) {
	return readLedger(ctx, d.bus, d.layout.Partitions)
}

// store opens the directory for reading and writing.
func (d *desk) store(ctx context.Context, policy directory.PasswordPolicy) (*directory.Store, error) {
	return openStore(ctx, d.bus, policy)
}

func openStore(ctx context.Context, b *bus.Bus, policy directory.PasswordPolicy) (*directory.Store, error) {
	if err := policy.Validate(); err != nil {
		return nil, refuse("usage", "%w", err)
	}
	kv, err := b.Directory(ctx)
	if err != nil {
		return nil, err
	}
	return directory.NewStore(kv, directory.StoreConfig{Policy: policy})
}

// newWriter makes the writer of a partition on this bus; cfg says all but what the bus and the partition are.
func newWriter(b *bus.Bus, p bus.Partition, cfg engine.Config) *engine.Writer {
	cfg.Partition, cfg.Book, cfg.Snapshots = p, b.Book(p), b.Book(p)
	cfg.OpenIntake = func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
		intake, err := b.Intake(ctx, p, epoch, incarnation, after)
		if err != nil {
			return nil, err // and not a nil *bus.Intake in an interface that is not nil
		}
		return intake, nil
	}
	return engine.New(cfg)
}
