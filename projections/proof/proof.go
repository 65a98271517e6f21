// Package proof makes the book tamper-evident.
//
// Each partition's book is a Merkle log as of RFC 6962. For each page go in, in order, one leaf for each of its events and
// one for the page as a whole, over the bytes as stored. A [Notary], with a key of its own, follows the books and signs the
// root after the last page it has read: a checkpoint, in the form of C2SP's tlog-checkpoint. A [Watch] folds the same tree
// in every pod and compares. A [Verifier] does so with the pages and checkpoints of the live book, or of an export
// ([Writer], [ReadExport]); a [Bundle] proves single events; a [Witness] remembers checkpoints and signs beside.
//
// Invariants:
//   - A checkpoint stands at the end of a page, and covers every byte of every page up to there.
//   - Only the right edge of a tree is kept in memory: its size is the logarithm of the tree's.
//   - A notary never signs two trees of which one is not the beginning of the other: it goes on from the edge of the last
//     checkpoint that is stored, and where that is not of this book, it stops.
//   - A key counts from the checkpoint on that the one before it has signed too.
//   - Bytes are hashed as they are stored, and never encoded again.
//   - What is not signed (leaf hashes, headers) is checked against what is, and only says where to look.
//
// docs/audit.md has the formats byte by byte. testdata/verify/verify.mjs is a second verifier.
package proof

import (
	"crypto/sha256"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"rollbook/bus"
)

// Hash is a node of a tree.
type Hash = tlog.Hash

const (
	eventPrefix = "rollbook-event/v1\n"
	pagePrefix  = "rollbook-page/v1\n"
	leafMark    = 0 // RFC 6962, 2.1: what is hashed of a leaf begins with it
)

// EventPreimage is what the leaf of an event is the RFC 6962 leaf hash of; index counts from 0 within the page.
func EventPreimage(p bus.Partition, page uint64, index int, event []byte) []byte {
	return append(eventHead(nil, p, page, index), event...)
}

// PagePreimage is what the leaf of a page is the RFC 6962 leaf hash of.
func PagePreimage(p bus.Partition, page uint64, data []byte) []byte {
	return append(pageHead(nil, p, page), data...)
}

func eventHead(b []byte, p bus.Partition, page uint64, index int) []byte {
	b = append(strconv.AppendUint(append(b, eventPrefix...), uint64(p), 10), '\n')
	b = append(strconv.AppendUint(b, page, 10), '\n')
	return append(strconv.AppendInt(b, int64(index), 10), '\n')
}

func pageHead(b []byte, p bus.Partition, page uint64) []byte {
	b = append(strconv.AppendUint(append(b, pagePrefix...), uint64(p), 10), '\n')
	return append(strconv.AppendUint(b, page, 10), '\n')
}

// Hasher makes leaf hashes with a buffer of its own. It belongs to one goroutine. The zero value is ready.
type Hasher struct{ buf []byte }

// Page appends the leaf hashes of a page to list: one an event, and one for data, the page's stored bytes.
func (h *Hasher) Page(list []Hash, p bus.Partition, page uint64, events [][]byte, data []byte) []Hash {
	for i, event := range events {
		h.buf = append(eventHead(append(h.buf[:0], leafMark), p, page, i), event...)
		list = append(list, sha256.Sum256(h.buf))
	}
	h.buf = append(pageHead(append(h.buf[:0], leafMark), p, page), data...)
	return append(list, sha256.Sum256(h.buf))
}
