package bus

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Position is where an event stands. Within a partition positions are totally
// ordered; between partitions there is no order.
type Position struct {
	Partition Partition
	Page      uint64 // the page's sequence in the partition's book, from 1; 0 is before the first page
	Index     uint32 // the event's index in its page, from 0
}

// String is "partition/page.index", as in "0/17.3". ParsePosition reads it.
func (p Position) String() string {
	b := strconv.AppendUint(make([]byte, 0, 32), uint64(p.Partition), 10)
	b = append(b, '/')
	b = strconv.AppendUint(b, p.Page, 10)
	b = append(b, '.')
	return string(strconv.AppendUint(b, uint64(p.Index), 10))
}

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	part, rest, ok1 := strings.Cut(s, "/")
	page, index, ok2 := strings.Cut(rest, ".")
	p, err1 := strconv.ParseUint(part, 10, 16)
	g, err2 := strconv.ParseUint(page, 10, 64)
	i, err3 := strconv.ParseUint(index, 10, 32)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return Position{}, fmt.Errorf("position %q is not of the form partition/page.index", s)
	}
	return Position{Partition: Partition(p), Page: g, Index: uint32(i)}, nil
}

// Compare orders positions of one partition: -1, 0 or +1 as p is before, at or
// after q. Between partitions it orders by partition number, which makes a sort
// stable and says nothing about time.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Partition, q.Partition), cmp.Compare(p.Page, q.Page), cmp.Compare(p.Index, q.Index))
}

// AtLeast reports whether p is at or after q in the same partition. It is
// false between partitions: having read one book says nothing about another.
func (p Position) AtLeast(q Position) bool {
	return p.Partition == q.Partition && p.Compare(q) >= 0
}

// CommandID names one command for ever. The writer answers a repeated id from
// the book and does nothing again.
type CommandID [16]byte

// NewCommandID mints an id from the system's random source (128 bits).
func NewCommandID() CommandID {
	var id CommandID
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails: it crashes the program instead
	return id
}

// String is the id in 32 hexadecimal digits.
func (id CommandID) String() string { return hex.EncodeToString(id[:]) }
