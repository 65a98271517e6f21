package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// apiTimeout is how long one request to JetStream waits before it is asked
// again. It is well below the client library's 5 s: a server that has lost its
// leader never answers, and the new leader does within a retry.
const apiTimeout = time.Second

// retryPause grows from the first to the second while an attempt keeps failing.
const (
	retryPauseFirst = 10 * time.Millisecond
	retryPauseLast  = 500 * time.Millisecond
)

// maxSilentRounds is how many unanswered requests in a row make ErrUnreachable.
const maxSilentRounds = 5

// Error codes of JetStream that decide an outcome (server/errors.json).
const (
	codeNoMessage         = 10037
	codeStreamNotFound    = 10059
	codeWrongLastSequence = 10071
	codeStreamStoreFailed = 10077
	codeSequenceInFlight  = 10164
	codeBatchTooLarge     = 10199
)

// Status codes of messages that carry no payload (ADR-13, ADR-31).
const (
	statusHeartbeat      = "100"
	statusEndOfBatch     = "204"
	statusNoMessage      = "404"
	statusRequestTimeout = "408"
	statusNoResponders   = "503"
)

const (
	headerStatus          = "Status"
	headerPendingMessages = "Nats-Pending-Messages"
	headerNumPending      = "Nats-Num-Pending"
	headerExpectedStream  = nats.ExpectedStreamHdr
	headerExpectedLastSeq = nats.ExpectedLastSeqHdr
	headerSequence        = nats.JSSequence
	headerSubject         = nats.JSSubject
	headerKVOperation     = "KV-Operation"
	headerMarkerReason    = "Nats-Marker-Reason"
	headerTimeStamp       = nats.JSTimeStamp
)

// apiError is JetStream's own description of a refusal.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%s (JetStream error %d)", e.Description, e.ErrCode)
}

// streamInfo is the part of a STREAM.INFO answer that the hot paths need.
type streamInfo struct {
	Error   *apiError `json:"error"`
	Created time.Time `json:"created"`
	Now     time.Time `json:"ts"` // the server's clock when it answered
	State   struct {
		LastSeq uint64 `json:"last_seq"`
	} `json:"state"`
}

// info asks the leader of a stream for its state. Only the leader answers
// STREAM.INFO, so the last sequence is not a lagging replica's. It repeats the
// question while nobody answers, until ctx ends or maxSilentRounds have
// passed (ErrUnreachable).
func (b *Bus) info(ctx context.Context, stream string) (streamInfo, error) {
	pause := retryPauseFirst
	var last error
	for range maxSilentRounds {
		info, err := b.askInfo(ctx, stream)
		if err == nil {
			return info, nil
		}
		var refused *apiError
		if ctx.Err() != nil || errors.As(err, &refused) || errors.Is(err, ErrClosed) || errors.Is(err, ErrNotPermitted) {
			return streamInfo{}, err
		}
		last = err
		if err := sleep(ctx, pause); err != nil {
			return streamInfo{}, err
		}
		pause = min(2*pause, retryPauseLast)
	}
	return streamInfo{}, fmt.Errorf("%w: %w", ErrUnreachable, last)
}

func (b *Bus) askInfo(ctx context.Context, stream string) (streamInfo, error) {
	msg, err := b.request(ctx, apiStreamInfo+stream, nil)
	if err != nil {
		return streamInfo{}, err
	}
	var info streamInfo
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		return streamInfo{}, fmt.Errorf("read the state of %s: %w", stream, err)
	}
	if info.Error != nil {
		if info.Error.ErrCode == codeStreamNotFound {
			return streamInfo{}, fmt.Errorf("%w: %w", ErrNotCreated, info.Error)
		}
		return streamInfo{}, info.Error
	}
	return info, nil
}

// closedOr turns the client's ways of saying "closed" into ErrClosed.
func closedOr(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// headerOf reads one header without the canonicalization of http.Header.
func headerOf(m *nats.Msg, key string) string {
	if v := m.Header[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// headerUint reads a decimal header; ok is false when there is none.
func headerUint(m *nats.Msg, key string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(headerOf(m, key), 10, 64)
	return n, err == nil
}
