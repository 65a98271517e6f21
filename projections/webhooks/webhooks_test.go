package webhooks_test

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/webhooks"
)

// TestDelivery: every event arrives signed, in the user's order, with its fields by name and without what is nobody's
// business.
func TestDelivery(t *testing.T) {
	s, r := newSite(t, 2), newReceiver(t, nil)
	s.lives(0, 5, "ann", "bob")
	s.lives(1, 5, "cid")
	run(t, s.quick(r.endpoint(t, "audit")))
	s.write(0, &session.SessionEnded{Header: session.Header{At: 7, User: "ann"}, Session: session.SessionID{1}, Reason: session.Revoked})
	got := r.awaits(t, 16)
	inOrder(t, slices.DeleteFunc(slices.Clone(got), func(p posted) bool { return p.Type != "SessionStarted" }), 5, "ann", "bob", "cid")
	for _, p := range got {
		if strings.Contains(p.Raw, "abab") || strings.Contains(p.Raw, "access\":") || strings.Contains(p.Raw, "origin") {
			t.Fatalf("a hash or something sealed is in %s", p.Raw)
		}
	}
	last := got[slices.IndexFunc(got, func(p posted) bool { return p.Type == "SessionEnded" })]
	var body map[string]any
	ok(t, json.Unmarshal([]byte(last.Raw), &body))
	data, _ := body["data"].(map[string]any)
	if last.Position != "0/6.0" || body["user"] != "ann" || body["timestamp"] != "1970-01-01T00:00:00.000000007Z" || data["reason"] != "revoked" || len(data) != 2 {
		t.Errorf("the end of a session is posted as %s", last.Raw)
	}
}

// failsSometimes refuses the first attempts of an event: none to three, by its id.
func failsSometimes(p posted, before int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(p.ID))
	if before < int(h.Sum32()%4) {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// TestOrderUnderFailures: however attempts fail, no event of a user overtakes another, and users do not wait for each other.
func TestOrderUnderFailures(t *testing.T) {
	s, r := newSite(t, 2), newReceiver(t, failsSometimes)
	run(t, s.quick(r.endpoint(t, "audit")))
	s.lives(0, 20, "ann", "bob", "cid")
	s.lives(1, 20, "dan", "eve")
	inOrder(t, r.awaits(t, 100), 20, "ann", "bob", "cid", "dan", "eve")
}

// forgetful is a bucket whose writes of positions are lost once it is told to, as those of a process that is killed.
type forgetful struct {
	jetstream.KeyValue
	lost atomic.Bool
}

var errLost = errors.New("the process is gone")

func (f *forgetful) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if f.lost.Load() && strings.HasPrefix(key, "at.") {
		return 0, errLost
	}
	return f.KeyValue.Update(ctx, key, value, revision)
}

// TestAKillBeforeThePositionIsWritten: what was delivered and not noted is delivered again under the same id, nothing is
// missing, and the order holds.
func TestAKillBeforeThePositionIsWritten(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, failsSometimes)
	kv := &forgetful{KeyValue: s.kv}
	for life := range 4 {
		kv.lost.Store(life%2 == 0)
		cfg := s.quick(r.endpoint(t, "audit"))
		cfg.Store = kv
		_, stop := run(t, cfg)
		for i := range 5 {
			s.write(0, started("ann", uint32(life*5+i)), started("bob", uint32(life*5+i)))
		}
		r.awaits(t, (life+1)*10-3) // somewhere on the way
		stop()
	}
	run(t, s.quick(r.endpoint(t, "audit")))
	got := r.awaits(t, 40)
	if len(got) == 40 {
		t.Error("nothing was delivered twice: no position was lost, and the test shows nothing")
	}
	id := map[string]string{}
	for _, p := range got {
		if was, seen := id[p.Position]; seen && was != p.ID {
			t.Errorf("%s is called %s and %s", p.Position, was, p.ID)
		}
		id[p.Position] = p.ID
	}
	// After a restart a user begins at the position again; from there the order holds, and so does "none is left out".
	next := map[string]int{}
	for _, p := range got {
		if p.Failed > next[p.User] {
			t.Fatalf("event %d of %s came before event %d", p.Failed, p.User, next[p.User])
		}
		next[p.User] = max(next[p.User], p.Failed+1)
	}
}

