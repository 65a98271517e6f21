package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The feed is each event of the books as a message of its own, for those who
// read by subject. It is published in atomic batches; the last message of each is
// the partition's marker, which says how far the feed has come. The batch names
// the marker that it follows, by sequence: that is the fence. Of two publishers
// who go on from the same marker one succeeds, whatever they believe, and a batch
// whose fate nobody knows is found in the marker or was never stored. The marker's
// subject is literal: an expectation with a wildcard lets a stale batch through
// on a cluster.
//
// A reader hears what is stored by way of the bell, the marker's headers, which
// the server republishes. The events' own subjects tell of batches that may come
// to nothing, and are not to be listened to.

const (
	// MaxFeedBatch is how many events one batch may have; the marker comes on top.
	MaxFeedBatch = 999
	// feedPatience is how long the outcome of a batch is awaited.
	feedPatience = 5 * time.Second
	// FeedMaxAge is how long an event stays in the feed unless the operator says otherwise.
	FeedMaxAge = 30 * 24 * time.Hour
)

// The headers of the feed's messages.
const (
	// HeaderPosition is the event's position; of a marker, that of the last event before it.
	HeaderPosition = "Rollbook-Position"
	// HeaderTime is when the event happened by the book's clock, in RFC 3339 with nanoseconds.
	HeaderTime = "Rollbook-Time"

	headerBatch       = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

// FeedRetention is how long the feed keeps events, the oldest going first.
type FeedRetention struct {
	MaxAge   time.Duration // 0: for ever
	MaxBytes int64         // of the stream, in bytes; 0: no bound
}

// FeedEvent is an event on its way into the feed.
type FeedEvent struct {
	User string // empty: it concerns no single user
	Type string // one subject token
	At   Position
	Time time.Time
	Data []byte // as it stands in the book
}

// FeedMarker says how far a partition's feed has come.
type FeedMarker struct {
	Seq    uint64    // in the stream; 0: there is none
	At     Position  // of the last event published
	Batch  string    // the batch that it ended, as ID names it; empty when this process has published it
	Stored time.Time // the server's clock; zero when this process has published it
}

// Feed is one partition's part of the feed. It holds no state and no resources.
type Feed struct {
	bus *Bus
	p   Partition
}

// Feed is the feed of one partition. It asks nothing of the server.
func (b *Bus) Feed(p Partition) *Feed { return &Feed{bus: b, p: p} }

// Marker finds out how far the feed has come. Any replica may answer, and with an
// older marker: whoever goes on from one meets ErrConflict, and asks again.
// ErrNotCreated says that there is no stream.
func (f *Feed) Marker(ctx context.Context) (FeedMarker, error) {
	m, err := f.bus.lastOf(ctx, StreamFeed, FeedMarkerSubject(f.p))
	if err != nil || m == nil {
		return FeedMarker{}, err
	}
	seq, ok := headerUint(m, headerSequence)
	at, err := ParsePosition(headerOf(m, HeaderPosition))
	stored, err2 := time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
	if !ok || err != nil || err2 != nil || at.Partition != f.p {
		return FeedMarker{}, fmt.Errorf("read the feed's marker of partition %s: it is none of this program's", f.p)
	}
	return FeedMarker{Seq: seq, At: at, Batch: headerOf(m, headerBatch), Stored: stored}, nil
}

// FeedState is what the leader of the feed's stream says of it.
type FeedState struct {
	First, Last uint64 // sequences of what is kept; First is Last+1 when nothing is
	MaxAge      time.Duration
	Now         time.Time // the server's clock
}

// State asks for the state of the stream, which all partitions share.
func (f *Feed) State(ctx context.Context) (FeedState, error) {
	info, err := f.bus.stream(ctx, StreamFeed)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = fmt.Errorf("%w: %w", ErrNotCreated, err)
	}
	if err != nil {
		return FeedState{}, err
	}
	return FeedState{First: info.State.FirstSeq, Last: info.State.LastSeq, MaxAge: info.Config.MaxAge, Now: info.TimeStamp}, nil
}

// FeedBatch is a batch that has been sent but for its end: nothing of it is
// stored before Commit.
type FeedBatch struct {
	feed *Feed
	id   string
	n    int
	last Position
}

// Begin sends the events of a batch, 0 to MaxFeedBatch of them, in order. It does
// not wait. at is where the feed has come with them. A server forgets a batch that
// is not ended within 10 s, and has room for 50 of a stream.
func (f *Feed) Begin(events []FeedEvent, at Position) (*FeedBatch, error) {
	var id [8]byte
	_, _ = rand.Read(id[:])
	b := &FeedBatch{feed: f, id: hex.EncodeToString(id[:]), n: len(events), last: at}
	// One message for all of them: the client has copied it when it returns.
	seq, position, when := []string{""}, []string{""}, []string{""}
	m := &nats.Msg{Header: nats.Header{headerBatch: {b.id}, headerBatchSeq: seq, HeaderPosition: position, HeaderTime: when}}
	for i := range events {
		e := &events[i]
		m.Subject, m.Data = FeedSubject(f.p, e.User, e.Type), e.Data
		seq[0], position[0], when[0] = strconv.Itoa(i+1), e.At.String(), e.Time.UTC().Format(time.RFC3339Nano)
		if err := f.bus.nc.PublishMsg(m); err != nil {
			return nil, fmt.Errorf("publish to the feed: %w: %w", ErrNotStored, closedOr(err))
		}
	}
	return b, nil
}

// ID names the batch for ever: whoever has not learned its outcome and finds it in
// a marker knows that it was stored.
func (b *FeedBatch) ID() string { return b.id }

