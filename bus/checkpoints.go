package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The notary's stream. A checkpoint of a partition is one message on a subject of
// its own; before it go, on another subject, the leaf hashes that it added to the
// partition's tree. The bus knows neither form: it keeps them apart by subject
// and carries what is written beside them in headers.
//
// Checkpoints are fenced by the last sequence of their own literal subject: of
// two notaries with one key one finds ErrConflict. Leaf hashes are not: what a
// notary left without its checkpoint is said again by the next.

const (
	headerCheckpointPage = "Rollbook-Page" // the last page that the checkpoint covers
	headerCheckpointEdge = "Rollbook-Edge" // the right edge of its tree
	headerLeavesFrom     = "Rollbook-From" // the place in the tree of the first leaf hash
)

// notaryPatience is how long the acknowledgement of one message is awaited.
const notaryPatience = 5 * time.Second

// NotaryRecord is a message of CHECKPOINTS: a checkpoint, or leaf hashes.
type NotaryRecord struct {
	Partition Partition
	Seq       uint64    // its place in the stream, which all partitions share
	Stored    time.Time // the server's clock
	Leaves    bool      // Data is leaf hashes, and not a checkpoint
	From      uint64    // of leaf hashes: the place of the first in the tree, from 0
	Page      uint64    // of a checkpoint: the last page that it covers
	Edge      string    // of a checkpoint: the right edge of its tree
	Data      []byte
}

// checkpointsConfig is the stream of the notary. Nothing leaves it: an older
// checkpoint proves what a newer one may have forgotten.
func checkpointsConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamCheckpoints,
		Description: "Rollbook: what the notary has signed",
		Subjects:    []string{subjectCheckpoint + "*", subjectCheckpoint + "*." + tokenLeaves},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxMsgSize:  maxPayload,
		Replicas:    l.Replicas,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
	}
}

// LastCheckpoint is the newest checkpoint of a partition, and a zero record when
// there is none. Any replica may answer: it may be an older one. ErrNotCreated
// when there is no stream for them.
func (b *Bus) LastCheckpoint(ctx context.Context, p Partition) (NotaryRecord, error) {
	m, err := b.lastOf(ctx, StreamCheckpoints, CheckpointSubject(p))
	if err != nil || m == nil {
		return NotaryRecord{}, err
	}
	r, ok := notaryRecord(m)
	if !ok {
		return NotaryRecord{}, fmt.Errorf("read %s: a message without its sequence, time or subject", StreamCheckpoints)
	}
	return r, nil
}

// AppendLeaves stores leaf hashes; from is the place of the first in the tree.
func (b *Bus) AppendLeaves(ctx context.Context, p Partition, from uint64, data []byte) error {
	_, err := b.notarize(ctx, &nats.Msg{Subject: LeavesSubject(p), Data: data,
		Header: nats.Header{headerLeavesFrom: {strconv.FormatUint(from, 10)}}})
	return err
}

// AppendCheckpoint stores a checkpoint after the partition's last one, whose
// sequence is expectLast; 0: there is none. The record needs its Partition, Page,
// Edge and Data. Errors: ErrConflict when another was stored meanwhile; after any
// other it is not known whether this one was.
func (b *Bus) AppendCheckpoint(ctx context.Context, expectLast uint64, r NotaryRecord) (seq uint64, err error) {
	return b.notarize(ctx, &nats.Msg{Subject: CheckpointSubject(r.Partition), Data: r.Data,
		Header: nats.Header{headerCheckpointPage: {strconv.FormatUint(r.Page, 10)}, headerCheckpointEdge: {r.Edge}}},
		jetstream.WithExpectLastSequencePerSubject(expectLast))
}

func (b *Bus) notarize(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, notaryPatience)
	defer cancel()
	ctx, stop := b.refusals.during(ctx, m.Subject)
	defer stop()
	ack, err := b.js.PublishMsg(ctx, m, append(opts, jetstream.WithExpectStream(StreamCheckpoints))...)
	var refused *jetstream.APIError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.As(err, &refused) && (refused.ErrorCode == codeWrongLastSequence || refused.ErrorCode == codeSequenceInFlight):
		return 0, fmt.Errorf("store a checkpoint: %w", ErrConflict)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return 0, fmt.Errorf("store a checkpoint: %s: %w: %w", StreamCheckpoints, ErrNotCreated, err)
	case errors.Is(context.Cause(ctx), ErrNotPermitted):
		err = context.Cause(ctx)
	}
	return 0, fmt.Errorf("store a checkpoint: %w", closedOr(err))
}

// ReadCheckpoints calls fn with every message of the stream after the given
// sequence, in order, on the caller's goroutine, to the end that the stream had
// when it was called. It returns fn's error as it is, ErrGap when a message is
// missing, ErrNotCreated, ErrUnreachable, ErrClosed, or ctx's error.
func (b *Bus) ReadCheckpoints(ctx context.Context, after uint64, fn func(NotaryRecord) error) error {
	info, err := b.info(ctx, StreamCheckpoints)
	if err != nil {
		return fmt.Errorf("read %s: %w", StreamCheckpoints, err)
	}
	g, err := b.newBatches()
	if err != nil {
		return fmt.Errorf("read %s: %w", StreamCheckpoints, err)
	}
	defer g.close()
	pause, silent := retryPauseFirst, 0
	for last, end := after, info.State.LastSeq; last < end; {
		before := last
		request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, last+1, min(end-last, batchPages), batchBytes)
		_, err := g.ask(ctx, StreamCheckpoints, request, func(m *nats.Msg) error {
			r, ok := notaryRecord(m)
			switch {
			case !ok:
				return fmt.Errorf("read %s: a message without its sequence, time or subject", StreamCheckpoints)
			case r.Seq <= last || r.Seq > end:
				return nil
			case r.Seq != last+1:
				return fmt.Errorf("read %s: %w: %d follows %d", StreamCheckpoints, ErrGap, r.Seq, last)
			}
			if err := fn(r); err != nil {
				return err
			}
			last = r.Seq
			return nil
		})
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		if last > before {
			pause, silent = retryPauseFirst, 0
			continue
		}
		if silent++; silent > 2*maxSilentRounds {
			return fmt.Errorf("read %s after %d: %w", StreamCheckpoints, last, errors.Join(ErrUnreachable, err))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
	return nil
}

// notaryRecord reads a message of the stream from a direct get's answer. Headers
// that are missing read as zero: what they say proves nothing.
func notaryRecord(m *nats.Msg) (NotaryRecord, bool) {
	seq, ok := headerUint(m, headerSequence)
	at, err := time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
	p, leaves, known := partitionOfCheckpoint(headerOf(m, headerSubject))
	if !ok || err != nil || !known {
		return NotaryRecord{}, false
	}
	r := NotaryRecord{Partition: p, Seq: seq, Stored: at, Leaves: leaves, Edge: headerOf(m, headerCheckpointEdge), Data: m.Data}
	r.Page, _ = headerUint(m, headerCheckpointPage)
	r.From, _ = headerUint(m, headerLeavesFrom)
	return r, true
}
