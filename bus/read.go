package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

// errNoAnswer: a batch was not answered, or not to its end.
var errNoAnswer = errors.New("no answer to a direct get")

// getter reads batches of pages by direct get, one after the other. It needs no
// consumer on the server and so no right to create one.
type getter struct {
	book  *Book
	sub   *nats.Subscription
	ch    chan *nats.Msg
	inbox string
	n     uint64 // batches asked for; part of the inbox, so that late answers are told from new ones
}

func (k *Book) newGetter() (*getter, error) {
	g := &getter{book: k, ch: make(chan *nats.Msg, batchPages+8), inbox: k.bus.nc.NewInbox() + "."}
	sub, err := k.bus.nc.ChanSubscribe(g.inbox+"*", g.ch)
	if err != nil {
		return nil, closedOr(err)
	}
	g.sub = sub
	return g, nil
}

func (g *getter) close() { _ = g.sub.Unsubscribe() }

// batch asks for the pages from *last+1 to through, as many as fit, calls fn with
// each and moves *last along. It returns how many pages the answering server has
// beyond those. An errNoAnswer leaves *last where the answer broke off.
func (g *getter) batch(ctx context.Context, last *uint64, through uint64, fn func(StoredPage) error) (pending uint64, err error) {
	from := *last + 1
	g.n++
	inbox := g.inbox + strconv.FormatUint(g.n, 36)
	ask := min(through-*last, batchPages)
	request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, from, ask, batchBytes)
	if err := g.book.bus.nc.PublishRequest(apiDirectGet+BookStream(g.book.p), inbox, request); err != nil {
		return 0, errors.Join(errNoAnswer, closedOr(err))
	}
	timer := time.NewTimer(apiTimeout)
	defer timer.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-g.ch:
		default:
			timer.Reset(apiTimeout) // only when there is a wait, and so rarely
			select {
			case m = <-g.ch:
			case <-timer.C:
				return 0, errNoAnswer
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		if m.Subject != inbox {
			continue // of an earlier batch that was given up
		}
		if status := headerOf(m, headerStatus); status != "" {
			return g.end(status, m)
		}
		page, ok := storedPage(m)
		if !ok {
			return 0, fmt.Errorf("read %s: a page without its sequence or time", BookStream(g.book.p))
		}
		if page.Seq <= *last || page.Seq > through {
			continue
		}
		if page.Seq != *last+1 {
			return 0, fmt.Errorf("read %s: %w: %d follows %d", BookStream(g.book.p), ErrGap, page.Seq, *last)
		}
		if err := fn(page); err != nil {
			return 0, err
		}
		*last = page.Seq
	}
}

// end reads the message that closes a batch.
func (g *getter) end(status string, m *nats.Msg) (pending uint64, err error) {
	switch status {
	case statusEndOfBatch:
		pending, _ = headerUint(m, headerNumPending)
		return pending, nil
	case statusNoMessage:
		return 0, nil
	case statusNoResponders:
		return 0, errNoAnswer
	default:
		return 0, fmt.Errorf("read %s: the server refused with status %s", BookStream(g.book.p), status)
	}
}

// storedPage reads a page from a direct get's answer or from the live subject:
// both carry the same headers.
func storedPage(m *nats.Msg) (StoredPage, bool) {
	seq, ok := headerUint(m, headerSequence)
	at, err := time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
	return StoredPage{Seq: seq, Stored: at, Data: m.Data}, ok && err == nil
}
