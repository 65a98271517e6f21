package proof

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"rollbook/bus"
)

// bundleFormat is the form of a bundle of proofs; proofHead begins each proof in it (C2SP tlog-proof).
const (
	bundleFormat = "rollbook-proof/v1"
	proofHead    = "c2sp.org/tlog-proof@v1\n"
)

// ErrNotProven says that a proof does not prove what it says. Do not believe what is in it.
var ErrNotProven = errors.New("it is not proved")

// ErrNotSigned says that the book is not what its last checkpoint signs, so that nothing of it can be proved. Verify it.
var ErrNotSigned = errors.New("the book is not what was signed")

// Proven is an event, and the proof that a checkpoint covers it.
type Proven struct {
	Partition bus.Partition `json:"partition"`
	Page      uint64        `json:"page"`
	Index     int           `json:"index"` // within the page, from 0
	Event     []byte        `json:"event"` // as stored; base64
	// Proof is a C2SP tlog-proof of EventPreimage: the leaf's place in the tree, the path to the root, the checkpoint.
	Proof string `json:"proof"`

	leaf int64
}

// Prove proves the events that want chooses, of the pages that a partition's last checkpoint covers. The book is read twice.
func Prove(ctx context.Context, from Source, key PublicKey, last bus.NotaryRecord, want func(page uint64, index int, event []byte) bool) ([]Proven, error) {
	c, _, _, err := key.openRecord(last)
	if err != nil {
		return nil, err
	}
	var list []Proven
	leaf := int64(0)
	err = from.Pages(ctx, last.Partition, 0, c.Page, func(n uint64, data []byte) error {
		page, err := bus.DecodePage(data)
		if err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		for i, event := range page.Events {
			if want(n, i, event) {
				list = append(list, Proven{Partition: last.Partition, Page: n, Index: i, Event: event, leaf: leaf})
			}
			leaf++
		}
		leaf++ // the page's own
		return nil
	})
	if err != nil {
		return nil, err
	}
	paths, err := paths(ctx, from, c, list)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Proof = proofText(list[i].leaf, paths[i], last.Data)
	}
	return list, nil
}

