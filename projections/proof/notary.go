package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rollbook/bus"
)

const (
	leavesChunk = 16384   // leaf hashes a message: 512 KB
	leavesMost  = 1 << 20 // leaf hashes that wait to be signed, before reading waits for them
	retryPause  = time.Second
)

// Book is the log of one partition: *[bus.Book].
type Book interface {
	Partition() bus.Partition
	Follow(ctx context.Context, after uint64, fn func(bus.StoredPage) error) error
	End(ctx context.Context) (uint64, error)
}

// Store is where checkpoints are: *[bus.Bus].
type Store interface {
	LastCheckpoint(ctx context.Context, p bus.Partition) (bus.NotaryRecord, error)
	AppendLeaves(ctx context.Context, p bus.Partition, from uint64, data []byte) error
	AppendCheckpoint(ctx context.Context, expectLast uint64, r bus.NotaryRecord) (seq uint64, err error)
}

// Memory is where a notary remembers, apart from the bus, what it signed last: when the bus forgets, the notary does not sign
// another history. It is used from one goroutine a partition.
type Memory interface {
	// Load gives the last signed checkpoint that was saved, nil when there is none.
	Load(p bus.Partition) ([]byte, error)
	// Save is on disk when it returns nil.
	Save(p bus.Partition, signed []byte) error
}

// NotaryConfig is what a notary stands on.
type NotaryConfig struct {
	Books []Book // one a partition
	Store Store
	Key   Key
	// Interval is the least time from one checkpoint of a partition to the next. Zero: 1 s.
	Interval time.Duration
	// Memory remembers each checkpoint before it is stored. Nil: the stored ones are all that is known.
	Memory Memory
	// Verify, unless nil, is read as a whole once, beside the signing: every page that was signed must still be as it was.
	Verify Source
	Log    *slog.Logger
}

// Alarm says why a notary does not sign a partition any more. An operator has to find out what happened to the book.
type Alarm struct {
	Partition bus.Partition
	Text      string
}

func (a *Alarm) Error() string { return fmt.Sprintf("partition %s: %s", a.Partition, a.Text) }

// Notary signs what is in the books. Its methods are safe for concurrent use.
type Notary struct {
	cfg   NotaryConfig
	parts []*notarized
}

// notarized is the work on one partition.
type notarized struct {
	book Book

	mu      sync.Mutex
	edge    Edge          // guarded by mu: of all pages read
	page    uint64        // guarded by mu: the last of them
	pending []Hash        // guarded by mu: the leaves that are not signed yet
	floor   *Checkpoint   // guarded by mu: signed once and not stored; the tree must grow through it before more is signed
	signed  Checkpoint    // guarded by mu: the last that is known to be stored
	signer  int           // guarded by mu: which key must sign the next; when it is not the last, it hands over
	count   uint64        // guarded by mu: checkpoints signed since the start
	errors  uint64        // guarded by mu: attempts that failed
	since   time.Time     // guarded by mu: when the oldest page that is not signed was read; zero: all are
	room    chan struct{} // guarded by mu: closed, and replaced, when pending gets shorter
	alarm   *Alarm        // guarded by mu
	alarmed chan struct{} // closed with the alarm
}

// NewNotary makes a notary; it starts nothing.
func NewNotary(cfg NotaryConfig) *Notary {
	if cfg.Interval <= 0 {
		cfg.Interval = time.Second
	}
	n := &Notary{cfg: cfg}
	for _, book := range cfg.Books {
		n.parts = append(n.parts, &notarized{book: book, room: make(chan struct{}), alarmed: make(chan struct{})})
	}
	return n
}

// Run signs until ctx ends, and returns its error. A partition with an alarm is not signed any more; the others are.
func (n *Notary) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, w := range n.parts {
		running.Go(func() { n.keep(ctx, w) })
	}
	if n.cfg.Verify != nil {
		running.Go(func() { n.verify(ctx) })
	}
	running.Wait()
	<-ctx.Done()
	return ctx.Err()
}

// Alarms are those that were raised, by partition.
func (n *Notary) Alarms() (list []*Alarm) {
	for _, w := range n.parts {
		w.mu.Lock()
		if w.alarm != nil {
			list = append(list, w.alarm)
		}
		w.mu.Unlock()
	}
	return list
}

// Signed is the last checkpoint of a partition that this notary knows to be stored; the zero value before there is one.
func (n *Notary) Signed(p bus.Partition) Checkpoint {
	for _, w := range n.parts {
		if w.book.Partition() == p {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.signed
		}
	}
	return Checkpoint{}
}

// keep attends to a partition for as long as it may be signed. What fails is begun again from what is stored.
func (n *Notary) keep(ctx context.Context, w *notarized) {
	told := ""
	for ctx.Err() == nil {
		err := n.attend(ctx, w)
		var alarm *Alarm
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &alarm):
			n.raise(w, alarm)
			return
		case errors.Is(err, bus.ErrGap):
			n.raise(w, &Alarm{w.book.Partition(), err.Error()})
			return
		}
		w.mu.Lock()
		w.errors++
		w.mu.Unlock()
		if text := err.Error(); text != told {
			told = text
			n.cfg.Log.Warn("the notary cannot sign, trying on", "partition", w.book.Partition(), "err", err)
		}
		select {
		case <-ctx.Done():
		case <-w.alarmed:
			return
		case <-time.After(retryPause):
		}
	}
}

