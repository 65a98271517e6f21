package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// defaultRetry is how long a submitter waits for an outcome before it publishes
// the command again: longer than a writer's takeover (0.3 s) and an fsync.
const defaultRetry = time.Second

// While outcomes of a partition keep arriving, COMMANDS is there and not full,
// and its acknowledgement is not asked for: it would cost a fifth of the rate.
// After this long without one it is, so that a refusal is learnt at once.
const trustOutcomes = 20 * time.Millisecond

// Command is what an adapter asks of a partition's writer.
type Command struct {
	ID        CommandID // the same for every repetition of the same command
	Partition Partition
	Verb      string // one subject token: lower-case letters, digits, '_', '-'
	Body      []byte // opaque, at most MaxCommand bytes; not used after Submit returns
	Trace     TraceContext
}

// MaxCommand is the largest body of a command, in bytes.
const MaxCommand = commandsMaxSize - 1<<10

// Reply is a command's outcome. Position is where its last event stands, or
// what the writer puts there for a command that made none; the bus sets its
// partition, and carries page and index as they are.
type Reply struct {
	Position Position
	Body     []byte // opaque; the receiver's own
}

// SubmitterConfig tunes a submitter; the zero value is ready.
type SubmitterConfig struct {
	Retry time.Duration // how long to wait before a command is published again; 0 means 1 s
}

// Submitter publishes commands and brings back their outcomes, for any number
// of goroutines. A process needs one.
type Submitter struct {
	bus   *Bus
	retry time.Duration
	inbox string // outcomes arrive at <inbox>.o, acknowledgements at <inbox>.a.<token>
	stop  func() // ends the subscription to the inbox

	mu       sync.Mutex // guards what follows; held for some map accesses at a time
	calls    map[uint64]*call
	free     []*call                  // calls to be used again, with their channel, timer and buffers
	token    uint64                   // the last one given
	answered [MaxPartitions]time.Time // when an outcome last came from each partition
	closed   bool

	running sync.WaitGroup // one for each Submit under way
}

// call is one Submit. Between begin and end it is in Submitter.calls, and what
// arrives for it is put there under Submitter.mu; a late arrival finds no call.
type call struct {
	token     uint64
	partition Partition
	subject   string
	message   []byte
	trace     nats.Header // what the message says of its trace; nil, and then it has no header at all
	timer     *time.Timer
	signal    chan signal // room for one

	tries    int   // guarded by Submitter.mu
	refusals int   // guarded by Submitter.mu
	refusal  error // guarded by Submitter.mu: the last one
}

// signal ends a Submit.
type signal struct {
	reply Reply
	err   error
}

// NewSubmitter subscribes to an inbox of its own.
func (b *Bus) NewSubmitter(cfg SubmitterConfig) (*Submitter, error) {
	s := &Submitter{
		bus:   b,
		retry: cfg.Retry,
		inbox: b.nc.NewInbox(),
		calls: map[uint64]*call{},
	}
	if s.retry <= 0 {
		s.retry = defaultRetry
	}
	if err := checkInbox(s.inbox); err != nil || len(s.inbox)+2 > maxInbox {
		return nil, fmt.Errorf("open a submitter: %q can not take outcomes", s.inbox)
	}
	stop, err := b.subscribe(s.inbox+".>", s.arrived)
	if err != nil {
		return nil, fmt.Errorf("open a submitter: %w", err)
	}
	s.stop = stop
	return s, nil
}

// Close ends all Submits under way with ErrNoOutcome, waits for them, and gives
// the inbox up. A second call does nothing.
func (s *Submitter) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for _, k := range s.calls {
		k.give(signal{err: fmt.Errorf("submit a command: %w: %w", ErrNoOutcome, ErrClosed)})
	}
	s.mu.Unlock()
	if !first {
		return
	}
	s.running.Wait()
	s.stop()
}

// Submit publishes a command and waits for its outcome. While none comes it
// publishes the same command, same id, again and again, until ctx ends. Errors:
//
//	ErrNotAccepted  COMMANDS refused it every time: it has not happened and will not
//	ErrNoOutcome    it may or may not have happened; the same id may be submitted again
//
// A refusal is learnt at once, but for a command that is published within 20 ms
// of another's outcome: that one's first try is not acknowledged, so that, should
// it have been refused, the later tries can not prove it, and it is ErrNoOutcome.
func (s *Submitter) Submit(ctx context.Context, c Command) (Reply, error) {
	if !isToken(c.Verb) || len(c.Body) > MaxCommand || c.Partition >= MaxPartitions {
		return Reply{}, fmt.Errorf("submit a command: %w: verb %q, %d bytes, partition %s", ErrNotAccepted, c.Verb, len(c.Body), c.Partition)
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, fmt.Errorf("submit a command: %w: %w", ErrNotAccepted, err)
	}
	k, ask, err := s.begin(c)
	if err != nil {
		return Reply{}, err
	}
	defer s.end(k)
	for {
		s.publish(k, ask)
		k.timer.Reset(s.retry)
		select {
		case got := <-k.signal:
			return got.reply, got.err
		case <-k.timer.C:
			s.again(k)
			ask = true
		case <-ctx.Done():
			return Reply{}, fmt.Errorf("submit a command: %w: %w", ErrNoOutcome, context.Cause(ctx))
		}
	}
}

