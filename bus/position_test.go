package bus_test

import (
	"hash/fnv"
	"testing"

	"pgregory.net/rapid"

	"rollbook/bus"
)

func TestPosition(t *testing.T) {
	at := func(p bus.Partition, page uint64, index uint32) bus.Position {
		return bus.Position{Partition: p, Page: page, Index: index}
	}
	if s := at(3, 17, 2).String(); s != "3/17.2" {
		t.Errorf("a position is written %q", s)
	}
	if !at(0, 2, 0).AtLeast(at(0, 1, 9)) || !at(0, 2, 1).AtLeast(at(0, 2, 1)) || at(0, 2, 0).AtLeast(at(0, 2, 1)) {
		t.Error("positions of one partition are out of order")
	}
	if at(1, 9, 9).AtLeast(at(0, 1, 1)) {
		t.Error("one partition's position is at least another's")
	}
	for _, bad := range []string{"", "1", "1/2", "1.2", "x/1.1", "1/2.3.4", "70000/1.1", "1/2.-1"} {
		if p, err := bus.ParsePosition(bad); err == nil {
			t.Errorf("%q was read as %v", bad, p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := at(bus.Partition(rapid.Uint16().Draw(t, "partition")), rapid.Uint64().Draw(t, "page"), rapid.Uint32().Draw(t, "index"))
		if q, err := bus.ParsePosition(p.String()); err != nil || q != p {
			t.Fatalf("%v was read back as %v, %v", p, q, err)
		}
	})
}

// TestPartitionOf pins what must never change: the books of stored users.
func TestPartitionOf(t *testing.T) {
	for _, c := range []struct {
		key  string
		n    int
		want bus.Partition
	}{{"", 16, 5}, {"JaneDee", 1, 0}, {"a", 16, 12}, {"foobar", 16, 8}} {
		if got := bus.PartitionOf(c.key, c.n); got != c.want {
			t.Errorf("%q of %d is in %d, want %d", c.key, c.n, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		key, n := rapid.String().Draw(t, "key"), rapid.IntRange(1, bus.MaxPartitions).Draw(t, "n")
		h := fnv.New32a()
		h.Write([]byte(key))
		if got := bus.PartitionOf(key, n); uint32(got) != h.Sum32()%uint32(n) {
			t.Fatalf("%q of %d is in %d", key, n, got)
		}
	})
}
