package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	// pullBatch is what one request to the consumer asks for. A second is made when
	// less than half of it is left, so that a request always stands at the server
	// and a command is delivered the moment it is stored.
	pullBatch = 4096
	// pullExpiry is how long a request stands, pullHeartbeat how often the server
	// says so while nothing is delivered, pullSilence after what time without
	// either the delivery is taken for broken.
	pullExpiry    = time.Minute
	pullHeartbeat = 500 * time.Millisecond
	pullSilence   = 1500 * time.Millisecond
	// pullIdle is after what time without requests the server forgets a consumer,
	// durableIdle the same in a cluster, where a leader may be missing for 10 s.
	pullIdle    = 10 * time.Second
	durableIdle = 30 * time.Second
	// durablePatience is how long one attempt at a durable consumer may take: its
	// servers elect a leader first. firstPatience bounds the attempts of an intake
	// that has never stood: longer than an election takes where a server is lost.
	durablePatience = 5 * time.Second
	firstPatience   = 20 * time.Second
)

// pull is an ordered delivery of one partition's commands, asked by hand. The
// client library's ordered consumer does the same with goroutines of its own and
// waits up to 10 s for a lost consumer's successor, which a writer can not.
//
// On a single server the consumer is in its memory, without acknowledgements, and
// a broken delivery is opened again with another consumer. In a cluster such a
// consumer would die with the server it is on, and its successor wait for an
// election; so it is a durable one with as many replicas as the stream, named by
// the writer's epoch, and a broken delivery is set back to where it broke. That of
// an earlier epoch is deleted by its writer, or goes by itself after durableIdle.
type pull struct {
	bus         *Bus
	p           Partition
	epoch       uint64 // the writer's
	durable     bool   // the consumer outlives a broken delivery: there is a cluster
	start       uint64 // the sequence after which the delivery began
	incarnation int64  // of the stream that last refers to
	last        uint64 // sequence of the last command delivered

	name        string // of the consumer; "" when there is none
	inbox       string
	sub         *nats.Subscription
	ch          chan *nats.Msg
	status      chan nats.Status
	timer       *time.Timer
	consumed    uint64 // consumer sequence of the last delivery; each is one more
	outstanding int    // how many commands the server may still deliver unasked
	broken      bool   // the delivery has to be opened again
}

func newPull(b *Bus, p Partition, epoch uint64, incarnation int64, after uint64) *pull {
	l := b.layout.Load()
	return &pull{bus: b, p: p, epoch: epoch, durable: l != nil && l.Replicas > 1, start: after, incarnation: incarnation, last: after}
}

// consumerConfig is the consumer that goes on after the last command seen, or, a
// durable one, that does so once it has been set there.
func (u *pull) consumerConfig() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Name:              "intake-" + u.p.String() + "-" + nuid.Next(),
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       u.last + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     u.filter(),
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: pullIdle,
	}
	if u.durable {
		cfg.Name = "intake-" + u.p.String() + "-" + strconv.FormatUint(u.epoch, 10)
		cfg.Durable = cfg.Name
		cfg.OptStartSeq = u.start + 1 // the same each time, since it is the same consumer
		cfg.AckPolicy = jetstream.AckAllPolicy
		cfg.AckWait = 2 * commandsMaxAge // nothing is delivered again unasked: it would be out of order
		cfg.MaxAckPending = -1
		cfg.Replicas = u.bus.layout.Load().Replicas
		cfg.InactiveThreshold = durableIdle
	}
	return cfg
}

// filter chooses the partition's commands. Where there is but one partition it
// is "" for all, which the server serves and trims without looking at subjects.
func (u *pull) filter() string {
	if l := u.bus.layout.Load(); l != nil && l.Partitions == 1 {
		return ""
	}
	return commandFilter(u.p)
}