// publish offers the command once, and asks to be told whether it was accepted.
// When it can not even be sent, that is a refusal: nothing is kept to be sent
// later.
func (s *Submitter) publish(k *call, ask bool) {
	reply, err := "", error(nil)
	if ask {
		reply = s.inbox + ".a." + strconv.FormatUint(k.token, 36)
	}
	switch {
	case k.trace != nil:
		err = s.bus.nc.PublishMsg(&nats.Msg{Subject: k.subject, Reply: reply, Header: k.trace, Data: k.message})
	case ask:
		err = s.bus.nc.PublishRequest(k.subject, reply, k.message)
	default:
		err = s.bus.nc.Publish(k.subject, k.message)
	}
	if err != nil {
		s.mu.Lock()
		k.refuse(closedOr(err))
		s.mu.Unlock()
	}
}

// begin registers a call, its first try counted, and says whether to ask for an
// acknowledgement.
func (s *Submitter) begin(c Command) (k *call, ask bool, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, fmt.Errorf("submit a command: %w: %w", ErrNotAccepted, ErrClosed)
	}
	s.running.Add(1)
	if n := len(s.free); n > 0 {
		k, s.free = s.free[n-1], s.free[:n-1]
	} else {
		k = &call{signal: make(chan signal, 1), timer: time.NewTimer(s.retry)}
	}
	s.token++
	k.token, k.partition = s.token, c.Partition
	k.tries, k.refusals, k.refusal = 1, 0, nil
	k.subject = CommandSubject(c.Partition, c.Verb)
	k.message = appendCommand(k.message[:0], c.ID, k.token, s.inbox+".o", c.Body)
	k.trace = c.Trace.header()
	s.calls[k.token] = k
	return k, now.Sub(s.answered[c.Partition]) > trustOutcomes, nil
}

// again counts another try.
func (s *Submitter) again(k *call) {
	s.mu.Lock()
	k.tries++
	s.mu.Unlock()
}

// end takes the call out, so that nothing arrives for it any more, and empties
// what had arrived.
func (s *Submitter) end(k *call) {
	k.timer.Stop()
	s.mu.Lock()
	delete(s.calls, k.token)
	select {
	case <-k.signal:
	default:
	}
	s.free = append(s.free, k)
	s.mu.Unlock()
	s.running.Done()
}

// give ends the call's Submit, unless something else has. Submitter.mu is held.
func (k *call) give(got signal) {
	select {
	case k.signal <- got:
	default:
	}
}

// refuse notes that a try was refused. Once every try was, none can have been
// accepted, and the call is over. Submitter.mu is held.
func (k *call) refuse(err error) {
	k.refusals++
	k.refusal = err
	if k.refusals == k.tries {
		k.give(signal{err: fmt.Errorf("submit a command: %w: %w", ErrNotAccepted, k.refusal)})
	}
}

// arrived takes what comes to the inbox, on the subscription's goroutine.
func (s *Submitter) arrived(m *nats.Msg) {
	kind := m.Subject[len(s.inbox)+1:]
	if kind == "o" {
		s.outcomes(m.Data)
		return
	}
	token, ok := strings.CutPrefix(kind, "a.")
	if !ok {
		return
	}
	err := refusalOf(m)
	if err == nil {
		return // accepted: the outcome will tell
	}
	n, parseErr := strconv.ParseUint(token, 36, 64)
	if parseErr != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.calls[n]; k != nil {
		k.refuse(err)
	}
}

func (s *Submitter) outcomes(data []byte) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	eachOutcome(data, func(token, page uint64, index uint32, body []byte) {
		k := s.calls[token]
		if k == nil {
			return // given up, or answered before
		}
		s.answered[k.partition] = now
		k.give(signal{reply: Reply{Position: Position{Partition: k.partition, Page: page, Index: index}, Body: body}})
	})
}

// acceptedPrefix begins an acknowledgement of a stored message; a refusal begins
// with its error. Every command's acknowledgement passes here, so that it is not
// parsed further.
var acceptedPrefix = []byte(`{"stream":`)

// refusalOf is why COMMANDS did not take a command, nil when it did.
func refusalOf(m *nats.Msg) error {
	if bytes.HasPrefix(m.Data, acceptedPrefix) {
		return nil
	}
	if headerOf(m, headerStatus) == statusNoResponders {
		return nats.ErrNoResponders
	}
	var ack struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return nil // not an acknowledgement: nothing is known
	}
	if ack.Error == nil {
		return nil
	}
	return ack.Error
}
