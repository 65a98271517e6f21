package subscribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"rollbook/engine/session"
)

// The names are those of rollbook/bus, which this package does without so that it stays light.
const (
	stream        = "EVENTS"
	subjectEvents = "rollbook.event."
	subjectBells  = "rollbook.live.feed.*"

	directGet  = "$JS.API.DIRECT.GET." + stream
	leaderGet  = "$JS.API.STREAM.MSG.GET." + stream
	streamInfo = "$JS.API.STREAM.INFO." + stream

	headerPosition  = "Rollbook-Position"
	headerTime      = "Rollbook-Time"
	headerSequence  = "Nats-Sequence"
	headerSubject   = "Nats-Subject"
	headerPending   = "Nats-Num-Pending"
	headerStatus    = "Status"
	metaRestored    = "rollbook-restored"
	noUser          = "-"
	codeNoMessage   = 10037
	codeNoStream    = 10059
	batchEvents     = 1000
	batchBytes      = 2 << 20
	statusEnd       = "204"
	statusNone      = "404"
	statusNobody    = "503"
	maxSilentRounds = 5
)

// errNoAnswer: a batch was not answered, or not to its end. What came of it counts.
var errNoAnswer = errors.New("no answer")

// reader asks for batches of messages, one after the other.
type reader struct {
	nc    *nats.Conn
	ch    chan *nats.Msg
	sub   *nats.Subscription
	inbox string
	n     uint64 // batches asked for; part of the inbox, so that late answers are told from new ones
}

func (s *Subscription) newReader() (*reader, error) {
	r := &reader{nc: s.cfg.Conn}
	return r, r.subscribe()
}

// subscribe makes an inbox with a channel that has room for one batch.
func (r *reader) subscribe() (err error) {
	r.ch, r.inbox = make(chan *nats.Msg, batchEvents+8), r.nc.NewInbox()+"."
	if r.sub, err = r.nc.ChanSubscribe(r.inbox+"*", r.ch); err != nil {
		return fmt.Errorf("subscribe to the feed: %w", closedOr(err))
	}
	return nil
}

func (r *reader) close() { _ = r.sub.Unsubscribe() }

