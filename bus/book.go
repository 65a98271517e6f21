package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// appendPatience is how long Append waits for its acknowledgement when ctx
// allows more: many fsyncs of a bad disk, and less than a client's patience.
const appendPatience = 2 * time.Second

// Book is one partition's pages. It holds no state and no resources; any number
// may exist of one partition.
type Book struct {
	bus *Bus
	p   Partition
}

// StoredPage is a page as it stands in the book.
type StoredPage struct {
	Seq    uint64    // its place in the book: 1, 2, 3, ...
	Stored time.Time // the server's clock when it was stored
	Data   []byte    // for DecodePage; not used again by the bus
	Trace  TraceContext
}

// Book is the book of one partition. It asks nothing of the server.
func (b *Bus) Book(p Partition) *Book { return &Book{bus: b, p: p} }

// Partition is the partition whose book it is.
func (k *Book) Partition() Partition { return k.p }

// Append puts a page after the page with sequence expectLast (0: into an empty
// book), or nowhere. A nil error means that it is on disk, at seq; where
// CheckDurability says otherwise, that a server has it in memory. All else is
// one of:
//
//	ErrConflict        not stored, another page is there      (JetStream error 10071)
//	ErrInFlight        not stored, another page is on its way (10164)
//	ErrNotStored       not stored, refused for another reason
//	ErrOutcomeUnknown  everything else: time-out, lost connection, no leader, an
//	                   answer that can not be read
//
// They are told apart by code and never by text. Append waits until ctx ends and
// at most 2 s. It never tries again: the caller has to read the book first.
func (k *Book) Append(ctx context.Context, expectLast uint64, page []byte) (seq uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendPatience)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("append to %s: %w: not sent: %w", BookStream(k.p), ErrNotStored, err)
	}
	request := &nats.Msg{
		Subject: BookSubject(k.p),
		Header: nats.Header{
			headerExpectedStream:  {BookStream(k.p)},
			headerExpectedLastSeq: {strconv.FormatUint(expectLast, 10)},
		},
		Data: page,
	}
	if t := traceIn(ctx); t.Parent != "" {
		maps.Copy(request.Header, t.header())
	}
	if int64(request.Size()) > k.bus.nc.MaxPayload() {
		return 0, fmt.Errorf("append to %s: %w: a page of %d bytes is too large", BookStream(k.p), ErrNotStored, len(page))
	}
	answer, err := k.bus.nc.RequestMsgWithContext(ctx, request)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w: %w", BookStream(k.p), ErrOutcomeUnknown, err)
	}
	return k.outcome(answer.Data, expectLast)
}

// outcome reads an acknowledgement. What it does not understand is unknown.
func (k *Book) outcome(answer []byte, expectLast uint64) (uint64, error) {
	var ack struct {
		Error  *apiError `json:"error"`
		Stream string    `json:"stream"`
		Seq    uint64    `json:"seq"`
	}
	stream := BookStream(k.p)
	if err := json.Unmarshal(answer, &ack); err != nil {
		return 0, fmt.Errorf("append to %s: %w: %w", stream, ErrOutcomeUnknown, err)
	}
	if ack.Error == nil {
		// With the fence, a page that was stored is the next one, in this stream.
		if ack.Stream != stream || ack.Seq != expectLast+1 {
			return 0, fmt.Errorf("append to %s: %w: acknowledged as %s %d after %d", stream, ErrOutcomeUnknown, ack.Stream, ack.Seq, expectLast)
		}
		return ack.Seq, nil
	}
	kind := ErrOutcomeUnknown
	switch code := ack.Error.ErrCode; {
	case code == codeWrongLastSequence:
		kind = ErrConflict
	case code == codeSequenceInFlight:
		kind = ErrInFlight
	case code == codeStreamStoreFailed:
		// A single server says so for a full stream only (2.14 and later: an error
		// of the disk is not answered at all). In a cluster it may be one replica's
		// failure beside others' success.
		if l := k.bus.layout.Load(); l != nil && l.Replicas == 1 {
			kind = ErrNotStored
		}
	case ack.Error.Code >= 400 && ack.Error.Code < 500:
		kind = ErrNotStored // refused before it was stored or proposed
	}
	return 0, fmt.Errorf("append to %s after %d: %w: %w", stream, expectLast, kind, ack.Error)
}

// End is the last sequence of the book, 0 when it is empty, as its leader knows
// it. It is never older than the moment of the question. Errors: ErrNotCreated,
// ErrUnreachable, ErrClosed, or ctx's.
func (k *Book) End(ctx context.Context) (uint64, error) {
	info, err := k.bus.info(ctx, BookStream(k.p))
	if err != nil {
		return 0, fmt.Errorf("find the end of %s: %w", BookStream(k.p), err)
	}
	return info.State.LastSeq, nil
}
