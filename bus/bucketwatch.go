package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WatchAll is Watch of all keys.
func (k *bucket) WatchAll(ctx context.Context, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	return k.Watch(ctx, jetstream.AllKeys, opts...)
}

// Watch gives the last entry of every key of the pattern, deleted ones included,
// then nil, then the changes, until ctx ends or Stop is called. The part before
// nil holds all that the stream's leader had when Watch was called. An entry
// without a key says that what stood up to its revision is gone.
//
// The server names each change on a subject; what is missed there is found by
// looking once a second. While the bus is away the watch stands still; it ends by
// itself only when the connection is closed or the right to read was taken away.
// Options are refused: they can not be read outside the library.
func (k *bucket) Watch(ctx context.Context, pattern string, opts ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	if len(opts) > 0 {
		return nil, errors.New("watch a bucket: options are not served")
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &bucketWatch{cancel: cancel, updates: make(chan jetstream.KeyValueEntry, 64)}
	if err := w.open(ctx, k, pattern); err != nil {
		w.close()
		close(w.updates)
		return nil, fmt.Errorf("watch the bucket %s: %w", k.Bucket(), err)
	}
	go w.run(ctx)
	return w, nil
}

// bucketWatch is one watch. All but cancel and updates is owned by run.
type bucketWatch struct {
	cancel  context.CancelFunc
	updates chan jetstream.KeyValueEntry

	reader *bucketReader
	end    uint64         // of the stream when the watch began
	bells  chan *nats.Msg // that there are changes
	sub    *nats.Subscription
	status chan nats.Status
	once   sync.Once
}

// Updates is where the entries arrive. It is closed when the watch has ended.
func (w *bucketWatch) Updates() <-chan jetstream.KeyValueEntry { return w.updates }

// Stop ends the watch; Updates is closed when it has.
func (w *bucketWatch) Stop() error {
	w.cancel()
	return nil
}

// open listens before it asks for the end, so that no change falls between.
func (w *bucketWatch) open(ctx context.Context, k *bucket, pattern string) (err error) {
	w.bells = make(chan *nats.Msg, liveBuffer)
	w.status = k.bus.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	if w.reader, err = k.newReader(pattern); err != nil {
		return err
	}
	if k.bell != "" {
		if w.sub, err = k.bus.nc.ChanSubscribe(k.bell+">", w.bells); err != nil {
			return closedOr(err)
		}
	}
	info, err := k.bus.info(ctx, k.stream)
	w.end = info.State.LastSeq
	return err
}

func (w *bucketWatch) close() {
	w.once.Do(func() {
		w.cancel()
		if w.sub != nil {
			_ = w.sub.Unsubscribe()
		}
		if w.reader != nil {
			w.reader.bucket.bus.nc.RemoveStatusListener(w.status)
			w.reader.close()
		}
	})
}

func (w *bucketWatch) run(ctx context.Context) {
	defer close(w.updates)
	defer w.close()
	err := w.reader.through(ctx, w.end, func(e entry) error { return w.give(ctx, e) })
	if err == nil {
		err = w.give(ctx, nil)
	}
	if err == nil {
		err = w.follow(ctx)
	}
	if ctx.Err() == nil {
		w.reader.bucket.bus.log.Warn("a watch ended", "bucket", w.reader.bucket.Bucket(), "error", err)
	}
}

// follow gives the changes, as they are told and found.
func (w *bucketWatch) follow(ctx context.Context) error {
	poll := time.NewTicker(bucketPoll)
	defer poll.Stop()
	for {
		var atLeast uint64
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-w.status:
			if s == nats.CLOSED {
				return ErrClosed
			}
		case m := <-w.bells:
			atLeast, _ = headerUint(m, headerSequence)
			if atLeast <= w.reader.last {
				continue
			}
		case <-poll.C:
		}
		if err := w.reader.through(ctx, atLeast, func(e entry) error { return w.give(ctx, e) }); err != nil {
			return err
		}
	}
}

// give hands an entry over; nil marks the end of what was there.
func (w *bucketWatch) give(ctx context.Context, e jetstream.KeyValueEntry) error {
	select {
	case w.updates <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
