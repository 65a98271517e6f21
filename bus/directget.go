package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// errNoAnswer: a batch was not answered, or not to its end.
var errNoAnswer = errors.New("no answer to a direct get")

// batches are direct gets of a stream's messages, one after the other. They need
// no consumer on the server and so no right to create one.
type batches struct {
	bus   *Bus
	sub   *nats.Subscription
	ch    chan *nats.Msg
	inbox string
	n     uint64 // batches asked for; part of the inbox, so that late answers are told from new ones
	late  bool   // the answer to the last one may still come
}

func (b *Bus) newBatches() (*batches, error) {
	g := &batches{bus: b}
	return g, g.subscribe()
}

// subscribe makes an inbox with a channel that has room for one batch.
func (g *batches) subscribe() error {
	ch, inbox := make(chan *nats.Msg, batchPages+8), g.bus.nc.NewInbox()+"."
	sub, err := g.bus.nc.ChanSubscribe(inbox+"*", ch)
	if err != nil {
		return closedOr(err)
	}
	g.sub, g.ch, g.inbox, g.late = sub, ch, inbox, false
	return nil
}

func (g *batches) close() { _ = g.sub.Unsubscribe() }

// ask sends one request and calls fn with each message of the answer. It returns
// how many messages the answering server has beyond those. Errors: fn's as it is,
// errNoAnswer, ErrNotPermitted, or ctx's.
func (g *batches) ask(ctx context.Context, stream string, request []byte, fn func(*nats.Msg) error) (pending uint64, err error) {
	if g.late {
		// Two batches in one channel are more than it holds: the client library would drop what does not fit, and a page
		// that was dropped looks like a gap in the book.
		g.close()
		if err := g.subscribe(); err != nil {
			return 0, errors.Join(errNoAnswer, err)
		}
	}
	g.n++
	inbox := g.inbox + strconv.FormatUint(g.n, 36)
	ctx, stop := g.bus.refusals.during(ctx, apiDirectGet+stream)
	defer stop()
	if err := g.bus.nc.PublishRequest(apiDirectGet+stream, inbox, request); err != nil {
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
				g.late = true
				return 0, errNoAnswer
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
		if m.Subject != inbox {
			continue // of an earlier batch that was given up
		}
		if status := headerOf(m, headerStatus); status != "" {
			return endOfBatch(stream, status, m)
		}
		if err := fn(m); err != nil {
			return 0, err
		}
	}
}

// endOfBatch reads the message that closes a batch.
func endOfBatch(stream, status string, m *nats.Msg) (pending uint64, err error) {
	switch status {
	case statusEndOfBatch:
		pending, _ = headerUint(m, headerNumPending)
		return pending, nil
	case statusNoMessage:
		return 0, nil
	case statusNoResponders:
		return 0, errNoAnswer
	default:
		return 0, fmt.Errorf("read %s: the server refused with status %s", stream, status)
	}
}
