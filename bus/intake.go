package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// takeMost bounds one Take.
	takeMost = 4096
	// trimEvery and trimCount say when commands that are done with are removed from
	// COMMANDS: whichever comes first.
	trimEvery = time.Second
	trimCount = commandsMaxCount / 16
	// outcomesAtOnce is how large a message of outcomes gets, in bytes, before it
	// is sent without waiting for more.
	outcomesAtOnce = 64 << 10
)

// Received is a command as the writer takes it.
type Received struct {
	Seq    uint64    // its place in COMMANDS, for Page.CommandsRead
	Stored time.Time // the server's clock when it was accepted
	ID     CommandID
	Verb   string
	Body   []byte // opaque; not used again by the bus
	Trace  TraceContext

	inbox    string
	token    uint64
	consumer uint64 // its number in the delivery
}

// Intake is the writer's end of COMMANDS for one partition. Take, Reply, Flush
// and Trim are called from one goroutine, the writer's.
type Intake struct {
	bus    *Bus
	p      Partition
	prefix string // of its command subjects
	pull   *pull

	taken   []Received        // what the last Take returned, used again by the next
	outbox  map[string][]byte // outcomes not yet sent, by inbox
	inboxes map[string]string // inboxes seen, so that one string serves all their commands

	clock   time.Time // the server's, when it was asked last
	clockAt time.Time // and our own then; what passes between is measured by the monotonic clock

	trimmed   uint64 // through which sequence the last trim went
	trimmedAt time.Time
}

