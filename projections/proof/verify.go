package proof

import (
	"fmt"
	"slices"

	"rollbook/bus"
)

// Kind says what a record is.
type Kind string

// The kinds of records.
const (
	PageRecord       Kind = "page"
	LeavesRecord     Kind = "leaves"
	CheckpointRecord Kind = "checkpoint"
)

// Record is a page of a book or a message of the notary's, as stored: what is verified.
type Record struct {
	Kind      Kind
	Partition bus.Partition
	Page      uint64 // of a page, its number; of a checkpoint, the page that stands beside it
	Seq       uint64 // of the notary's messages: the place in their stream. Nothing is proved by it
	From      uint64 // of leaf hashes: the place of the first in the tree
	Edge      string // of a checkpoint: the edge beside it
	Data      []byte // the page, the leaf hashes, or the signed note
}

// Fault says what is wrong. The words are stable.
type Fault string

// The faults.
const (
	PageChanged   Fault = "page-changed"         // its bytes are not those that were signed
	PageDamaged   Fault = "page-damaged"         // it is not a page
	PageMissing   Fault = "page-missing"         // another page, or none, stands in its place
	Unlocated     Fault = "pages-changed"        // one of those up to the checkpoint; the leaf hashes that would tell which are bad too
	BadSignature  Fault = "checkpoint-signature" // the key has not signed it
	NumberMissing Fault = "checkpoint-missing"   // another checkpoint stands in its place
	BadHeader     Fault = "checkpoint-header"    // what stands beside it is not what it says
	BadLeaves     Fault = "leaves"               // the leaf hashes before it are not those of the tree
	SplitView     Fault = "split-view"           // a checkpoint that was kept is of another history
	RolledBack    Fault = "rolled-back"          // a checkpoint that was kept is of more than there is
	BadFile       Fault = "file"                 // an export that cannot be read to its end
	NothingProved Fault = "nothing-proved"       // no checkpoint of any partition has been verified
)

// Finding is the first thing that is wrong in a partition.
type Finding struct {
	Fault      Fault         `json:"fault"`
	Partition  bus.Partition `json:"partition"`
	Page       uint64        `json:"page,omitempty"`       // the first bad page; 0: it is about a checkpoint
	Index      int           `json:"index"`                // the event of that page, from 0; -1: the page as a whole
	Checkpoint uint64        `json:"checkpoint,omitempty"` // the number of the checkpoint; 0: it is about a page
	Line       int           `json:"line,omitempty"`       // of an export
	Text       string        `json:"text"`
}

// String is a sentence. What is wrong with the whole is not said of a partition.
func (f Finding) String() string {
	if f.Fault == BadFile || f.Fault == NothingProved {
		return f.Text
	}
	return fmt.Sprintf("partition %s: %s", f.Partition, f.Text)
}

// Verified says how far a partition has been verified.
type Verified struct {
	Partition  bus.Partition `json:"partition"`
	Page       uint64        `json:"page"` // every page up to here, since where the records begin, is as it was signed
	Leaves     int64         `json:"leaves"`
	Checkpoint uint64        `json:"checkpoint"`
	Events     uint64        `json:"events"`    // that were verified
	Uncovered  uint64        `json:"uncovered"` // pages after the last checkpoint, of which nothing is proved
	// Checkpoints is how many were verified. 0: nothing of this partition is proved, though another one may be.
	Checkpoints uint64 `json:"checkpoints"`
}

// Unproved is the finding that nothing was found since there was nothing to verify: records that no checkpoint covers, or
// none at all, are nobody's word. ok is false when a checkpoint of one partition at least was verified.
func Unproved(reached []Verified) (f Finding, ok bool) {
	for _, p := range reached {
		if p.Checkpoints > 0 {
			return f, false
		}
	}
	return Finding{Fault: NothingProved, Index: -1, Text: "nothing is proved: there is no checkpoint"}, true
}

// Verifier takes the records of any number of partitions, each in order, and finds the first fault of each. It belongs to
// one goroutine.
type Verifier struct {
	key   PublicKey
	parts map[bus.Partition]*verified
}

// verified is the progress in one partition.
type verified struct {
	p       bus.Partition
	edge    Edge     // of the last good checkpoint
	number  uint64   // its number
	page    uint64   // and its page
	next    uint64   // the page that must come next
	leaves  []Hash   // of the pages since
	bounds  []bound  // and where each of those ends among them
	said    said     // the leaf hashes that the notary left since
	broken  *Finding // the first page since that is none, or is not in its place
	known   []Checkpoint
	events  uint64
	signer  int    // the key that must sign the next checkpoint
	signed  uint64 // checkpoints that were accepted
	hasher  Hasher
	finding *Finding
}