// open makes the consumer and asks it for commands. It may be called again,
// after which everything from the earlier delivery is forgotten.
func (u *pull) open(ctx context.Context) error {
	u.drop()
	patience := apiTimeout
	if u.durable {
		patience = durablePatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := u.bus.askInfo(ctx, StreamCommands)
	if errors.Is(err, ErrNotCreated) || (err == nil && info.Created.UnixNano() != u.incarnation) {
		return ErrCommandsReplaced
	}
	if err != nil {
		return err
	}
	u.ch = make(chan *nats.Msg, 2*pullBatch)
	u.inbox = u.bus.nc.NewInbox()
	if u.sub, err = u.bus.nc.ChanSubscribe(u.inbox, u.ch); err != nil {
		return closedOr(err)
	}
	if err := u.consume(ctx); err != nil {
		return err
	}
	u.consumed, u.outstanding, u.broken = 0, 0, false
	if u.status == nil {
		u.status = u.bus.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
		u.timer = time.NewTimer(pullSilence)
	}
	return u.ask()
}

// begin opens the delivery for the first time. A durable consumer that was asked
// for and not confirmed may be there all the same, and asking again finds it.
func (u *pull) begin(ctx context.Context) error {
	if !u.durable {
		return u.open(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, firstPatience)
	defer cancel()
	return u.reopen(ctx)
}

// consume sees to a consumer that goes on after the last command seen.
func (u *pull) consume(ctx context.Context) error {
	if u.name != "" { // a durable one
		_, err := u.bus.js.ResetConsumerToSequence(ctx, StreamCommands, u.name, u.last+1)
		if err == nil {
			return nil
		}
		u.name = "" // it is gone, or it has no leader now: making it again finds out which
		return fmt.Errorf("set the consumer back: %w", err)
	}
	cfg := u.consumerConfig()
	if _, err := u.bus.js.CreateConsumer(ctx, StreamCommands, cfg); err != nil {
		return fmt.Errorf("make a consumer: %w", err)
	}
	u.name = cfg.Name
	if u.last+1 == cfg.OptStartSeq {
		return nil
	}
	return u.consume(ctx)
}

// acknowledge says that all commands up to this one are done with.
func (u *pull) acknowledge(r Received) error {
	ack := fmt.Sprintf("%s%s.%s.1.%d.%d.%d.0", ackPrefix, StreamCommands, u.name, r.Seq, r.consumer, r.Stored.UnixNano())
	if err := u.bus.nc.Publish(ack, nil); err != nil {
		return fmt.Errorf("acknowledge the commands of partition %s: %w", u.p, closedOr(err))
	}
	return nil
}

// drop forgets the delivery.
func (u *pull) drop() {
	if u.sub != nil {
		_ = u.sub.Unsubscribe()
		u.sub = nil
	}
	if !u.durable {
		u.remove()
	}
}

// remove tells the consumer to go; when that is lost it goes by itself.
func (u *pull) remove() {
	if u.name != "" {
		_ = u.bus.nc.Publish(apiConsumerDelete+StreamCommands+"."+u.name, nil)
		u.name = ""
	}
}

func (u *pull) close() {
	u.drop()
	u.remove()
	if u.status != nil {
		u.bus.nc.RemoveStatusListener(u.status)
		u.timer.Stop()
	}
}

// ask keeps the server supplied with requests.
func (u *pull) ask() error {
	if u.outstanding >= pullBatch/2 {
		return nil
	}
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, pullBatch, pullExpiry.Nanoseconds(), pullHeartbeat.Nanoseconds())
	if err := u.bus.nc.PublishRequest(apiConsumerNext+StreamCommands+"."+u.name, u.inbox, request); err != nil {
		return closedOr(err)
	}
	u.outstanding += pullBatch
	return nil
}

// next waits for a message that was delivered. It opens the delivery again when
// it is broken, for as long as that takes.
func (u *pull) next(ctx context.Context) (*nats.Msg, error) {
	for {
		if u.broken {
			if err := u.reopen(ctx); err != nil {
				return nil, err
			}
		}
		if err := u.ask(); err != nil {
			if errors.Is(err, ErrClosed) {
				return nil, err
			}
			u.broken = true
			continue
		}
		u.timer.Reset(pullSilence)
		select {
		case m := <-u.ch:
			if !u.control(m) {
				return m, nil
			}
		case s := <-u.status:
			if s == nats.CLOSED {
				return nil, ErrClosed
			}
			u.broken = true // the server forgot our requests with the old connection
		case <-u.timer.C:
			u.broken = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// waiting is a message that has been delivered already, or nil.
func (u *pull) waiting() *nats.Msg {
	for !u.broken {
		select {
		case m := <-u.ch:
			if !u.control(m) {
				return m
			}
		default:
			return nil
		}
	}
	return nil
}

// control takes the messages by which the server speaks about requests.
func (u *pull) control(m *nats.Msg) bool {
	status := headerOf(m, headerStatus)
	switch status {
	case "":
		return false
	case statusHeartbeat:
		return true
	}
	// A request ended: by its expiry, or since the consumer or its leader is gone.
	left, ok := headerUint(m, headerPendingMessages)
	if ok && left <= uint64(u.outstanding) {
		u.outstanding -= int(left)
	}
	if status != statusRequestTimeout || !ok {
		u.broken = true
	}
	return true
}

// delivered notes a delivery. It is false for one that does not follow the last:
// something between was lost, and the delivery is opened again from there.
func (u *pull) delivered(m *nats.Msg) (deliveredAt, bool) {
	at, ok := parseDelivered(m.Reply)
	if u.broken || !ok || at.consumer != u.consumed+1 || at.stream <= u.last {
		u.broken = true
		return at, false
	}
	u.consumed, u.last = at.consumer, at.stream
	u.outstanding = max(u.outstanding-1, 0)
	return at, true
}

// reopen opens the delivery until it stands.
func (u *pull) reopen(ctx context.Context) error {
	pause := retryPauseFirst
	for {
		err := u.open(ctx)
		if err == nil || errors.Is(err, ErrCommandsReplaced) || errors.Is(err, ErrClosed) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if pause == retryPauseFirst {
			u.bus.log.Warn("the delivery of commands is broken, opening it again", "partition", u.p.String(), "error", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
}
