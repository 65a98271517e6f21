package backup

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// edge is the right edge of a Merkle tree (RFC 6962): the roots of its full subtrees, the largest first. It is all that
// is needed to add leaves and to name the root, and grows with the logarithm of the leaves.
type edge struct {
	size  uint64
	roots []tlog.Hash
}

// add puts a page after the others.
func (e *edge) add(data []byte) {
	e.roots = append(e.roots, tlog.RecordHash(data))
	for n := e.size; n&1 == 1; n >>= 1 {
		last := len(e.roots) - 1
		e.roots[last-1] = tlog.NodeHash(e.roots[last-1], e.roots[last])
		e.roots = e.roots[:last]
	}
	e.size++
}

// root is the root of all leaves so far.
func (e *edge) root() [32]byte {
	if len(e.roots) == 0 {
		return sha256.Sum256(nil) // as RFC 6962 has it for no leaves
	}
	root := e.roots[len(e.roots)-1]
	for i := len(e.roots) - 2; i >= 0; i-- {
		root = tlog.NodeHash(e.roots[i], root)
	}
	return root
}
