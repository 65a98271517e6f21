package backup

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"rollbook/bus"
)

// Summary is what a backup holds.
type Summary struct {
	Head
	Parts  []Part // one a partition
	Beside uint64 // messages of streams beside the book
}

// MadeAt is when the backup was begun.
func (s Summary) MadeAt() time.Time { return time.Unix(0, s.Made).UTC() }

// Pages is how many pages there are in all partitions.
func (s Summary) Pages() (n uint64) {
	for _, p := range s.Parts {
		n += p.Pages
	}
	return n
}

// Verify reads a backup to its end. Without an error it is whole, and every page in it is one. known, if there are any,
// are other backups of what should be the same book: see [Known.Check].
func Verify(from io.Reader, known ...*Known) (Summary, error) {
	return read(from, visitor{page: func(p page, root func() [32]byte) error {
		for _, k := range known {
			k.see(p, root)
		}
		return nil
	}})
}

// IsBackup reports whether a file that begins like this is one, whole or not.
func IsBackup(begin []byte) bool { return bytes.HasPrefix(begin, []byte(magic)) }

// visitor is called with what a backup holds, in its order. A nil function passes it over. The data are the callee's
// for the length of the call. root is that of the page's partition through the page.
type visitor struct {
	head   func(Head) error
	beside func(beside) error
	page   func(p page, root func() [32]byte) error
}

// reading is how far one reading has come.
type reading struct {
	visit visitor
	sum   Summary
	ends  []uint64 // nil before the cut
	trees []tree
}

// read reads a file through. What it has shown is only known to be good when it returns without an error.
func read(from io.Reader, visit visitor) (Summary, error) {
	file, err := newFileReader(from)
	if err != nil {
		return Summary{}, err
	}
	r := &reading{visit: visit}
	for {
		kind, body, err := file.frame()
		if err != nil {
			return Summary{}, err
		}
		if (kind == kindHead) != (r.trees == nil) {
			return Summary{}, fmt.Errorf("%w: its head is missing, or there twice", ErrDamaged)
		}
		switch kind {
		case kindHead:
			err = r.head(body)
		case kindBeside:
			err = r.beside(body)
		case kindCut:
			err = r.cut(body)
		case kindPage:
			err = r.page(body)
		case kindEnd:
			if err = r.end(body); err == nil {
				err = file.close()
			}
			return r.sum, err
		default:
			err = fmt.Errorf("%w: a frame of an unknown kind", ErrDamaged)
		}
		if err != nil {
			return Summary{}, err
		}
	}
}

func (r *reading) head(body []byte) error {
	if err := decode(body, &r.sum.Head); err != nil {
		return err
	}
	if n := r.sum.Partitions; n < 1 || n > bus.MaxPartitions {
		return fmt.Errorf("%w: %d partitions", ErrDamaged, n)
	}
	r.trees = make([]tree, r.sum.Partitions)
	r.sum.Parts = make([]Part, r.sum.Partitions)
	if r.visit.head != nil {
		return r.visit.head(r.sum.Head)
	}
	return nil
}

func (r *reading) beside(body []byte) error {
	var m beside
	if err := decode(body, &m); err != nil {
		return err
	}
	r.sum.Beside++
	if r.visit.beside != nil {
		return r.visit.beside(m)
	}
	return nil
}

func (r *reading) cut(body []byte) error {
	var c cut
	if err := decode(body, &c); err != nil {
		return err
	}
	if r.ends != nil || len(c.Ends) != len(r.trees) {
		return fmt.Errorf("%w: its cut does not fit", ErrDamaged)
	}
	r.ends = c.Ends
	return nil
}

// page takes the page that has to come next in its partition.
func (r *reading) page(body []byte) error {
	var p page
	if err := decode(body, &p); err != nil {
		return err
	}
	if r.ends == nil || int(p.Partition) >= len(r.trees) || p.Seq != r.trees[p.Partition].pages+1 || p.Seq > r.ends[p.Partition] {
		return fmt.Errorf("%w: page %d of partition %d is out of place", ErrDamaged, p.Seq, p.Partition)
	}
	decoded, err := bus.DecodePage(p.Data)
	if err != nil {
		return fmt.Errorf("%w: page %d of partition %d: %w", ErrDamaged, p.Seq, p.Partition, err)
	}
	tree, part := &r.trees[p.Partition], &r.sum.Parts[p.Partition]
	tree.add(bus.Partition(p.Partition), p.Seq, decoded.Events, p.Data)
	part.Pages++
	part.Events += uint64(len(decoded.Events))
	if r.visit.page != nil {
		return r.visit.page(p, tree.root)
	}
	return nil
}

// end compares what was read with what the writer had counted.
func (r *reading) end(body []byte) error {
	var e end
	if err := decode(body, &e); err != nil {
		return err
	}
	if r.ends == nil || len(e.Parts) != len(r.sum.Parts) || e.Beside != r.sum.Beside {
		return fmt.Errorf("%w: it does not hold what its end says", ErrDamaged)
	}
	for p := range r.sum.Parts {
		r.sum.Parts[p].Root = r.trees[p].root()
		if r.sum.Parts[p] != e.Parts[p] || r.sum.Parts[p].Pages != r.ends[p] {
			return fmt.Errorf("%w: partition %d does not hold what the backup's end says", ErrDamaged, p)
		}
	}
	return nil
}
