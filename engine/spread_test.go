package engine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rollbook/bus"
)

// TestShare: nobody gets what it is not ready for; while all are ready, nobody has more than one partition more than
// another, however many there are; the order in which members are heard of is of no account.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, bus.MaxPartitions).Draw(t, "partitions")
		ids := rapid.SliceOfNDistinct(rapid.Uint64Min(1), 0, 9, rapid.ID[uint64]).Draw(t, "ids")
		all := rapid.Bool().Draw(t, "all are ready")
		var members []member
		anyone := uint64(0)
		for _, id := range ids {
			m := member{ready: ^uint64(0)}
			for i := range m.id {
				m.id[i] = byte(id >> (8 * i))
			}
			if !all {
				m.ready = rapid.Uint64().Draw(t, "ready")
			}
			anyone |= m.ready
			members = append(members, m)
		}
		shares := share(partitions, members)
		load := map[bus.EngineID]int{}
		for p, id := range shares {
			at := slices.IndexFunc(members, func(m member) bool { return m.id == id })
			if at < 0 && anyone&(1<<p) != 0 || at >= 0 && !members[at].can(bus.Partition(p)) {
				t.Fatalf("partition %d went to %s", p, id)
			}
			load[id]++
		}
		for _, m := range members {
			if n := load[m.id]; all && (n < partitions/len(members) || n > partitions/len(members)+1) {
				t.Fatalf("one of %d has %d of %d partitions", len(members), n, partitions)
			}
		}
		slices.Reverse(members)
		if !slices.Equal(shares, share(partitions, members)) {
			t.Fatal("in another order the shares are others")
		}
	})
}
