package webhooks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

// ErrUnknown: there is no such endpoint, or no such parked event. Look at what there is.
var ErrUnknown = errors.New("there is nothing of that name")

// Standing is how far an endpoint has come in one partition.
type Standing struct {
	Endpoint  string
	Partition bus.Partition
	Progress
	Holder  string        // names the process that has the lease, alive or not; empty: it was given back, or never taken
	Renewed time.Time     // when the lease was written last, by the bus's clock
	Lease   time.Duration // how long its holder may be silent
	Parked  int
}

// Served says whether some process delivers, at a moment of the bus's clock. One that was killed is believed to until its
// lease is over, and nobody else delivers before that either.
func (s Standing) Served(now time.Time) bool {
	return s.Holder != "" && now.Sub(s.Renewed) < s.Lease
}

// ParkedEvent is a parked event and where it stands.
type ParkedEvent struct {
	Endpoint string
	At       bus.Position
	Parked
	revision uint64
}

// Look lists what the bucket holds, by endpoint and position.
func Look(ctx context.Context, kv jetstream.KeyValue) ([]Standing, []ParkedEvent, error) {
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read the webhooks' bucket: %w", err)
	}
	defer func() { _ = watch.Stop() }()
	all := map[string]jetstream.KeyValueEntry{}
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case e, open := <-watch.Updates():
			switch {
			case !open:
				return nil, nil, errors.New("read the webhooks' bucket: the watch ended")
			case e == nil:
				return sortOut(all)
			case e.Operation() != jetstream.KeyValuePut:
				delete(all, e.Key())
			default:
				all[e.Key()] = e
			}
		}
	}
}

// sortOut reads the entries of the bucket.
func sortOut(all map[string]jetstream.KeyValueEntry) (standings []Standing, parked []ParkedEvent, err error) {
	count := map[string]int{}
	for key, e := range all {
		endpoint, at, ok := parseParked(key)
		if !ok {
			continue
		}
		p := ParkedEvent{Endpoint: endpoint, At: at, revision: e.Revision()}
		if err := json.Unmarshal(e.Value(), &p.Parked); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", key, err)
		}
		count[atKey(endpoint, at.Partition)]++
		parked = append(parked, p)
	}
	for key, e := range all {
		rest, ok := strings.CutPrefix(key, "at.")
		endpoint, number, cut := strings.Cut(rest, ".")
		p, wrong := strconv.ParseUint(number, 10, 16)
		if !ok || !cut || wrong != nil {
			continue
		}
		s := Standing{Endpoint: endpoint, Partition: bus.Partition(p), Parked: count[key]}
		if err := json.Unmarshal(e.Value(), &s.Progress); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", key, err)
		}
		var held leaseValue
		if lease := all[leaseKey(endpoint, s.Partition)]; lease != nil && json.Unmarshal(lease.Value(), &held) == nil {
			s.Holder, s.Renewed, s.Lease = held.Holder, lease.Created(), time.Duration(held.Millis)*time.Millisecond
			if s.Lease <= 0 {
				s.Lease = usualLease
			}
		}
		standings = append(standings, s)
	}
	slices.SortFunc(standings, func(a, b Standing) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Partition, b.Partition))
	})
	slices.SortFunc(parked, func(a, b ParkedEvent) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), a.At.Compare(b.At))
	})
	return standings, parked, nil
}

// Begun says whether an endpoint of that name has a position in some partition.
func Begun(standings []Standing, endpoint string) bool {
	return slices.ContainsFunc(standings, func(s Standing) bool { return s.Endpoint == endpoint })
}

// Retry has the parked events of an endpoint tried again: the one at a position, or with nil all. Whoever delivers finds
// out by itself. It gives how many there are.
func Retry(ctx context.Context, kv jetstream.KeyValue, endpoint string, at *bus.Position) (int, error) {
	standings, parked, err := Look(ctx, kv)
	if err != nil {
		return 0, err
	}
	n, s := 0, store{kv}
	for _, p := range parked {
		if p.Endpoint != endpoint || at != nil && p.At != *at {
			continue
		}
		n++
		if p.Again {
			continue
		}
		p.Again = true
		if _, err := s.put(ctx, parkedKey(endpoint, p.At), p.Parked, p.revision); err != nil && !errors.Is(err, errMoved) {
			return n, err // moved: it was delivered, or is being tried
		}
	}
	if n == 0 && at != nil {
		return 0, fmt.Errorf("%w: nothing is parked at %s", ErrUnknown, at)
	}
	if n == 0 && !Begun(standings, endpoint) {
		return 0, fmt.Errorf("%w: no endpoint %q has begun", ErrUnknown, endpoint)
	}
	return n, nil
}

// Replay has an endpoint get a partition again from a page on, or, with a later page, has it miss what comes before that.
// Whoever delivers notices within a quarter of its lease, or at its next write.
func Replay(ctx context.Context, kv jetstream.KeyValue, endpoint string, p bus.Partition, from uint64) error {
	var was Progress
	s := store{kv}
	for {
		revision, err := s.get(ctx, atKey(endpoint, p), &was)
		if err != nil {
			return err
		}
		if revision == 0 {
			return fmt.Errorf("%w: no endpoint %q has begun with partition %s", ErrUnknown, endpoint, p)
		}
		_, err = s.put(ctx, atKey(endpoint, p), Progress{Page: max(from, 1) - 1, Saved: time.Now().UTC()}, revision)
		if !errors.Is(err, errMoved) { // else whoever delivers has written at this moment
			return err
		}
	}
}

// ErrServed: some process delivers to the endpoint.
var ErrServed = errors.New("the endpoint is served")

// Forget takes away what the bucket holds of an endpoint that is no more: how far it had come, and what was parked of it. One
// of that name would begin like a new one. [ErrServed] says that a process has its lease, as served tells; it
// would write its position again. A crash leaves the endpoint listed, and the same call completes it.
func Forget(ctx context.Context, kv jetstream.KeyValue, endpoint string, served func(Standing) bool) (parked int, err error) {
	standings, events, err := Look(ctx, kv)
	if err != nil {
		return 0, err
	}
	var keys []string
	for _, p := range events {
		if p.Endpoint == endpoint {
			keys = append(keys, parkedKey(endpoint, p.At))
		}
	}
	parked = len(keys)
	begun := Begun(standings, endpoint)
	if !begun && parked == 0 {
		return 0, fmt.Errorf("%w: no endpoint %q has begun", ErrUnknown, endpoint)
	}
	for _, s := range standings {
		if s.Endpoint != endpoint {
			continue
		}
		if served(s) {
			return 0, fmt.Errorf("%w: %s delivers partition %s", ErrServed, s.Holder, s.Partition)
		}
		keys = append(keys, leaseKey(endpoint, s.Partition), atKey(endpoint, s.Partition))
	}
	for _, key := range keys {
		if err := kv.Purge(ctx, key); err != nil {
			return 0, fmt.Errorf("forget %s: %w", key, err)
		}
	}
	return parked, nil
}
