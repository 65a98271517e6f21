package backup

import (
	"rollbook/bus"
	"rollbook/projections/proof"
)

// tree is the Merkle tree of a partition as the notary has it, so that a root here is one that may have been signed.
type tree struct {
	edge   proof.Edge
	hasher proof.Hasher
	leaves []proof.Hash
	pages  uint64
}

// add puts a page after the others.
func (t *tree) add(p bus.Partition, seq uint64, events [][]byte, data []byte) {
	t.leaves = t.hasher.Page(t.leaves[:0], p, seq, events, data)
	t.edge.Append(t.leaves...)
	t.pages++
}

func (t *tree) root() [32]byte { return t.edge.Root() }