// TestASlowEndpoint holds up nobody but itself.
func TestASlowEndpoint(t *testing.T) {
	free := make(chan struct{})
	slow := newReceiver(t, func(posted, int) int { <-free; return http.StatusOK })
	s, fast := newSite(t, 1), newReceiver(t, nil)
	_, stop := run(t, s.quick(slow.endpoint(t, "slow"), fast.endpoint(t, "fast")))
	s.lives(0, 10, "ann", "bob")
	inOrder(t, fast.awaits(t, 20), 10, "ann", "bob")
	if n := len(slow.got(t)); n != 0 {
		t.Errorf("the slow endpoint has taken %d", n)
	}
	close(free)
	inOrder(t, slow.awaits(t, 20), 10, "ann", "bob")
	stop()
}

// TestParked: an event that fails too often is parked and seen, the user's later ones go on, and it is delivered when an
// operator asks for it.
func TestParked(t *testing.T) {
	var healed atomic.Bool
	s := newSite(t, 1)
	r := newReceiver(t, func(p posted, _ int) int {
		if p.User == "ann" && p.Failed == 1 && !healed.Load() {
			return http.StatusTeapot
		}
		return http.StatusOK
	})
	e := r.endpoint(t, "audit")
	e.Attempts = 3
	w, stop := run(t, s.quick(e))
	s.lives(0, 4, "ann", "bob")
	r.awaits(t, 7)
	var parked []webhooks.ParkedEvent
	until(t, func() bool {
		var standings []webhooks.Standing
		var err error
		standings, parked, err = webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		return len(parked) == 1 && len(standings) == 1 && standings[0].Page == 4 && standings[0].Parked == 1 && standings[0].Holder != ""
	})
	p := parked[0]
	if p.Endpoint != "audit" || p.At != (bus.Position{Page: 2}) || p.Attempts != 3 || p.Error != "answered with status 418" ||
		p.Type != "SessionStarted" || p.User != "ann" || p.Since.IsZero() || p.Again {
		t.Errorf("parked is %+v", p)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(w)
	families, err := registry.Gather()
	ok(t, err)
	value := func(name string) float64 {
		for _, f := range families {
			if f.GetName() == "rollbook_webhook_"+name {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		return -1
	}
	if value("parked_total") < 1 || value("failed_total") < 3 || value("delivered_total") < 7 {
		t.Errorf("counted are %v parked, %v failed, %v delivered", value("parked_total"), value("failed_total"), value("delivered_total"))
	}
	stop() // what is parked outlives the process

	healed.Store(true)
	if _, err := webhooks.Retry(t.Context(), s.kv, "audit", &bus.Position{Page: 3}); !errors.Is(err, webhooks.ErrUnknown) {
		t.Errorf("what is not parked is tried again: %v", err)
	}
	n, err := webhooks.Retry(t.Context(), s.kv, "audit", nil)
	if err != nil || n != 1 {
		t.Errorf("%d are tried again, %v", n, err)
	}
	run(t, s.quick(e))
	r.awaits(t, 8)
	until(t, func() bool {
		_, parked, err := webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		return len(parked) == 0
	})
}

// TestReplay: an endpoint gets a partition again, while its courier runs.
func TestReplay(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, nil)
	cfg := s.quick(r.endpoint(t, "audit"))
	cfg.Lease = 2 * time.Second // how soon it is noticed
	run(t, cfg)
	s.lives(0, 6, "ann")
	r.awaits(t, 6)
	until(t, func() bool {
		standings, _, err := webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		return standings[0].Page == 6
	})
	ok(t, webhooks.Replay(t.Context(), s.kv, "audit", 0, 3))
	until(t, func() bool {
		again := 0
		for _, p := range r.got(t) {
			if p.Failed == 5 {
				again++
			}
		}
		return again >= 2
	})
	if err := webhooks.Replay(t.Context(), s.kv, "nobody", 0, 1); !errors.Is(err, webhooks.ErrUnknown) {
		t.Errorf("an unknown endpoint is replayed: %v", err)
	}
}

// TestTakeOver: of two processes one delivers; when it stops the other goes on where it was.
func TestTakeOver(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, nil)
	_, stop := run(t, s.quick(r.endpoint(t, "audit")))
	s.lives(0, 5, "ann")
	r.awaits(t, 5)
	run(t, s.quick(r.endpoint(t, "audit")))
	stop()
	for i := range 5 {
		s.write(0, started("ann", uint32(5+i)))
	}
	inOrder(t, r.awaits(t, 10), 10, "ann")
}

// TestServed: a lease that its holder left behind counts until it is over, one that was given back does not, and one of an
// earlier program, which does not say how long it is, is over after 10 s.
func TestServed(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, nil)
	look := func() webhooks.Standing {
		t.Helper()
		standings, _, err := webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		if len(standings) != 1 {
			t.Fatalf("%d endpoints have begun", len(standings))
		}
		return standings[0]
	}
	cfg := s.quick(r.endpoint(t, "audit"))
	_, stop := run(t, cfg)
	s.lives(0, 1, "ann")
	r.awaits(t, 1)
	held := look()
	if !held.Served(held.Renewed) || !held.Served(held.Renewed.Add(cfg.Lease-1)) || held.Served(held.Renewed.Add(cfg.Lease)) {
		t.Errorf("%+v is not served for its length", held)
	}
	if ahead := time.Until(held.Renewed); ahead.Abs() > time.Hour { // the server is in this process
		t.Errorf("the lease was renewed %s from now", ahead)
	}
	stop()
	if left := look(); left.Served(left.Renewed) {
		t.Errorf("%+v is served after its end", left)
	}
	_, err := s.kv.Put(t.Context(), "lease.audit.0", []byte(`{"holder":"0123456789abcdef","n":7}`))
	ok(t, err)
	if old := look(); !old.Served(old.Renewed.Add(10*time.Second-1)) || old.Served(old.Renewed.Add(10*time.Second)) {
		t.Errorf("%+v is not served for 10 s", old)
	}
}