// Intake opens the commands of a partition for the writer of an epoch. When
// COMMANDS is still the stream with this incarnation it goes on after the given
// sequence, else it begins with the first command that waits; a new writer passes
// what the book's last page holds. COMMANDS is made again when it is missing and
// books exist. No two intakes are of one epoch, as no two writers are.
func (b *Bus) Intake(ctx context.Context, p Partition, epoch uint64, incarnation int64, after uint64) (*Intake, error) {
	info, err := b.info(ctx, StreamCommands)
	if errors.Is(err, ErrNotCreated) {
		if _, err = b.Open(ctx); err == nil {
			info, err = b.info(ctx, StreamCommands)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the intake of partition %s: %w", p, err)
	}
	// A cluster that was down as a whole brings the memory stream back under its
	// old creation time, and counts from 1: a position beyond its end is no position.
	if info.Created.UnixNano() != incarnation || after > info.State.LastSeq {
		after = 0
	}
	in := &Intake{
		bus:       b,
		p:         p,
		prefix:    CommandSubject(p, ""),
		pull:      newPull(b, p, epoch, info.Created.UnixNano(), after),
		outbox:    map[string][]byte{},
		inboxes:   map[string]string{},
		clock:     info.Now,
		clockAt:   time.Now(),
		trimmed:   after,
		trimmedAt: time.Now(),
	}
	if err := in.pull.begin(ctx); err != nil {
		in.pull.close()
		return nil, fmt.Errorf("open the intake of partition %s: %w", p, err)
	}
	return in, nil
}

// Incarnation is the identity of the COMMANDS stream that sequences refer to:
// its creation, unix ns.
func (in *Intake) Incarnation() int64 { return in.pull.incarnation }

// Take waits until a command is there and returns all that are, up to 4096, in
// their order. It never waits for more. The slice is valid until the next Take;
// what its elements point to stays valid. Before it waits it sends the outcomes
// that Reply has gathered. It mends a broken delivery by itself, from the last
// command it saw. Errors: ErrCommandsReplaced, ErrClosed, or ctx's.
func (in *Intake) Take(ctx context.Context) ([]Received, error) {
	if err := in.Flush(); err != nil {
		return nil, err
	}
	clear(in.taken)
	in.taken = in.taken[:0]
	for len(in.taken) == 0 {
		m, err := in.pull.next(ctx)
		if err != nil {
			return nil, fmt.Errorf("take commands of partition %s: %w", in.p, err)
		}
		for m != nil {
			in.accept(m)
			if m = nil; len(in.taken) < takeMost {
				m = in.pull.waiting()
			}
		}
	}
	return in.taken, nil
}

// Age is how long ago the server accepted a command, by the server's clock, which
// need not agree with ours. Before it calls a command old it asks the server for
// the time again, once a second at the most: either clock may have been set.
func (in *Intake) Age(ctx context.Context, r Received) time.Duration {
	age := in.clock.Add(time.Since(in.clockAt)).Sub(r.Stored)
	if age < time.Second || time.Since(in.clockAt) < time.Second {
		return age
	}
	info, err := in.bus.askInfo(ctx, StreamCommands)
	if err != nil {
		return 0 // the clock is not known: nothing is old
	}
	in.clock, in.clockAt = info.Now, time.Now()
	return in.clock.Sub(r.Stored)
}

// Reply tells a command's sender the outcome. It goes out, together with those
// for the same sender, with the next Flush or Take; a writer replies to a
// page's commands in one run. It may be lost: the sender then repeats the
// command. An error says that the bus is away.
func (in *Intake) Reply(r Received, reply Reply) error {
	if len(reply.Body) > maxPayload/2 {
		return fmt.Errorf("reply to a command: a body of %d bytes is too large", len(reply.Body))
	}
	buf := in.outbox[r.inbox]
	if len(buf) > 0 && len(buf)+outcomeHead+len(reply.Body) > outcomesAtOnce {
		if err := in.send(r.inbox, buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	in.outbox[r.inbox] = appendOutcome(buf, r.token, reply)
	return nil
}

// Flush sends the outcomes gathered by Reply.
func (in *Intake) Flush() error {
	for inbox, buf := range in.outbox {
		if len(buf) == 0 {
			delete(in.outbox, inbox) // a sender that was silent for a round is forgotten
			continue
		}
		err := in.send(inbox, buf)
		in.outbox[inbox] = buf[:0]
		if err != nil {
			return err
		}
	}
	return nil
}

// Trim says that every command through the given sequence is answered in the
// book, on disk. They are removed from COMMANDS now and then, so that it does
// not fill; a trim that is lost is made up for by the next.
func (in *Intake) Trim(through uint64) error {
	if through <= in.trimmed || (through-in.trimmed < trimCount && time.Since(in.trimmedAt) < trimEvery) {
		return nil
	}
	in.trimmed, in.trimmedAt = through, time.Now()
	if err := in.acknowledge(through); err != nil {
		return err
	}
	request := fmt.Appendf(nil, `{"filter":%q,"seq":%d}`, in.pull.filter(), through+1)
	if err := in.bus.nc.Publish(apiStreamPurge+StreamCommands, request); err != nil {
		return fmt.Errorf("trim the commands of partition %s: %w", in.p, closedOr(err))
	}
	return nil
}

// acknowledge tells a consumer that counts how far the commands are done with.
// The one that the last Take gave and that lies nearest stands for all before it.
func (in *Intake) acknowledge(through uint64) error {
	if !in.pull.durable {
		return nil
	}
	for i := len(in.taken) - 1; i >= 0; i-- {
		if r := in.taken[i]; r.Seq <= through {
			return in.pull.acknowledge(r)
		}
	}
	return nil
}

// Close sends what outcomes are left and gives the delivery up.
func (in *Intake) Close() {
	if err := in.Flush(); err != nil {
		in.bus.log.Debug("outcomes were not sent; their senders ask again", "partition", in.p.String(), "error", err)
	}
	in.pull.close()
}

func (in *Intake) send(inbox string, buf []byte) error {
	if err := in.bus.nc.Publish(inbox, buf); err != nil {
		return fmt.Errorf("reply to commands of partition %s: %w", in.p, closedOr(err))
	}
	return nil
}

// accept takes a delivered message as a command. One that is not a command is
// passed over: it is nobody's, and must not stop the partition.
func (in *Intake) accept(m *nats.Msg) {
	at, ok := in.pull.delivered(m)
	if !ok {
		return
	}
	id, token, inbox, body, err := decodeCommand(m.Data)
	verb, own := strings.CutPrefix(m.Subject, in.prefix)
	if err == nil && !own {
		err = errors.New("a command for another partition than the layout's")
	}
	if err == nil {
		if _, known := in.inboxes[string(inbox)]; !known {
			err = in.learn(string(inbox))
		}
	}
	if err != nil {
		in.bus.log.Warn("a message among the commands is passed over", "partition", in.p.String(), "sequence", at.stream, "reason", err.Error())
		return
	}
	in.taken = append(in.taken, Received{
		Seq:    at.stream,
		Stored: time.Unix(0, at.stored),
		ID:     id,
		Verb:   verb,
		Body:   body,
		Trace:  traceOf(m),
		inbox:  in.inboxes[string(inbox)],
		token:  token,

		consumer: at.consumer,
	})
}

// learn remembers an inbox after looking at it once.
func (in *Intake) learn(inbox string) error {
	if err := checkInbox(inbox); err != nil {
		return err
	}
	if len(in.inboxes) >= 4096 {
		clear(in.inboxes) // submitters come and go
	}
	in.inboxes[inbox] = inbox
	return nil
}

// deliveredAt is what a delivered message's reply subject says about it.
type deliveredAt struct {
	stream, consumer uint64
	stored           int64 // unix ns
}

// parseDelivered reads $JS.ACK.<stream>.<consumer>.<deliveries>.<stream
// sequence>.<consumer sequence>.<time>.<pending>, or the later form with domain
// and account hash before the stream (ADR-15).
func parseDelivered(reply string) (at deliveredAt, ok bool) {
	const v1Tokens, v2Tokens = 9, 11
	var starts [14]int
	n := 1
	for i := range len(reply) {
		if reply[i] == '.' && n < len(starts) {
			starts[n] = i + 1
			n++
		}
	}
	first := 5
	if n >= v2Tokens {
		first = 7
	} else if n != v1Tokens {
		return at, false
	}
	var numbers [3]uint64
	for i := range numbers {
		v, err := strconv.ParseUint(reply[starts[first+i]:starts[first+i+1]-1], 10, 64)
		if err != nil {
			return at, false
		}
		numbers[i] = v
	}
	return deliveredAt{stream: numbers[0], consumer: numbers[1], stored: int64(min(numbers[2], math.MaxInt64))}, true
}
