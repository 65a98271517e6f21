// Package engine turns commands into session events: it is the writer of a partition.
//
// The writer takes every command that is waiting, decides each against the state in memory, appends all resulting
// events as one page, and answers when the page is on disk. While one page is being stored the next commands gather:
// the busier the partition, the larger the pages.
//
// Where several processes have writers, one writes a partition and the others stand by: they follow the book with the
// same fold, so that taking over reads only the tail. A writer that stops in order resigns, and is followed at once; one
// that falls silent is followed after 250 ms. [Spread] shares the partitions out among the processes.
//
// Invariants:
//   - Nothing is answered before it is on disk.
//   - One goroutine owns the state. The state may be one page ahead of the book; on any outcome of an append but
//     "applied" it is thrown away and rebuilt from the book, by the same fold that serves the start.
//   - A snapshot is where a fold may begin, and nothing is true because it stands in one.
//   - Being the writer is a belief; the fence is the book's: every page is appended with the sequence of the last page
//     this writer knows, so a deposed writer cannot append. It finds a newer epoch, says so, and stands by.
//   - Where several processes may write, what is answered without a page is answered only when the book has not moved on.
//   - A command is done once: its id stands in the page that answers it, and a repeat is answered from that page.
//   - The book's clock never runs backwards.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Book is the log of one partition: *[bus.Book]. What Append acknowledges is on disk; its other outcomes are told apart
// with errors.Is. Read gives pages in order and without a gap, or fails.
type Book interface {
	Append(ctx context.Context, expectLast uint64, page []byte) (uint64, error)
	Read(ctx context.Context, after, through uint64, fn func(bus.StoredPage) error) error
	End(ctx context.Context) (uint64, error)
	Announce(bus.Announcement) error
	Announcements(fn func(bus.Announcement)) (stop func(), err error)
	// Follow gives every page after a sequence, in order, on the caller's goroutine, until ctx ends or fn fails.
	Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error
}

// Intake gives the commands of one partition in order: *[bus.Intake].
type Intake interface {
	// Take blocks until a command waits, then gives all that wait. It loses none when ctx ends.
	Take(ctx context.Context) ([]bus.Received, error)
	// Age is how long ago the bus accepted a command.
	Age(ctx context.Context, r bus.Received) time.Duration
	// Reply gathers an answer; Flush sends what is gathered. A lost answer is asked for again.
	Reply(bus.Received, bus.Reply) error
	Flush() error
	// Trim says that all commands through this sequence are done with.
	Trim(through uint64) error
	Incarnation() int64
	Close()
}

// Config is what a writer stands on. All fields are required but those that say what zero means.
type Config struct {
	Partition bus.Partition
	Book      Book
	// OpenIntake opens, for the writer of an epoch, the commands after a position, as far as incarnation is still the
	// stream that the position is of.
	OpenIntake func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (Intake, error)
	Policies   session.Policies
	// Snapshots are those of the book. Nil: the book is read from its first page.
	Snapshots Snapshots
	// Alone says that no other process can write to this book (an embedded bus with its data directory locked), so that
	// the writer need not listen for another before it starts.
	Alone bool
	// Spread shares the partitions among several processes; one for all writers of a process. Nil: whoever is there writes.
	Spread *Spread
	// Now is the writer's clock. Nil: time.Now.
	Now func() time.Time
	// Leases ends the sessions of pods that are gone. Nil: nobody does.
	Leases *Leases
	// Trace notes pages in the traces of their commands. Nil: nothing is traced.
	Trace   Tracer
	Log     *slog.Logger
	Metrics *Metrics
}

// Tuning that nobody has needed to change.
const (
	announceEvery = 50 * time.Millisecond
	appendTimeout = 2 * time.Second
	staleCommand  = 10 * time.Second // whoever sent it has given up: doing it now would surprise everybody
	pageRoom      = 192 << 10        // no command is added to a page that holds this many bytes of events; one that can be large begins a page
	retryFirst    = 20 * time.Millisecond
	retryLast     = time.Second
	probeEvery    = time.Second      // while pages are not stored and no command waits: how often one is tried
	giveUp        = 15 * time.Second // alone and unable to store a page for so long: a new process may do better
)

// ErrCannotWrite says that no page could be stored for a while, on a bus of this process's own. A server keeps a write
// error of its disk for good, also when there is space again: start a new process.
var ErrCannotWrite = errors.New("pages cannot be stored")

// errOutrun says that another writer took over while we tried to.
var errOutrun = errors.New("another writer was quicker")

// Writer is the writer of one partition. See [Writer.Run].
type Writer struct {
	cfg Config

	// Owned by Run: rebuilt by load, changed by fold and compose.
	clean    bool // state is the fold of the book's pages through last: not ahead of it, and not half of one
	state    *session.State
	answers  *answers
	last     uint64       // sequence of the last page in state
	epoch    uint64       // of the last page in state
	lastTime int64        // of the last page in state
	read     uint64       // the last command that is done with
	source   int64        // the incarnation of COMMANDS that read is of
	noted    commandsRead // what the last page says of the two

	failing time.Time // since when no page could be stored; zero: the last one was

	waiting   []bus.Received           // taken, not answered: decided again after an append that failed
	composing map[bus.CommandID]answer // what the page at hand answers so far

	announced atomic.Uint64 // last, for the announcing goroutine
	events    atomic.Uint64 // in the book through last, for the snapshotter
	began     atomic.Uint64 // in the snapshot that the fold began from
	known     atomic.Uint64 // epoch, for the watching goroutine
	role      atomic.Int32
}

// commandsRead is a place in COMMANDS.
type commandsRead struct {
	source int64
	read   uint64
}

