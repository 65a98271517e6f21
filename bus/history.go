package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// HistoryBuckets is into how many subjects the history index of a partition is
// divided. A file stream costs one fsync a message: one message a user would
// cost more of them than the writer's pages do.
const HistoryBuckets = 64

// historyConfig is the stream of the history indexes of all partitions.
func historyConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamHistory,
		Description: "Rollbook: which pages of the book a user is in",
		Subjects:    []string{subjectHistory + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgSize:  maxPayload,
		Replicas:    l.Replicas,
		AllowDirect: true,
	}
}

// HistoryMark is what was last put under the partition's literal subject; nil
// when nothing was. ErrNotCreated when nothing answers for the stream.
func (k *Book) HistoryMark(ctx context.Context) ([]byte, error) {
	m, err := k.bus.lastOf(ctx, StreamHistory, HistorySubject(k.p))
	if err != nil || m == nil {
		return nil, err
	}
	return m.Data, nil
}

// PutHistoryMark replaces the mark. On nil it is on disk, and so is all that was
// put before it.
func (k *Book) PutHistoryMark(ctx context.Context, mark []byte) error {
	return k.putHistory(ctx, HistorySubject(k.p), mark)
}

// PutHistory adds a list to a bucket, from 0 to HistoryBuckets less one. On nil
// it is on disk.
func (k *Book) PutHistory(ctx context.Context, bucket int, list []byte) error {
	return k.putHistory(ctx, HistoryBucketSubject(k.p, bucket), list)
}

func (k *Book) putHistory(ctx context.Context, subject string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, chunkPatience)
	defer cancel()
	_, err := k.bus.js.Publish(ctx, subject, data, jetstream.WithExpectStream(StreamHistory))
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("%s: %w: %w", StreamHistory, ErrNotCreated, err)
	}
	if err != nil {
		return fmt.Errorf("put into %s: %w", StreamHistory, closedOr(err))
	}
	return nil
}

// History calls fn with every list of a bucket, the oldest first, on the caller's
// goroutine. Any replica may answer: the newest lists may be missing. Errors: fn's
// as it is, ErrUnreachable, ErrNotPermitted, ErrClosed, or ctx's.
func (k *Book) History(ctx context.Context, bucket int, fn func(list []byte) error) error {
	g, err := k.bus.newBatches()
	if err != nil {
		return fmt.Errorf("read %s: %w", StreamHistory, err)
	}
	defer g.close()
	next, pause, silent := uint64(1), retryPauseFirst, 0
	for {
		request, err := json.Marshal(map[string]any{"seq": next, "next_by_subj": HistoryBucketSubject(k.p, bucket),
			"batch": batchPages, "max_bytes": batchBytes})
		if err != nil {
			return err
		}
		before := next
		pending, err := g.ask(ctx, StreamHistory, request, func(m *nats.Msg) error {
			seq, ok := headerUint(m, headerSequence)
			if !ok {
				return fmt.Errorf("read %s: a message without its sequence", StreamHistory)
			}
			if seq < next {
				return nil
			}
			next = seq + 1
			return fn(m.Data)
		})
		switch {
		case err == nil && (pending == 0 || next == before):
			return nil
		case err == nil:
			pause, silent = retryPauseFirst, 0
			continue
		case !errors.Is(err, errNoAnswer):
			return err
		}
		if silent++; silent > maxSilentRounds {
			return fmt.Errorf("read %s: %w", StreamHistory, errors.Join(ErrUnreachable, err))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
}