// Commit stores the batch after the given marker, all of it or nothing, and gives
// the new marker. It waits at most 5 s. All but nil is one of:
//
//	ErrConflict        not stored: the feed has come further
//	ErrNotStored       not stored: refused
//	ErrFeedBatch       not stored: the server takes smaller batches only
//	ErrNotCreated      not stored: there is no stream
//	ErrOutcomeUnknown  everything else
//
// After each of them the marker is to be read again.
func (b *FeedBatch) Commit(ctx context.Context, after FeedMarker) (FeedMarker, error) {
	ctx, cancel := context.WithTimeout(ctx, feedPatience)
	defer cancel()
	answer, err := b.feed.bus.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: FeedMarkerSubject(b.feed.p), Header: nats.Header{
		headerBatch: {b.id}, headerBatchSeq: {strconv.Itoa(b.n + 1)}, headerBatchCommit: {"1"},
		headerExpectedStream: {StreamFeed}, nats.ExpectedLastSubjSeqHdr: {strconv.FormatUint(after.Seq, 10)},
		HeaderPosition: {b.last.String()},
	}})
	if errors.Is(err, nats.ErrNoResponders) {
		return FeedMarker{}, fmt.Errorf("publish to the feed: %w: nothing takes it", ErrNotCreated)
	}
	if err != nil {
		return FeedMarker{}, fmt.Errorf("publish to the feed: %w: %w", ErrOutcomeUnknown, closedOr(err))
	}
	return b.outcome(answer.Data)
}

// outcome reads an acknowledgement. What it does not understand is unknown.
func (b *FeedBatch) outcome(answer []byte) (FeedMarker, error) {
	var ack struct {
		Error  *apiError `json:"error"`
		Stream string    `json:"stream"`
		Seq    uint64    `json:"seq"`
		Batch  string    `json:"batch"`
		Count  int       `json:"count"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return FeedMarker{}, fmt.Errorf("publish to the feed: %w: %w", ErrOutcomeUnknown, err)
	}
	if ack.Error == nil {
		if ack.Stream != StreamFeed || ack.Batch != b.id || ack.Count != b.n+1 {
			return FeedMarker{}, fmt.Errorf("publish to the feed: %w: acknowledged as %d messages of %s", ErrOutcomeUnknown, ack.Count, ack.Stream)
		}
		return FeedMarker{Seq: ack.Seq, At: b.last}, nil
	}
	kind := ErrOutcomeUnknown
	switch code := ack.Error.ErrCode; {
	case code == codeWrongLastSequence, code == codeSequenceInFlight:
		kind = ErrConflict
	case code == codeBatchTooLarge:
		kind = ErrFeedBatch
	case ack.Error.Code >= 400 && ack.Error.Code < 500:
		kind = ErrNotStored
	}
	return FeedMarker{}, fmt.Errorf("publish to the feed: %w: %w", kind, ack.Error)
}

// Abandon has the server forget a batch that will not be committed, so that it
// takes no room. It does not wait, and it does not matter if it is lost.
func (b *FeedBatch) Abandon() {
	// A sequence out of order ends a batch.
	_ = b.feed.bus.nc.PublishMsg(&nats.Msg{Subject: FeedMarkerSubject(b.feed.p), Header: nats.Header{
		headerBatch: {b.id}, headerBatchSeq: {strconv.Itoa(b.n + 2)}, headerExpectedStream: {StreamFeed},
	}})
}

// SetFeedRetention changes how long the feed keeps events; it needs the right to
// change streams, which on a bus elsewhere the owner alone has.
func (b *Bus) SetFeedRetention(ctx context.Context, r FeedRetention) error {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	info, err := b.stream(ctx, StreamFeed)
	if err != nil {
		return fmt.Errorf("set the feed's retention: %w", err)
	}
	cfg := info.Config
	if r.MaxBytes == 0 {
		r.MaxBytes = -1
	}
	if cfg.MaxAge == r.MaxAge && cfg.MaxBytes == r.MaxBytes {
		return nil
	}
	cfg.MaxAge, cfg.MaxBytes = r.MaxAge, r.MaxBytes
	cfg.Duplicates = 0 // follows the age
	err = b.permitted(ctx, apiStreamUpdate+StreamFeed, func(ctx context.Context) error {
		_, err := b.js.UpdateStream(ctx, cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("set the feed's retention: %w", err)
	}
	return nil
}

// feedConfig is the stream of the feed. An operator may bound it by age, size or
// number of messages; what it must not do is to refuse when full.
func feedConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               StreamFeed,
		Description:        "Rollbook: each event of the books, for downstream consumers",
		Subjects:           []string{subjectFeed + "*.*.*", subjectFeedMarker + "*"},
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardOld,
		MaxAge:             FeedMaxAge,
		MaxMsgSize:         maxPayload,
		Replicas:           l.Replicas,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		RePublish:          &jetstream.RePublish{Source: subjectFeedMarker + ">", Destination: subjectFeedBell + ">", HeadersOnly: true},
	}
}

// boundElsewhere reports that a stream could not be made because it is there with
// other limits, which are the operator's to set.
func boundElsewhere(cfg jetstream.StreamConfig, err error) bool {
	return cfg.Name == StreamFeed && errors.Is(err, jetstream.ErrStreamNameAlreadyInUse)
}

// userToken is a user as one token of a subject. An id that is one stands as it
// is; of any other each byte that has no place there stands as % and two
// hexadecimal digits.
func userToken(user string) string {
	switch user {
	case "":
		return noUser
	case noUser:
		return "%2D"
	}
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	var b strings.Builder
	for i := range len(user) {
		if !plain(user[i]) {
			for j := range len(user) {
				if c := user[j]; plain(c) {
					b.WriteByte(c)
				} else {
					fmt.Fprintf(&b, "%%%02X", c)
				}
			}
			return b.String()
		}
	}
	return user
}
