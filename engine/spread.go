package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"rollbook/bus"
)

// How the processes with writers know of each other.
const (
	presenceEvery = 500 * time.Millisecond
	presenceLife  = 3*presenceEvery + presenceEvery/2 // without a word for so long: it is gone
)

// Presences carries the signs of life of processes with writers: *[bus.Bus]. They may be lost.
type Presences interface {
	AnnounceEngine(bus.Presence) error
	Engines(fn func(bus.Presence)) (stop func(), err error)
}

// Spread shares the partitions out among the processes that have writers: each knows who is there, and all compute from
// that the same preferred process for each partition. It is a wish and not a lock: who writes is decided by the fence,
// and two processes that see different neighbours at worst take a partition from each other in order.
//
// A nil *Spread prefers nobody. Its methods are safe for concurrent use.
type Spread struct {
	bus        Presences
	partitions int
	self       bus.EngineID
	changed    chan struct{} // our own presence is to be told at once

	mu      sync.Mutex
	ready   uint64                     // guarded by mu: bit p: our writer of p writes, or could take over
	members map[bus.EngineID]neighbour // guarded by mu: the others, as heard
}

// neighbour is another process.
type neighbour struct {
	ready uint64
	heard time.Time
}

// NewSpread makes this process's part of the spread, with an id of its own; it starts nothing.
func NewSpread(presences Presences, partitions int) *Spread {
	return &Spread{bus: presences, partitions: partitions, self: bus.NewEngineID(), changed: make(chan struct{}, 1),
		members: map[bus.EngineID]neighbour{}}
}

// Run tells the others of this process and listens to them until ctx ends. That it is leaving is its last word.
func (s *Spread) Run(ctx context.Context) error {
	stop, err := s.bus.Engines(s.hear)
	if err != nil {
		return fmt.Errorf("share the partitions: %w", err)
	}
	defer stop()
	defer func() { s.tell(true) }()
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	for {
		s.tell(false)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-s.changed:
		}
	}
}

// tell announces this process. What is lost is made up for by the next; whoever does not hear of us does without us.
func (s *Spread) tell(leaving bool) {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	_ = s.bus.AnnounceEngine(bus.Presence{Engine: s.self, Ready: ready, Leaving: leaving})
}

func (s *Spread) hear(p bus.Presence) {
	if p.Engine == s.self {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Leaving {
		delete(s.members, p.Engine)
		return
	}
	s.members[p.Engine] = neighbour{p.Ready, time.Now()}
}

// id is this process's; zero without a spread.
func (s *Spread) id() bus.EngineID {
	if s == nil {
		return bus.EngineID{}
	}
	return s.self
}

// setReady notes whether our writer of a partition writes it or could take over at once.
func (s *Spread) setReady(p bus.Partition, ready bool) {
	if s == nil {
		return
	}
	s.mu.Lock()
	before := s.ready
	s.ready &^= 1 << p
	if ready {
		s.ready |= 1 << p
	}
	changed := s.ready != before
	s.mu.Unlock()
	if changed {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

// preferred is who should write a partition: zero when that is nobody in particular.
func (s *Spread) preferred(p bus.Partition) bus.EngineID {
	if s == nil {
		return bus.EngineID{}
	}
	return share(s.partitions, s.present(bus.EngineID{}))[p]
}

// rank is how many others should take a partition over before us, when its writer, gone, is gone.
func (s *Spread) rank(p bus.Partition, gone bus.EngineID) int {
	if s == nil {
		return 0
	}
	present := s.present(gone)
	first := share(s.partitions, present)[p]
	if first == s.self || first == (bus.EngineID{}) {
		return 0
	}
	present = slices.DeleteFunc(present, func(m member) bool { return m.id == first || !m.can(p) })
	byScore(present, p)
	return 1 + max(slices.IndexFunc(present, func(m member) bool { return m.id == s.self }), 0)
}

// member is a process that is there, as the sharing sees it.
type member struct {
	id    bus.EngineID
	ready uint64
}

func (m member) can(p bus.Partition) bool { return m.ready&(1<<p) != 0 }

// present are the processes that are there, this one included, without the one that is gone.
func (s *Spread) present(gone bus.EngineID) []member {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []member{{s.self, s.ready}}
	for id, n := range s.members {
		switch {
		case time.Since(n.heard) > presenceLife:
			delete(s.members, id)
		case id != gone:
			list = append(list, member{id, n.ready})
		}
	}
	return list
}

// share gives each partition to one of the members that are ready for it, so that none has more than one partition
// more than another. Within that, a member's rank for a partition is a hash of both (rendezvous hashing), so that most
// partitions stay where they are when a member comes or goes. The zero id stands where nobody is ready.
func share(partitions int, members []member) []bus.EngineID {
	members = slices.DeleteFunc(slices.Clone(members), func(m member) bool { return m.ready == 0 })
	shares := make([]bus.EngineID, partitions)
	if len(members) == 0 {
		return shares
	}
	each, more := partitions/len(members), partitions%len(members)
	load := map[bus.EngineID]int{}
	for i := range shares {
		p := bus.Partition(i)
		byScore(members, p)
		able := slices.Collect(func(yield func(bus.EngineID) bool) {
			for _, m := range members {
				if m.can(p) && !yield(m.id) {
					return
				}
			}
		})
		if len(able) == 0 {
			continue
		}
		at := slices.IndexFunc(able, func(id bus.EngineID) bool { return load[id] < each || load[id] == each && more > 0 })
		chosen := able[max(at, 0)] // when all that can have enough, one has too much
		if load[chosen] == each {
			more--
		}
		load[chosen]++
		shares[i] = chosen
	}
	return shares
}

// byScore orders members by their rank for a partition; equal scores, by id.
func byScore(members []member, p bus.Partition) {
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(cmp.Compare(score(b.id, p), score(a.id, p)), slices.Compare(a.id[:], b.id[:]))
	})
}

// score is part of no stored format, but all processes that share partitions must compute the same.
func score(id bus.EngineID, p bus.Partition) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(append(id[:], byte(p), byte(p>>8))) // a hash never fails to write
	// FNV leaves the last bytes' traces in few bits: spread them (the finalizer of MurmurHash3).
	x := binary.BigEndian.Uint64(h.Sum(nil))
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
