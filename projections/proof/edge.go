package proof

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Edge is the right edge of a tree: of each whole subtree that the next leaf is not in, its root. It is all that is needed
// to add leaves and to find the root. The zero value is the edge of the empty tree.
type Edge struct {
	size  int64
	nodes []Hash // the largest subtree first: one for each bit of size that is set
}

// Size is the number of leaves.
func (e *Edge) Size() int64 { return e.size }

// Clone is a copy that shares nothing.
func (e *Edge) Clone() Edge { return Edge{e.size, slices.Clone(e.nodes)} }

// Append adds leaves.
func (e *Edge) Append(leaves ...Hash) {
	for _, leaf := range leaves {
		e.add(leaf, nil)
	}
}

// add adds a leaf, and tells made, unless it is nil, of every subtree that this completes, by its level (0: the leaf) and
// its place among those of that level.
func (e *Edge) add(node Hash, made func(level int, n int64, h Hash)) {
	for level := 0; ; level++ {
		if made != nil {
			made(level, e.size>>level, node)
		}
		if e.size>>level&1 == 0 {
			break
		}
		last := len(e.nodes) - 1
		node = tlog.NodeHash(e.nodes[last], node)
		e.nodes = e.nodes[:last]
	}
	e.nodes = append(e.nodes, node)
	e.size++
}

// emptyRoot is the root of a tree without leaves: SHA-256 of nothing (RFC 6962, 2.1).
var emptyRoot, _ = tlog.TreeHash(0, nil)

// Root is the root of the tree.
func (e *Edge) Root() Hash {
	if e.size == 0 {
		return emptyRoot
	}
	root := e.nodes[len(e.nodes)-1]
	for _, node := range slices.Backward(e.nodes[:len(e.nodes)-1]) {
		root = tlog.NodeHash(node, root)
	}
	return root
}

// String is the edge as it stands beside a checkpoint: the size, and the nodes in base64, each after a space.
func (e *Edge) String() string {
	b := strconv.AppendInt(nil, e.size, 10)
	for _, node := range e.nodes {
		b = base64.StdEncoding.AppendEncode(append(b, ' '), node[:])
	}
	return string(b)
}

var errEdge = errors.New("not the edge of a tree")

// parseEdge reads what String wrote. Whether it is the edge of a certain tree, its root tells.
func parseEdge(text string) (Edge, error) {
	parts := strings.Split(text, " ")
	size, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || size < 0 || bits.OnesCount64(uint64(size)) != len(parts)-1 {
		return Edge{}, errEdge
	}
	e := Edge{size: size}
	for _, part := range parts[1:] {
		node, err := tlog.ParseHash(part)
		if err != nil {
			return Edge{}, fmt.Errorf("%w: %w", errEdge, err)
		}
		e.nodes = append(e.nodes, node)
	}
	if e.String() != text {
		return Edge{}, errEdge
	}
	return e, nil
}

// joinHashes writes leaf hashes one after the other, as they are stored.
func joinHashes(list []Hash) []byte {
	data := make([]byte, 0, len(list)*tlog.HashSize)
	for i := range list {
		data = append(data, list[i][:]...)
	}
	return data
}

// splitHashes reads them; ok is false when the length is not a whole number of hashes.
func splitHashes(data []byte) (list []Hash, ok bool) {
	for len(data) >= tlog.HashSize {
		list = append(list, Hash(data[:tlog.HashSize]))
		data = data[tlog.HashSize:]
	}
	return list, len(data) == 0
}