// batch reads the events from s.next on, as many as fit, and moves it along. more says that the server that answered has
// more of them.
func (s *Subscription) batch(ctx context.Context, r *reader, fn func(Event) error) (more bool, err error) {
	r.n++
	inbox := r.inbox + strconv.FormatUint(r.n, 36)
	request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d,"next_by_subj":%q}`, max(s.next, 1), batchEvents, batchBytes, s.want)
	if err := r.nc.PublishRequest(directGet, inbox, request); err != nil {
		return false, unanswered(err)
	}
	first := true
	timer := time.NewTimer(answerPatience)
	defer timer.Stop()
	for {
		var m *nats.Msg
		select {
		case m = <-r.ch:
		case <-timer.C:
			// What is on its way would not fit beside the next batch.
			r.close()
			return false, errors.Join(errNoAnswer, r.subscribe())
		case <-ctx.Done():
			return false, ctx.Err()
		}
		timer.Reset(answerPatience)
		if m.Subject != inbox {
			continue
		}
		switch status := m.Header.Get(headerStatus); status {
		case "":
		case statusEnd:
			pending, _ := headerUint(m.Header, headerPending)
			return pending > 0, nil
		case statusNone:
			return false, nil
		case statusNobody:
			return false, errNoAnswer
		default:
			return false, fmt.Errorf("%w: a direct get was answered with status %s", ErrRefused, status)
		}
		seq, _ := headerUint(m.Header, headerSequence)
		if seq < s.next {
			continue
		}
		if first && seq > s.next {
			if err := s.unbroken(ctx, seq); err != nil {
				return false, err
			}
		}
		first = false
		if err := s.take(m, seq, fn); err != nil {
			return false, err
		}
	}
}

// unbroken makes sure, when others may have stood before the first message of a batch, that they did not leave the stream.
// Messages leave it from the front: while s.next or what stood there has not left, nothing after it has.
func (s *Subscription) unbroken(ctx context.Context, seq uint64) error {
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	if state.First > s.next {
		return fmt.Errorf("%w: %d comes next, and %d is the first that is left", ErrGap, s.next, min(state.First, seq))
	}
	return nil
}

// take decodes a message and gives it on; the cursor moves behind it.
func (s *Subscription) take(m *nats.Msg, seq uint64, fn func(Event) error) error {
	e, err := s.event(m.Header, m.Header.Get(headerSubject), m.Data, seq)
	if err != nil {
		return err
	}
	if err := s.give(e, fn); err != nil {
		return err
	}
	s.cursor.Sequence, s.next = seq, seq+1
	return nil
}

func (s *Subscription) event(h nats.Header, subject string, body []byte, seq uint64) (Event, error) {
	e := Event{Body: body, Sequence: seq, of: s}
	var err error
	if e.Position, err = ParsePosition(h.Get(headerPosition)); err != nil {
		return e, fmt.Errorf("message %d of the feed: %w", seq, err)
	}
	if e.Time, err = time.Parse(time.RFC3339Nano, h.Get(headerTime)); err != nil {
		return e, fmt.Errorf("message %d of the feed: %w", seq, err)
	}
	if e.Event, err = session.DecodeEvent(body); err != nil {
		return e, fmt.Errorf("message %d of the feed, %s: %w", seq, e.Position, err)
	}
	e.Type = e.Event.Type()
	e.User = e.Event.Whose()
	if !strings.HasPrefix(subject, subjectEvents) || !strings.HasSuffix(subject, "."+token(e.User)+"."+string(e.Type)) {
		return e, fmt.Errorf("%w: message %d is of %s, %s, and stands at %s", ErrRefused, seq, e.User, e.Type, subject)
	}
	return e, nil
}

// stateOf is what the leader says of the stream.
type stateOf struct {
	Created     int64  // unix ns
	First, Last uint64 // First is Last+1 when it is empty
	Restored    []Restore
}

func (s *Subscription) state(ctx context.Context) (stateOf, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Created time.Time `json:"created"`
		Config  struct {
			Metadata map[string]string `json:"metadata"`
		} `json:"config"`
		State struct {
			First uint64 `json:"first_seq"`
			Last  uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := s.request(ctx, streamInfo, nil, &answer); err != nil {
		return stateOf{}, err
	}
	if answer.Error != nil {
		return stateOf{}, answer.Error.as()
	}
	restored, err := parseRestores(answer.Config.Metadata[metaRestored])
	if err != nil {
		return stateOf{}, fmt.Errorf("%w: its metadata: %w", ErrRefused, err)
	}
	return stateOf{answer.Created.UnixNano(), answer.State.First, answer.State.Last, restored}, nil
}

// found is a message as the leader has it.
type found struct {
	seq    uint64
	header nats.Header
	stored time.Time
}

// ask asks the leader for the first message from a sequence on with a subject; nil when there is none.
func (s *Subscription) ask(ctx context.Context, from uint64, subject string) (*found, error) {
	var answer struct {
		Error   *apiError `json:"error"`
		Message struct {
			Seq    uint64    `json:"seq"`
			Header []byte    `json:"hdrs"`
			Time   time.Time `json:"time"`
		} `json:"message"`
	}
	request := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, max(from, 1), subject)
	if err := s.request(ctx, leaderGet, request, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil && answer.Error.Code == codeNoMessage {
		return nil, nil
	}
	if answer.Error != nil {
		return nil, answer.Error.as()
	}
	header, err := nats.DecodeHeadersMsg(answer.Message.Header)
	if err != nil {
		return nil, fmt.Errorf("%w: message %d: %w", ErrRefused, answer.Message.Seq, err)
	}
	return &found{answer.Message.Seq, header, answer.Message.Time}, nil
}

// apiError is JetStream's own description of a refusal.
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) as() error {
	kind := ErrRefused
	if e.Code == codeNoStream {
		kind = ErrNoFeed
	}
	return fmt.Errorf("%w: %s (JetStream error %d)", kind, e.Description, e.Code)
}

// request asks until there is an answer: a cluster without a leader gives none, and a server that is away neither.
func (s *Subscription) request(ctx context.Context, subject string, data []byte, into any) error {
	pause := retryFirst
	for round := 0; ; round++ {
		asking, cancel := context.WithTimeout(ctx, answerPatience)
		m, err := s.cfg.Conn.RequestWithContext(asking, subject, data)
		cancel()
		if err == nil {
			if err = json.Unmarshal(m.Data, into); err != nil {
				return fmt.Errorf("%w: %s was answered with what is no answer: %w", ErrRefused, subject, err)
			}
			return nil
		}
		if err := closedOr(err); errors.Is(err, ErrClosed) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if round == maxSilentRounds {
			s.cfg.Log.Warn("the feed does not answer; it goes on when it does", "err", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryLast)
	}
}

func headerUint(h nats.Header, key string) (uint64, bool) {
	n, err := strconv.ParseUint(h.Get(key), 10, 64)
	return n, err == nil
}

func closedOr(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func unanswered(err error) error {
	if err := closedOr(err); errors.Is(err, ErrClosed) {
		return err
	}
	return errors.Join(errNoAnswer, err)
}

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
