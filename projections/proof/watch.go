package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
)

// ErrDiverged says that this process has read another book than the notary: a server gives out what was not signed, or what
// was signed has been changed. Nothing that follows from it may be trusted.
var ErrDiverged = errors.New("the book that was read is not the one that was signed")

// watchMost is how many leaf hashes are kept for the next checkpoint; beyond it the older half is folded. 8 MB.
const watchMost = 1 << 18

// LastCheckpoints gives a partition's newest checkpoint: *[bus.Bus].
type LastCheckpoints interface {
	LastCheckpoint(ctx context.Context, p bus.Partition) (bus.NotaryRecord, error)
}

// WatchConfig is what a watch stands on.
type WatchConfig struct {
	Key        PublicKey
	Partitions int
	Store      LastCheckpoints
	// Every is how often the newest checkpoint is looked at. Zero: 1 s. One that was not looked at is lost on nobody: the
	// root after a later page covers the earlier ones.
	Every time.Duration
	Log   *slog.Logger
}

// Watch folds the books as this process reads them, and compares with what the notary signs. It is a model of the follower's,
// and Err is to be asked before the view is trusted. Its methods are safe for concurrent use.
type Watch struct {
	cfg   WatchConfig
	parts []*watched
}

// watched is the tree of one partition.
type watched struct {
	p      bus.Partition
	hasher Hasher // owned by Apply
	fresh  []Hash // owned by Apply

	mu       sync.Mutex
	edge     Edge    // guarded by mu: through the page folded; without meaning before based
	based    bool    // guarded by mu: edge is known
	folded   uint64  // guarded by mu: the last page in edge, or before leaves
	leaves   []Hash  // guarded by mu: of the pages after it
	bounds   []bound // guarded by mu: where each of those ends
	applied  uint64  // guarded by mu: the last page
	waiting  *mark   // guarded by mu: a checkpoint of a page that has not been applied
	agreed   uint64  // guarded by mu: the last page at which the roots agreed
	refused  uint64  // guarded by mu
	diverged error   // guarded by mu
}

// mark is a checkpoint, with the edge of its tree.
type mark struct {
	Checkpoint
	edge Edge
}

// NewWatch makes a watch; it starts nothing.
func NewWatch(cfg WatchConfig) *Watch {
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	w := &Watch{cfg: cfg}
	for p := range bus.Partition(cfg.Partitions) {
		w.parts = append(w.parts, &watched{p: p, based: true})
	}
	return w
}

// Name implements [projections.Model].
func (*Watch) Name() string { return "roots" }

// Apply implements [projections.Model]. It never fails: what is wrong with the book, Err tells.
func (w *Watch) Apply(page projections.Page) error {
	part := w.parts[page.Partition]
	part.fresh = part.hasher.Page(part.fresh[:0], page.Partition, page.Seq, page.RawEvents, page.Raw)
	part.mu.Lock()
	defer part.mu.Unlock()
	part.leaves = append(part.leaves, part.fresh...)
	part.bounds = append(part.bounds, bound{page.Seq, len(part.leaves), len(page.RawEvents)})
	part.applied = page.Seq
	w.compare(part)
	if len(part.leaves) > watchMost {
		part.fold(len(part.bounds) / 2)
	}
	return nil
}

// Restore implements [projections.Restorer]. What led to the state is not compared; the first checkpoint at or after its
// page gives the tree to go on from.
func (w *Watch) Restore(page projections.Page, _ *session.State) error {
	part := w.parts[page.Partition]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.based, part.folded, part.applied = false, page.Seq, page.Seq
	return nil
}

// Err is ErrDiverged once a root was not the notary's, for good.
func (w *Watch) Err() error {
	for _, part := range w.parts {
		part.mu.Lock()
		err := part.diverged
		part.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Agreed is the last page of a partition at which the roots were found to agree.
func (w *Watch) Agreed(p bus.Partition) uint64 {
	part := w.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.agreed
}

// Run looks at the notary's checkpoints until ctx ends, and returns its error. While there are none nothing is compared.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(w.cfg.Every)
	defer tick.Stop()
	told := false
	for {
		for _, part := range w.parts {
			r, err := w.cfg.Store.LastCheckpoint(ctx, part.p)
			if err != nil && ctx.Err() == nil && !told {
				told = true
				w.cfg.Log.Warn("the notary's checkpoints cannot be read, trying on", "partition", part.p, "err", err)
			}
			if err == nil && r.Seq > 0 {
				told = false
				w.offer(part, r)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// offer takes a checkpoint. While one waits for its page another is passed over: it comes again.
func (w *Watch) offer(part *watched, r bus.NotaryRecord) {
	part.mu.Lock()
	skip := part.waiting != nil || r.Page <= part.agreed
	part.mu.Unlock()
	if skip {
		return
	}
	c, edge, _, err := w.cfg.Key.openRecord(r)
	part.mu.Lock()
	defer part.mu.Unlock()
	if err != nil {
		if part.refused++; part.refused == 1 {
			w.cfg.Log.Error("a checkpoint is not the notary's", "partition", part.p, "seq", r.Seq, "err", err)
		}
		return
	}
	part.waiting = &mark{c, edge}
	w.compare(part)
}

// compare compares with the checkpoint that waits, when its page has been applied. The caller holds mu.
func (w *Watch) compare(part *watched) {
	m := part.waiting
	if m == nil || part.applied < m.Page {
		return
	}
	part.waiting = nil
	if m.Page < part.folded {
		return // the tree is past it: a later one will do
	}
	n, found := slices.BinarySearchFunc(part.bounds, m.Page, func(b bound, page uint64) int { return int(int64(b.page) - int64(page)) })
	if found {
		part.fold(n + 1)
	}
	if !part.based {
		part.edge, part.based = m.edge, true
		return
	}
	if part.edge.size != m.Size || part.edge.Root() != m.Root {
		part.diverged = fmt.Errorf("%w: partition %s, somewhere up to page %d", ErrDiverged, part.p, m.Page)
		w.cfg.Log.Error("this process has read another book than was signed: it trusts nothing of it any more",
			"partition", part.p, "position", m.Page, "root", part.edge.Root(), "signed", m.Root)
		return
	}
	part.agreed = m.Page
}

// fold takes the first n pages that are kept into the edge. The caller holds mu.
func (w *watched) fold(n int) {
	last := w.bounds[n-1]
	if w.based {
		w.edge.Append(w.leaves[:last.leaf]...)
	}
	w.folded = last.page
	w.leaves = slices.Delete(w.leaves, 0, last.leaf)
	w.bounds = slices.Delete(w.bounds, 0, n)
	for i := range w.bounds {
		w.bounds[i].leaf -= last.leaf
	}
}
