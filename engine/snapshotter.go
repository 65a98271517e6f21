package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// SnapshotterConfig is what a snapshotter stands on. All fields are required but those that say what zero means.
type SnapshotterConfig struct {
	Partition bus.Partition
	Book      Book
	Snapshots Snapshots
	// Writer is the writer of the partition in this process. Snapshots are written while it writes.
	Writer *Writer
	// Every is after how many events the next snapshot is due, or after as many as there were live sessions, if that is
	// more: so the work of writing snapshots is in proportion to the events, however many sessions live. Zero: 100,000.
	Every int
	// Pause is the least time from the beginning of one snapshot to the next. Zero: 1 min.
	Pause time.Duration
	// Now is the clock for the pause and the age. Nil: time.Now.
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics
}

const (
	// snapshotLook is how often a snapshotter looks whether one is due.
	snapshotLook = time.Second
	// workSlice is how long a snapshotter works before it rests, and restFor how many times as long it rests then, at the
	// most for restMost. Without rest it takes a core from the writer, and from the bus that it shares with the writer.
	workSlice = time.Millisecond
	restFor   = 9
	restMost  = time.Second
	// readPages is how many pages it asks for at a time. A stream's server stores pages and gives others out in one loop: a
	// thousand at once held the writer's up so that commands fell to a quarter.
	readPages = 32
)

// errNotWriting says that the writer of this process has stopped writing, and another may be at the snapshots.
var errNotWriting = errors.New("the writer of this process does not write")

// Snapshotter writes the snapshots of one partition, off the writer's path: it folds a state of its own from the snapshot
// before, stores it and forgets it. It shares nothing with the writer but two numbers.
type Snapshotter struct {
	cfg SnapshotterConfig

	// Owned by Run.
	known bool         // last is what is listed, as far as this process knows
	last  bus.Snapshot // the newest listed; zero: none
	since uint64       // the events in the book through the newest that is known to be good
	began time.Time    // when the latest attempt began
	told  string       // the trouble that the log says already
}

// NewSnapshotter makes a snapshotter; it starts nothing.
func NewSnapshotter(cfg SnapshotterConfig) *Snapshotter {
	if cfg.Every <= 0 {
		cfg.Every = 100_000
	}
	if cfg.Pause <= 0 {
		cfg.Pause = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	return &Snapshotter{cfg: cfg}
}

// Run writes a snapshot whenever one is due, until ctx ends, and returns ctx's error. What it cannot write it tries again
// after the pause; a snapshot that ctx cuts short was never listed.
func (s *Snapshotter) Run(ctx context.Context) error {
	look := time.NewTicker(min(snapshotLook, s.cfg.Pause))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		err := s.look(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
		case err.Error() == s.told: // the same again
			s.cfg.Metrics.snapshotFailed(s.cfg.Partition)
		default:
			s.told = err.Error()
			s.cfg.Metrics.snapshotFailed(s.cfg.Partition)
			s.cfg.Log.Warn("no snapshot was written", "partition", s.cfg.Partition, "err", err)
		}
	}
}

// look writes a snapshot if one is due.
func (s *Snapshotter) look(ctx context.Context) error {
	now := s.cfg.Now()
	rested := s.began.IsZero() || now.Sub(s.began) >= s.cfg.Pause || now.Before(s.began)
	if s.cfg.Writer.Role() != Writing {
		s.known = false // another process may write snapshots meanwhile
		s.cfg.Metrics.snapshotGone(s.cfg.Partition)
		return nil
	}
	if !s.known {
		if !rested {
			return nil
		}
		s.began = now
		return s.discover(ctx)
	}
	age := s.cfg.Writer.events.Load() - s.since
	s.cfg.Metrics.snapshotAge(s.cfg.Partition, age, s.last, now)
	if !rested || age < max(uint64(s.cfg.Every), s.last.Sessions) {
		return nil
	}
	s.began, s.known = now, false
	return s.Take(ctx)
}

// discover finds out what is listed. Only what the writer itself began from is known to be good: if that is older, because
// the newest is damaged or of another book, or there is none, the next one is due by the events since then.
func (s *Snapshotter) discover(ctx context.Context) error {
	list, err := s.cfg.Snapshots.Snapshots(ctx)
	if err != nil && !errors.Is(err, bus.ErrDamagedSnapshot) { // a damaged list is replaced when the next is due
		return err
	}
	s.last, s.began = bus.Snapshot{}, time.Time{}
	if len(list) > 0 {
		s.last, s.began = list[0], list[0].Written
	}
	s.known, s.since = true, min(s.last.Events, s.cfg.Writer.began.Load())
	return nil
}

// Take writes a snapshot, due or not: it folds the book to its end as of now and stores the state. Until it is listed,
// which is the last thing done, a crash leaves the snapshot before whole. Not while Run runs.
func (s *Snapshotter) Take(ctx context.Context) error {
	start := time.Now()
	pace := pacer{since: start}
	rest := func() error { return pace.rest(ctx) }
	b, err := restore(ctx, s.cfg.Snapshots, session.Policies{}, rest) // policies shape new events, and none is made here
	if err != nil {
		return err
	}
	entry := bus.Snapshot{Format: session.SnapshotVersion, Events: b.from.Events, Epoch: b.from.Epoch, Written: s.cfg.Now()}
	at, err := s.foldTail(ctx, b, &entry, rest)
	if err != nil {
		return fmt.Errorf("read the book: %w", err)
	}
	entry.Sessions = uint64(b.state.Sessions())
	written, err := s.cfg.Snapshots.WriteSnapshot(ctx, entry, b.from, at, func(put func([]byte) error) error {
		return b.state.Snapshot(func(chunk []byte) error {
			if s.cfg.Writer.Role() != Writing {
				return errNotWriting
			}
			if err := put(chunk); err != nil {
				return err
			}
			return rest()
		})
	})
	if err != nil {
		return err
	}
	s.known, s.last, s.since, s.told = true, written, written.Events, ""
	took := time.Since(start)
	s.cfg.Metrics.snapshotWritten(s.cfg.Partition, s.last, took)
	s.cfg.Log.Info("wrote a snapshot", "partition", s.cfg.Partition, "page", s.last.Page, "sessions", s.last.Sessions,
		"bytes", s.last.Bytes, "took", took.Round(time.Millisecond))
	return nil
}

// foldTail takes the pages after a base into its state, to the end of the book as of now, and gives the last.
func (s *Snapshotter) foldTail(ctx context.Context, b base, entry *bus.Snapshot, rest func() error) (at bus.StoredPage, err error) {
	end, err := s.cfg.Book.End(ctx)
	if err != nil {
		return at, err
	}
	fold := func(stored bus.StoredPage) error {
		page, err := unfold(stored, b.state.Apply)
		if err != nil {
			return err
		}
		at, entry.Epoch = stored, page.Epoch
		entry.Events += uint64(len(page.Events))
		return nil
	}
	at = b.at
	for at.Seq < end {
		if err := s.cfg.Book.Read(ctx, at.Seq, min(at.Seq+readPages, end), fold); err != nil {
			return at, err
		}
		if err := rest(); err != nil {
			return at, err
		}
	}
	return at, nil
}

// pacer makes a long job rest.
type pacer struct {
	since time.Time // of the work since the last rest
}

func (p *pacer) rest(ctx context.Context) error {
	worked := time.Since(p.since)
	if worked < workSlice {
		return nil
	}
	err := sleep(ctx, min(restFor*worked, restMost))
	p.since = time.Now()
	return err
}
