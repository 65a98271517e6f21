package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollbook/bus"
)

// When a standby takes over: after silence, and that much later for each process that should rather do so.
const (
	silence  = 250 * time.Millisecond // without a word from the writer: it is gone
	rankStep = 100 * time.Millisecond
	// lateBy is how late a standby may notice that the silence is over. Later than that, this machine stands still now and
	// then, and with it what the writer says, so it listens on for as long again, but no longer than lateMost in all.
	lateBy   = 50 * time.Millisecond
	lateMost = time.Second
)

// vigil is the wait for a word from the writer.
type vigil struct {
	timer *time.Timer
	due   time.Time
	more  time.Duration // what has been added since the last word
}

func newVigil(d time.Duration) *vigil { return &vigil{timer: time.NewTimer(d), due: time.Now().Add(d)} }

// wait begins again: a word has come.
func (v *vigil) wait(d time.Duration) {
	v.due, v.more = time.Now().Add(d), 0
	v.timer.Reset(d)
}

// over says whether the silence is, at the moment when its end was noticed; else it goes on for a while.
func (v *vigil) over(now time.Time) bool {
	late := min(now.Sub(v.due), lateMost-v.more)
	if late < lateBy {
		return true
	}
	v.more += late
	v.due = now.Add(late)
	v.timer.Reset(late)
	return false
}

// errVacant ends standing by: nobody writes.
var errVacant = errors.New("nobody writes")

// standBy follows the book until no other writer is heard, or one resigns in our favour. What it folds it folds once:
// taking over reads only what came since.
func (w *Writer) standBy(ctx context.Context) error {
	if w.cfg.Alone {
		return nil
	}
	if !w.clean {
		w.setRole(Starting)
	}
	if err := w.load(ctx); err != nil {
		return err
	}
	w.setRole(StandingBy)

	heard := make(chan bus.Announcement, 16)
	stop, err := w.cfg.Book.Announcements(func(a bus.Announcement) {
		select {
		case heard <- a:
		default: // there is enough to hear
		}
	})
	if err != nil {
		return fmt.Errorf("listen for another writer: %w", err)
	}
	defer stop()
	following, end := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		w.watch(following, heard, func() { end(errVacant) })
	}()
	defer func() { end(nil); <-watching }()
	err = w.cfg.Book.Follow(following, w.last, func(stored bus.StoredPage) error { return w.fold(stored, 0) })
	if errors.Is(context.Cause(following), errVacant) && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// watch calls vacant when it is for us to take over. It runs beside the fold and sees of the state only the epoch.
func (w *Writer) watch(ctx context.Context, heard <-chan bus.Announcement, vacant func()) {
	var last bus.Announcement // heard from whoever writes, or has resigned
	quiet := newVigil(w.patience(bus.EngineID{}))
	defer quiet.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet.timer.C:
			if quiet.over(time.Now()) {
				vacant()
				return
			}
		case a := <-heard:
			switch {
			case a.Epoch < w.known.Load() || a.Epoch < last.Epoch || last.Resigns && a.Epoch == last.Epoch:
				// Of a writer that was deposed and has not noticed, or sent before it resigned.
			case !a.Resigns:
				last = a
				quiet.wait(w.patience(a.Engine))
			case a.Successor == (bus.EngineID{}):
				last = a
				quiet.wait(w.patience(a.Engine) - silence)
			case a.Successor == w.cfg.Spread.id():
				vacant()
				return
			default:
				last = a
				quiet.wait(w.patience(a.Engine)) // its successor is no less likely to be gone than any writer
			}
		}
	}
}

// patience is how long nothing is heard before we take over from a process.
func (w *Writer) patience(from bus.EngineID) time.Duration {
	return silence + time.Duration(w.cfg.Spread.rank(w.cfg.Partition, from))*rankStep
}
