package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// What one direct get asks for. The channel holds a whole batch, so that the
// client library never has to drop a page of it.
const (
	batchPages = 1024
	batchBytes = 4 << 20
)

// Read calls fn with the pages after+1 to through, in order, on the caller's
// goroutine. It returns nil when through was reached, fn's error as it is,
// ErrGap when a page is missing, ErrUnreachable when the bus stays silent for
// some seconds, ErrClosed, or ctx's error. It reads past the last page never:
// ask End first; a through beyond it ends in ErrUnreachable.
//
// Any replica may answer. One that lags gives a page later, and never another.
func (k *Book) Read(ctx context.Context, after, through uint64, fn func(StoredPage) error) error {
	if after >= through {
		return nil
	}
	g, err := k.newGetter()
	if err != nil {
		return fmt.Errorf("read %s: %w", BookStream(k.p), err)
	}
	defer g.close()
	last, pause, silent := after, retryPauseFirst, 0
	for last < through {
		before := last
		_, err := g.batch(ctx, &last, through, fn)
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		if last > before {
			pause, silent = retryPauseFirst, 0
			continue
		}
		// Nothing came: nobody answered, or a replica that does not have the page yet.
		if silent++; silent > 2*maxSilentRounds {
			return fmt.Errorf("read %s after %d: %w", BookStream(k.p), last, errors.Join(ErrUnreachable, err))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
	return nil
}

// getter reads batches of pages, one after the other.
type getter struct {
	book *Book
	*batches
}

func (k *Book) newGetter() (*getter, error) {
	g, err := k.bus.newBatches()
	if err != nil {
		return nil, err
	}
	return &getter{k, g}, nil
}

// batch asks for the pages from *last+1 to through, as many as fit, calls fn with
// each and moves *last along. It returns how many pages the answering server has
// beyond those. An errNoAnswer leaves *last where the answer broke off.
func (g *getter) batch(ctx context.Context, last *uint64, through uint64, fn func(StoredPage) error) (pending uint64, err error) {
	ask := min(through-*last, batchPages)
	request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, *last+1, ask, batchBytes)
	return g.ask(ctx, BookStream(g.book.p), request, func(m *nats.Msg) error {
		page, ok := storedPage(m)
		if !ok {
			return fmt.Errorf("read %s: a page without its sequence or time", BookStream(g.book.p))
		}
		if page.Seq <= *last || page.Seq > through {
			return nil
		}
		if page.Seq != *last+1 {
			return fmt.Errorf("read %s: %w: %d follows %d", BookStream(g.book.p), ErrGap, page.Seq, *last)
		}
		if err := fn(page); err != nil {
			return err
		}
		*last = page.Seq
		return nil
	})
}

// storedPage reads a page from a direct get's answer or from the live subject:
// both carry the same headers.
func storedPage(m *nats.Msg) (StoredPage, bool) {
	seq, ok := headerUint(m, headerSequence)
	at, err := time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
	return StoredPage{Seq: seq, Stored: at, Data: m.Data, Trace: traceOf(m)}, ok && err == nil
}