type bound struct {
	page  uint64
	leaf  int // how many leaves there are through it
	event int // how many of its own are events
}

// NewVerifier verifies what was signed with a key, from the first page on. known are checkpoints that were kept, for which
// Open has vouched: the history that is found must be theirs.
func NewVerifier(key PublicKey, known ...Checkpoint) *Verifier {
	v := &Verifier{key: key, parts: map[bus.Partition]*verified{}}
	for _, c := range known {
		w := v.part(c.Partition)
		w.known = append(w.known, c)
	}
	return v
}

func (v *Verifier) part(p bus.Partition) *verified {
	w := v.parts[p]
	if w == nil {
		w = &verified{p: p, next: 1}
		v.parts[p] = w
	}
	return w
}

// Begin has a partition begin after a checkpoint in place of its first page.
func (v *Verifier) Begin(base Record) {
	w := v.part(base.Partition)
	c, edge, by, err := v.key.openRecord(bus.NotaryRecord{Partition: base.Partition, Page: base.Page, Edge: base.Edge, Data: base.Data})
	if err != nil {
		w.fail(Finding{Fault: BadSignature, Index: -1, Text: "the checkpoint that it begins after: " + err.Error()})
		return
	}
	w.edge, w.number, w.page, w.next, w.signer = edge, c.Number, c.Page, c.Page+1, slices.Max(by)
	for _, known := range w.known {
		switch {
		case known.Size < c.Size:
			w.fail(Finding{Fault: SplitView, Index: -1, Checkpoint: known.Number, Text: fmt.Sprintf(
				"the checkpoint %d that was kept is from before page %d, where the records begin: it cannot be compared with them", known.Number, c.Page+1)})
		case known.Size == c.Size && known.Root != c.Root:
			w.fail(Finding{Fault: SplitView, Index: -1, Checkpoint: known.Number, Text: fmt.Sprintf("the checkpoint %d that was kept is of another history", known.Number)})
		}
	}
}

// Add takes the next record.
func (v *Verifier) Add(r Record) {
	w := v.part(r.Partition)
	if w.finding != nil {
		return
	}
	switch r.Kind {
	case PageRecord:
		w.addPage(r)
	case LeavesRecord:
		w.addLeaves(r)
	case CheckpointRecord:
		w.addCheckpoint(v.key, r)
	}
}

func (w *verified) fail(f Finding) {
	if w.finding == nil {
		f.Partition = w.p
		w.finding = &f
	}
}

func (w *verified) addPage(r Record) {
	if w.broken != nil {
		return
	}
	if r.Page != w.next {
		w.broken = &Finding{Fault: PageMissing, Page: w.next, Index: -1, Text: fmt.Sprintf("page %d is missing: page %d stands in its place", w.next, r.Page)}
		return
	}
	page, err := bus.DecodePage(r.Data)
	if err != nil {
		w.broken = &Finding{Fault: PageDamaged, Page: r.Page, Index: -1, Text: fmt.Sprintf("page %d: %v", r.Page, err)}
		return
	}
	w.leaves = w.hasher.Page(w.leaves, w.p, r.Page, page.Events, r.Data)
	w.bounds = append(w.bounds, bound{r.Page, len(w.leaves), len(page.Events)})
	w.next++
}

func (w *verified) addLeaves(r Record) { w.said.add(w.edge.size, int64(r.From), r.Data) }

func (w *verified) addCheckpoint(key PublicKey, r Record) {
	c, by, err := key.open(w.p, r.Data)
	signer, follows := succeeds(w.signer, by)
	expected := w.number + 1
	switch {
	case err != nil:
		w.fail(Finding{Fault: BadSignature, Index: -1, Checkpoint: expected, Text: fmt.Sprintf("checkpoint %d: %v", expected, err)})
		return
	case !follows:
		w.fail(Finding{Fault: BadSignature, Index: -1, Checkpoint: expected,
			Text: fmt.Sprintf("checkpoint %d is signed by another key than the one before it, and that has not handed over", expected)})
		return
	case c.Number != expected:
		w.fail(Finding{Fault: NumberMissing, Index: -1, Checkpoint: expected,
			Text: fmt.Sprintf("checkpoint %d is missing: checkpoint %d stands in its place", expected, c.Number)})
		return
	case r.Page != c.Page:
		w.fail(Finding{Fault: BadHeader, Index: -1, Checkpoint: expected, Text: fmt.Sprintf("checkpoint %d is of page %d, and %d stands beside it", expected, c.Page, r.Page)})
		return
	}
	w.signer = signer
	at, whole := slices.BinarySearchFunc(w.bounds, c.Page, func(b bound, page uint64) int { return int(int64(b.page) - int64(page)) })
	if !whole {
		w.fail(w.locate(c, len(w.leaves)))
		return
	}
	w.cover(c, r, at)
}