// Roles of a writer, as [Writer.Role] gives them.
const (
	Starting   int32 = iota // it reads the book
	StandingBy              // it knows the book to its end, and follows
	Writing
	Failing // it would write, but pages are not stored
)

// New makes a writer; it starts nothing.
func New(cfg Config) *Writer {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	return &Writer{cfg: cfg, composing: make(map[bus.CommandID]answer)}
}

// Role is what the writer does now: Starting, StandingBy, Writing or Failing. Safe for concurrent use.
func (w *Writer) Role() int32 { return w.role.Load() }

// Run stands by until no other writer is heard, takes over and writes; deposed, it stands by again. Trouble with the
// bus is retried. It returns when ctx ends, with the page at hand finished and its office resigned, or on an error that
// needs an operator: a book that cannot be read.
func (w *Writer) Run(ctx context.Context) error {
	defer w.setRole(Starting)
	pause := retryFirst
	for {
		err := w.reign(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case hopeless(err):
			return fmt.Errorf("write partition %d: %w", w.cfg.Partition, err)
		case errors.Is(err, errHandOver):
			pause = retryFirst
			continue
		case errors.Is(err, errOutrun):
			w.cfg.Log.Info("another writer was quicker: standing by", "partition", w.cfg.Partition)
			pause = retryFirst
		case errors.Is(err, errDeposed):
			w.cfg.Metrics.deposed()
			w.cfg.Log.Warn("deposed: standing by", "partition", w.cfg.Partition, "epoch", w.epoch)
			pause = retryFirst
		default:
			w.cfg.Log.Warn("the writer starts again", "partition", w.cfg.Partition, "err", err)
			if err := w.failed(err); err != nil {
				return fmt.Errorf("write partition %d: %w", w.cfg.Partition, err)
			}
		}
		if sleep(ctx, pause) != nil {
			return ctx.Err()
		}
		pause = min(2*pause, retryLast)
	}
}

// hopeless says which errors no retry mends.
func hopeless(err error) bool {
	return errors.Is(err, bus.ErrDamagedPage) || errors.Is(err, bus.ErrPageVersion) || errors.Is(err, bus.ErrGap) ||
		errors.Is(err, session.ErrUndecodable) || errors.Is(err, session.ErrFromTheFuture) || errors.Is(err, bus.ErrNotCreated) ||
		errors.Is(err, ErrCannotWrite)
}

func (w *Writer) setRole(r int32) {
	w.role.Store(r)
	w.cfg.Metrics.role(w.cfg.Partition, r)
	w.cfg.Spread.setReady(w.cfg.Partition, r == Writing || r == StandingBy)
}

// reign is one term of office: from standing by to the error that ends it.
func (w *Writer) reign(ctx context.Context) error {
	if err := w.standBy(ctx); err != nil {
		return err
	}
	if err := w.takeOver(ctx); err != nil {
		return err
	}
	w.setRole(Writing)
	defer w.setRole(StandingBy)
	w.cfg.Metrics.tookOver()
	w.cfg.Metrics.live(w.cfg.Partition, w.state.Sessions())
	w.cfg.Log.Info("writing", "partition", w.cfg.Partition, "epoch", w.epoch, "page", w.last, "sessions", w.state.Sessions())
	return w.hold(ctx)
}

// takeOver reads the book to its end and appends the opening page of the next epoch. Until that page is stored, nothing
// this writer does is seen; once it is, no page of an earlier epoch can be stored any more.
func (w *Writer) takeOver(ctx context.Context) error {
	for {
		if err := w.load(ctx); err != nil {
			return err
		}
		now := w.clock()
		opening, err := bus.EncodePage(bus.Page{Epoch: w.epoch + 1, Time: int64(now), Incarnation: w.source, CommandsRead: w.read})
		if err != nil {
			return fmt.Errorf("open an epoch: %w", err)
		}
		seq, err := w.append(ctx, opening)
		switch {
		case err == nil:
			w.epoch, w.last, w.lastTime = w.epoch+1, seq, int64(now)
			w.noted = commandsRead{w.source, w.read}
			w.announced.Store(seq)
			w.known.Store(w.epoch)
			w.failing = time.Time{}
			return nil
		case errors.Is(err, bus.ErrConflict), errors.Is(err, bus.ErrInFlight):
			if !w.cfg.Alone {
				return fmt.Errorf("open an epoch: %w", errOutrun) // listen first
			}
		default:
			w.cfg.Log.Warn("opening an epoch failed", "partition", w.cfg.Partition, "err", err)
		}
		if err := w.failed(err); err != nil {
			return err
		}
		if err := sleep(ctx, retryFirst); err != nil {
			return err
		}
	}
}

// clock is the book's time now: the wall clock, but never before the last page or event.
func (w *Writer) clock() session.Instant {
	return max(session.At(w.cfg.Now()), session.Instant(w.lastTime), w.state.Clock())
}

// append stores a page. It goes on when ctx ends meanwhile, so that an orderly stop leaves no page in doubt.
func (w *Writer) append(ctx context.Context, page []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	start := time.Now()
	last := w.last
	if session.Seeded("no fence") {
		last, _ = w.cfg.Book.End(ctx)
	}
	seq, err := w.cfg.Book.Append(ctx, last, page)
	w.cfg.Metrics.appended(time.Since(start), err)
	return seq, err
}

// failed notes that a page was not stored, and gives up when that has gone on for too long.
func (w *Writer) failed(cause error) error {
	if w.failing.IsZero() {
		w.failing = time.Now()
	}
	if w.cfg.Alone && time.Since(w.failing) > giveUp {
		return fmt.Errorf("%w for %s: %w", ErrCannotWrite, giveUp, cause)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
