package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/engine/session"
)

// What the bucket holds, as JSON under these keys. The endpoint's name has no dot, so that a key has one meaning.
//
//	at.<endpoint>.<partition>                       [Progress]: all up to a page is delivered or parked
//	lease.<endpoint>.<partition>                    who delivers
//	parked.<endpoint>.<partition>.<page>.<index>    [Parked]
//
// Positions and leases are only ever written over the revision that was read: whoever finds another one has been
// overtaken, by another process or by an operator, and reads again.

// Progress is how far an endpoint has come in one partition.
type Progress struct {
	Page  uint64    `json:"page"`
	Saved time.Time `json:"saved"` // the wall clock of the process that wrote it
}

// Parked is an event that was given up.
type Parked struct {
	Type     session.EventType `json:"type"`
	User     session.UserID    `json:"user,omitempty"`
	Attempts int               `json:"attempts"`
	Error    string            `json:"error"` // of the last attempt
	Since    time.Time         `json:"since"`
	Again    bool              `json:"again,omitempty"` // an operator wants it tried again
}

type leaseValue struct {
	Holder string `json:"holder"`
	N      uint64 `json:"n"` // grows, so that each renewal is another value for people who look
	// Millis is how long the holder may be silent, in ms; 0: an earlier program wrote it, and means 10 s. It is for people
	// who look: a courier that waits for the lease counts by its own setting.
	Millis int64 `json:"ms,omitempty"`
}

// errMoved: somebody else has written what this courier holds. It begins anew from what is there.
var errMoved = errors.New("the position or the lease was written by somebody else")

// store is the bucket with its values decoded.
type store struct{ kv jetstream.KeyValue }

func atKey(endpoint string, p bus.Partition) string    { return "at." + endpoint + "." + p.String() }
func leaseKey(endpoint string, p bus.Partition) string { return "lease." + endpoint + "." + p.String() }

func parkedKey(endpoint string, at bus.Position) string {
	return "parked." + endpoint + "." + at.Partition.String() + "." + strconv.FormatUint(at.Page, 10) + "." + strconv.FormatUint(uint64(at.Index), 10)
}

// parseParked reads what parkedKey wrote.
func parseParked(key string) (endpoint string, at bus.Position, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 5 || parts[0] != "parked" {
		return "", at, false
	}
	p, err1 := strconv.ParseUint(parts[2], 10, 16)
	page, err2 := strconv.ParseUint(parts[3], 10, 64)
	index, err3 := strconv.ParseUint(parts[4], 10, 32)
	at = bus.Position{Partition: bus.Partition(p), Page: page, Index: uint32(index)}
	return parts[1], at, errors.Join(err1, err2, err3) == nil
}

// get reads a value; revision 0 says that there is none.
func (s store) get(ctx context.Context, key string, into any) (revision uint64, err error) {
	e, err := s.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value(), into); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return e.Revision(), nil
}

// put writes a value over a revision; 0: where there is none. Somebody else's value is errMoved.
func (s store) put(ctx context.Context, key string, value any, over uint64) (revision uint64, err error) {
	data, err := json.Marshal(value)
	if err != nil {
		return 0, err
	}
	if over == 0 {
		revision, err = s.kv.Create(ctx, key, data)
	} else {
		revision, err = s.kv.Update(ctx, key, data, over)
	}
	if overtaken(err) {
		return 0, errMoved
	}
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return revision, nil
}

func overtaken(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &refused) && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// park writes a parked event, whatever stands there: it is given up.
func (s store) park(ctx context.Context, endpoint string, at bus.Position, p Parked) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := s.kv.Put(ctx, parkedKey(endpoint, at), data); err != nil {
		return fmt.Errorf("park %s: %w", at, err)
	}
	return nil
}

// unpark takes a parked event away that was delivered after all.
func (s store) unpark(ctx context.Context, endpoint string, at bus.Position) error {
	if err := s.kv.Purge(ctx, parkedKey(endpoint, at)); err != nil {
		return fmt.Errorf("take %s from the parked: %w", at, err)
	}
	return nil
}