// TestANewEndpoint gets what is written from now on, and is not set back by a restart before its first event.
func TestANewEndpoint(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, nil)
	s.lives(0, 3, "ann")
	e := r.endpoint(t, "audit")
	e.FromBeginning = false
	_, stop := run(t, s.quick(e))
	until(t, func() bool {
		standings, _, err := webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		return len(standings) == 1
	})
	stop()
	s.write(0, started("bob", 0))
	run(t, s.quick(e))
	if got := r.awaits(t, 1); got[0].User != "bob" {
		t.Errorf("the first event is %+v", got[0])
	}
}

// TestFilter: types and venues choose; an event that names no venue passes the latter.
func TestFilter(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, nil)
	e := r.endpoint(t, "audit")
	e.Types, e.Venues = []session.EventType{"SessionStarted", "SessionEnded"}, []session.Venue{session.Zenith}
	other := started("ann", 1)
	other.Venue = session.Zenith
	s.write(0, started("ann", 0), other, &session.UserDisabled{Header: session.Header{At: 1, User: "ann"}})
	s.write(0, &session.SessionEnded{Header: session.Header{At: 1, User: "ann"}})
	run(t, s.quick(e))
	r.awaits(t, 2)
	until(t, func() bool {
		standings, _, err := webhooks.Look(t.Context(), s.kv)
		ok(t, err)
		return len(standings) == 1 && standings[0].Page == 2
	})
	if got := r.got(t); len(got) != 2 || got[0].Position != "0/1.1" || got[1].Type != "SessionEnded" {
		t.Errorf("taken were %+v", got)
	}
}

// TestTheMemoryIsBounded: with room for one event at a time, all still arrive.
func TestTheMemoryIsBounded(t *testing.T) {
	s, r := newSite(t, 1), newReceiver(t, failsSometimes)
	cfg := s.quick(r.endpoint(t, "audit"))
	cfg.Open = 1
	run(t, cfg)
	s.lives(0, 10, "ann", "bob")
	inOrder(t, r.awaits(t, 20), 10, "ann", "bob")
}