// paths are the inclusion proofs of leaves in the tree of a checkpoint.
func paths(ctx context.Context, from Source, c Checkpoint, list []Proven) ([]tlog.RecordProof, error) {
	nodes := map[int64]Hash{} // those that are needed, by tlog's index of stored hashes
	for _, e := range list {
		if e.leaf >= c.Size {
			return nil, ErrNotSigned
		}
		_, err := tlog.ProveRecord(c.Size, e.leaf, tlog.HashReaderFunc(func(at []int64) ([]Hash, error) {
			for _, i := range at {
				nodes[i] = Hash{}
			}
			return make([]Hash, len(at)), nil
		}))
		if err != nil {
			return nil, fmt.Errorf("prove an event: %w", err)
		}
	}
	var tree Edge
	var hasher Hasher
	err := from.Pages(ctx, c.Partition, 0, c.Page, func(n uint64, data []byte) error {
		page, err := bus.DecodePage(data)
		if err != nil {
			return fmt.Errorf("page %d: %w", n, err)
		}
		for _, leaf := range hasher.Page(nil, c.Partition, n, page.Events, data) {
			tree.add(leaf, func(level int, n int64, h Hash) {
				at := tlog.StoredHashIndex(level, n)
				if _, needed := nodes[at]; needed {
					nodes[at] = h
				}
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if tree.size != c.Size || tree.Root() != c.Root {
		return nil, ErrNotSigned
	}
	paths := make([]tlog.RecordProof, len(list))
	for i, e := range list {
		paths[i], err = tlog.ProveRecord(c.Size, e.leaf, tlog.HashReaderFunc(func(at []int64) ([]Hash, error) {
			hashes := make([]Hash, len(at))
			for i := range at {
				hashes[i] = nodes[at[i]]
			}
			return hashes, nil
		}))
		if err != nil {
			return nil, fmt.Errorf("prove an event: %w", err)
		}
	}
	return paths, nil
}

func proofText(leaf int64, path tlog.RecordProof, signed []byte) string {
	b := strconv.AppendInt([]byte(proofHead+"index "), leaf, 10)
	b = append(b, '\n')
	for _, h := range path {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	return string(b) + "\n" + string(signed)
}

// Check checks a proof with the notary's key, and gives the checkpoint that covers the event. Errors: ErrNotProven.
func (e Proven) Check(key PublicKey) (Checkpoint, error) {
	rest, ok := strings.CutPrefix(e.Proof, proofHead)
	if strings.HasPrefix(rest, "extra ") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	head, signed, ok2 := strings.Cut(rest, "\n\n")
	lines := strings.Split(head, "\n")
	number, ok3 := strings.CutPrefix(lines[0], "index ")
	leaf, err := strconv.ParseInt(number, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || strconv.FormatInt(leaf, 10) != number {
		return Checkpoint{}, fmt.Errorf("%w: it is no tlog-proof", ErrNotProven)
	}
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line { // two texts must not stand for one hash
			return Checkpoint{}, fmt.Errorf("%w: it is no tlog-proof", ErrNotProven)
		}
		path = append(path, h)
	}
	c, err := key.Open(e.Partition, []byte(signed))
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrNotProven, err)
	}
	if leaf < 0 || leaf >= c.Size || e.Index < 0 || e.Page > c.Page ||
		tlog.CheckRecord(path, c.Size, c.Root, leaf, tlog.RecordHash(EventPreimage(e.Partition, e.Page, e.Index, e.Event))) != nil {
		return c, fmt.Errorf("%w: event %d of page %d of partition %s is not in the tree", ErrNotProven, e.Index, e.Page, e.Partition)
	}
	return c, nil
}

// bundleHead is the first line of a bundle.
type bundleHead struct {
	Format string `json:"format"`
	Name   string `json:"name"`
	Events int    `json:"events"`
}

// WriteBundle writes proofs as JSON Lines: a head, and a line an event.
func WriteBundle(to io.Writer, key PublicKey, list []Proven) error {
	out := bufio.NewWriter(to)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(bundleHead{bundleFormat, key.Name(), len(list)})
	for _, e := range list {
		err = errors.Join(err, enc.Encode(e))
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return fmt.Errorf("write proofs: %w", err)
	}
	return nil
}

// ReadBundle reads what WriteBundle wrote. It checks nothing but that it is whole, and has no event twice: ErrNotProven.
func ReadBundle(from io.Reader) ([]Proven, error) {
	dec := json.NewDecoder(from)
	dec.DisallowUnknownFields()
	var head bundleHead
	if err := dec.Decode(&head); err != nil || head.Format != bundleFormat {
		return nil, fmt.Errorf("%w: it is no bundle of proofs that this program reads", ErrNotProven)
	}
	if head.Events < 1 {
		return nil, fmt.Errorf("%w: it has no proof in it", ErrNotProven) // and is no word of anybody's key
	}
	var list []Proven
	seen := map[bus.Position]bool{}
	for {
		var e Proven
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF) && len(list) == head.Events:
			return list, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it is not whole: %d proofs of %d", ErrNotProven, len(list), head.Events)
		case err != nil:
			return nil, fmt.Errorf("%w: proof %d cannot be read", ErrNotProven, len(list)+1)
		case e.Index < 0 || int64(e.Index) > math.MaxUint32:
			return nil, fmt.Errorf("%w: proof %d is of no place in a book", ErrNotProven, len(list)+1)
		}
		at := bus.Position{Partition: e.Partition, Page: e.Page, Index: uint32(e.Index)}
		if seen[at] { // who counts the events must not count one twice
			return nil, fmt.Errorf("%w: the event at %s is in it twice", ErrNotProven, at)
		}
		seen[at] = true
		list = append(list, e)
	}
}