// cover folds the pages up to a checkpoint, and accepts it when that gives the signed root.
func (w *verified) cover(c Checkpoint, r Record, at int) {
	n := w.bounds[at].leaf
	edge := w.edge.Clone()
	var split *Checkpoint
	for _, leaf := range w.leaves[:n] {
		edge.Append(leaf)
		for i, known := range w.known {
			if known.Size == edge.size && known.Root != edge.Root() {
				split = &w.known[i]
			}
		}
	}
	switch {
	case edge.size != c.Size || edge.Root() != c.Root:
		w.fail(w.locate(c, n))
	case split != nil: // what is here was signed, and so was another history
		w.fail(Finding{Fault: SplitView, Page: w.page + 1, Index: -1, Text: fmt.Sprintf(
			"the checkpoint %d that was kept is of another history: the two part between page %d and page %d", split.Number, w.page+1, split.Page)})
	case w.said.differ || !slices.Equal(w.said.through(int64(n)), w.leaves[:n]):
		w.fail(Finding{Fault: BadLeaves, Index: -1, Checkpoint: c.Number, Text: fmt.Sprintf("the leaf hashes before checkpoint %d are not those that it is the root of", c.Number)})
	case r.Edge != edge.String():
		w.fail(Finding{Fault: BadHeader, Index: -1, Checkpoint: c.Number, Text: fmt.Sprintf("the edge beside checkpoint %d is not that of its tree", c.Number)})
	default:
		w.accept(c, edge, at)
	}
}

func (w *verified) accept(c Checkpoint, edge Edge, at int) {
	for _, b := range w.bounds[:at+1] {
		w.events += uint64(b.event)
	}
	n := w.bounds[at].leaf
	w.edge, w.number, w.page = edge, c.Number, c.Page
	w.signed++
	w.said.signed(n)
	w.leaves = slices.Delete(w.leaves, 0, n)
	w.bounds = slices.Delete(w.bounds, 0, at+1)
	for i := range w.bounds {
		w.bounds[i].leaf -= n
	}
}

// locate names the first bad position before a checkpoint, of whose pages n leaves are there. The notary's leaf hashes
// tell, when they are those that the checkpoint is the root of.
func (w *verified) locate(c Checkpoint, n int) Finding {
	tree := w.edge.Clone()
	truth := w.said.through(c.Size - tree.size)
	tree.Append(truth...)
	if tree.size == c.Size && tree.Root() == c.Root {
		for i := range min(n, len(truth)) {
			if w.leaves[i] != truth[i] {
				return w.changed(i)
			}
		}
	}
	switch {
	case w.broken != nil:
		return *w.broken
	case c.Page >= w.next:
		return Finding{Fault: PageMissing, Page: w.next, Index: -1, Text: fmt.Sprintf("page %d is missing: checkpoint %d is of page %d", w.next, c.Number, c.Page)}
	}
	return Finding{Fault: Unlocated, Page: w.page + 1, Index: -1, Text: fmt.Sprintf(
		"of the pages %d to %d one at least is not as it was signed by checkpoint %d", w.page+1, c.Page, c.Number)}
}

// changed is the finding about the leaf i since the last checkpoint.
func (w *verified) changed(i int) Finding {
	first := 0
	for _, b := range w.bounds {
		if i >= b.leaf {
			first = b.leaf
			continue
		}
		if index := i - first; index < b.event {
			return Finding{Fault: PageChanged, Page: b.page, Index: index, Text: fmt.Sprintf("event %d of page %d is not as it was signed", index, b.page)}
		}
		return Finding{Fault: PageChanged, Page: b.page, Index: -1, Text: fmt.Sprintf("page %d is not as it was signed", b.page)}
	}
	panic("proof: a leaf of no page")
}

// End says that there are no more records, and gives what was found, and how far it is verified, by partition.
func (v *Verifier) End() (findings []Finding, reached []Verified) {
	for _, p := range v.partitions() {
		w := v.parts[p]
		if w.finding == nil && w.broken != nil {
			w.fail(*w.broken)
		}
		for _, known := range w.known {
			if known.Size > w.edge.size {
				w.fail(Finding{Fault: RolledBack, Page: w.page + 1, Index: -1, Text: fmt.Sprintf(
					"what was signed ends at page %d, and the checkpoint %d that was kept is of page %d", w.page, known.Number, known.Page)})
			}
		}
		if w.finding != nil {
			findings = append(findings, *w.finding)
		}
		reached = append(reached, Verified{p, w.page, w.edge.size, w.number, w.events, w.next - 1 - w.page, w.signed})
	}
	return findings, reached
}

func (v *Verifier) partitions() []bus.Partition {
	var list []bus.Partition
	for p := range v.parts {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}