// raise stops the signing of a partition for good.
func (n *Notary) raise(w *notarized, alarm *Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alarm != nil {
		return
	}
	w.alarm = alarm
	close(w.alarmed)
	n.cfg.Log.Error("the book is not what was signed: the notary stops", "partition", alarm.Partition, "position", w.signed.Page, "err", alarm.Text)
}

// attend goes on from the last checkpoint that is stored, until something fails.
func (n *Notary) attend(ctx context.Context, w *notarized) error {
	seq, err := n.resume(ctx, w)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		w.mu.Lock()
		after := w.page
		w.mu.Unlock()
		var hasher Hasher
		return w.book.Follow(ctx, after, func(stored bus.StoredPage) error { return w.take(ctx, &hasher, stored) })
	})
	g.Go(func() error { return n.signAll(ctx, w, seq) })
	return g.Wait()
}

// take adds a page to the tree. When too much waits to be signed it waits too.
func (w *notarized) take(ctx context.Context, hasher *Hasher, stored bus.StoredPage) error {
	page, err := bus.DecodePage(stored.Data)
	if err != nil {
		return &Alarm{w.book.Partition(), fmt.Sprintf("page %d: %v", stored.Seq, err)}
	}
	leaves := hasher.Page(nil, w.book.Partition(), stored.Seq, page.Events, stored.Data)
	for {
		w.mu.Lock()
		if len(w.pending) < leavesMost {
			break
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer w.mu.Unlock()
	w.edge.Append(leaves...)
	w.pending = append(w.pending, leaves...)
	w.page = stored.Seq
	if w.floor != nil && w.page >= w.floor.Page {
		if w.page > w.floor.Page || w.edge.size != w.floor.Size || w.edge.Root() != w.floor.Root {
			return &Alarm{w.book.Partition(), fmt.Sprintf("this notary signed another page %d", w.floor.Page)}
		}
		w.floor = nil
	}
	if w.since.IsZero() {
		w.since = time.Now()
	}
	return nil
}

// signAll signs, once an interval, when pages have come. seq is the place of the last checkpoint.
func (n *Notary) signAll(ctx context.Context, w *notarized, seq uint64) error {
	tick := time.NewTicker(n.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.alarmed:
			return errors.New("the alarm was raised")
		case <-tick.C:
		}
		var err error
		if seq, err = n.sign(ctx, w, seq); err != nil {
			return err
		}
	}
}

// sign stores the leaf hashes of what has come, and then the checkpoint over it. A crash between leaves leaf hashes behind
// that no checkpoint covers; whoever goes on says them again, and a reader takes the later ones.
func (n *Notary) sign(ctx context.Context, w *notarized, seq uint64) (uint64, error) {
	w.mu.Lock()
	edge, page, leaves, last, early := w.edge.Clone(), w.page, w.pending[:len(w.pending):len(w.pending)], w.signed, w.floor != nil
	signer := w.signer
	w.mu.Unlock()
	if len(leaves) == 0 || early {
		return seq, nil
	}
	p := w.book.Partition()
	for done := 0; done < len(leaves); done += leavesChunk {
		chunk := leaves[done:min(done+leavesChunk, len(leaves))]
		if err := n.cfg.Store.AppendLeaves(ctx, p, uint64(last.Size)+uint64(done), joinHashes(chunk)); err != nil {
			return seq, err
		}
	}
	c := Checkpoint{Partition: p, Size: edge.size, Root: edge.Root(), Number: last.Number + 1, Page: page}
	signed, err := n.cfg.Key.signAfter(signer, c)
	if err != nil {
		return seq, fmt.Errorf("sign a checkpoint: %w", err)
	}
	if n.cfg.Memory != nil {
		if err := n.cfg.Memory.Save(p, signed); err != nil {
			return seq, fmt.Errorf("remember a checkpoint: %w", err)
		}
	}
	seq, err = n.cfg.Store.AppendCheckpoint(ctx, seq, bus.NotaryRecord{Partition: p, Page: page, Edge: edge.String(), Data: signed})
	if err != nil {
		return seq, err
	}
	if signer != n.cfg.Key.last() {
		n.cfg.Log.Info("another key signs from now on", "partition", p, "checkpoint", c.Number)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signer = n.cfg.Key.last()
	w.signed, w.pending = c, append([]Hash(nil), w.pending[len(leaves):]...)
	w.count++
	if w.since = time.Now(); len(w.pending) == 0 {
		w.since = time.Time{}
	}
	close(w.room)
	w.room = make(chan struct{})
	return seq, nil
}

// verify reads everything that was signed once.
func (n *Notary) verify(ctx context.Context) {
	cfg := ScanConfig{}
	for _, w := range n.parts {
		cfg.Partitions = append(cfg.Partitions, w.book.Partition())
	}
	for ctx.Err() == nil {
		start := time.Now()
		findings, reached, err := VerifyLive(ctx, n.cfg.Verify, cfg, NewVerifier(n.cfg.Key.Public()))
		if err == nil {
			for _, f := range findings {
				for _, w := range n.parts {
					if w.book.Partition() == f.Partition {
						n.raise(w, &Alarm{f.Partition, f.Text})
					}
				}
			}
			n.cfg.Log.Info("verified what was signed", "findings", len(findings), "partitions", reached, "took", time.Since(start).Round(time.Millisecond))
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * retryPause):
		}
	}
}
