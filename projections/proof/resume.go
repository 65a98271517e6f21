package proof

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// resume takes the edge of the last checkpoint. seq is its place in the stream.
func (n *Notary) resume(ctx context.Context, w *notarized) (seq uint64, err error) {
	p := w.book.Partition()
	last, err := n.cfg.Store.LastCheckpoint(ctx, p)
	if err != nil {
		return 0, err
	}
	var c Checkpoint
	var edge Edge
	signer := 0
	if last.Seq > 0 {
		var by []int
		if c, edge, by, err = n.cfg.Key.Public().openRecord(last); err != nil {
			return 0, &Alarm{p, "the last checkpoint that is stored: " + err.Error()}
		}
		if n.cfg.Key.Public().strange(p, last.Data) {
			return 0, &Alarm{p, fmt.Sprintf("checkpoint %d was handed over to a key that this notary does not have", c.Number)}
		}
		signer = slices.Max(by)
		end, err := w.book.End(ctx)
		if err != nil {
			return 0, err
		}
		if c.Page > end {
			return 0, &Alarm{p, fmt.Sprintf("checkpoint %d is of page %d, and the book ends at page %d: pages were lost, or it is another book", c.Number, c.Page, end)}
		}
	}
	if !n.cfg.Key.signs(signer) {
		return 0, &Alarm{p, fmt.Sprintf("after checkpoint %d a key has to hand over whose private half is gone", c.Number)}
	}
	floor, err := n.remembered(ctx, w, c)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Size < w.signed.Size {
		// A replica may be behind by moments, and then the fence refuses what would be signed; here it is only less work.
		return 0, fmt.Errorf("the last checkpoint that is stored is %d, and %d was signed: waiting for it", c.Number, w.signed.Number)
	}
	if c.Size == w.signed.Size && c.Root != w.signed.Root && c.Size > 0 {
		return 0, &Alarm{p, fmt.Sprintf("checkpoint %d that is stored is not the one that was signed", c.Number)}
	}
	w.edge, w.page, w.pending, w.signed, w.signer, w.since, w.floor = edge, c.Page, nil, c, signer, time.Time{}, floor
	return last.Seq, nil
}

// remembered is what this notary signed beyond the last stored checkpoint c: it was not stored, or the bus has lost it.
func (n *Notary) remembered(ctx context.Context, w *notarized, c Checkpoint) (*Checkpoint, error) {
	p := w.book.Partition()
	if n.cfg.Memory == nil {
		return nil, nil
	}
	signed, err := n.cfg.Memory.Load(p)
	if err != nil || signed == nil {
		return nil, err
	}
	m, err := n.cfg.Key.Public().Open(p, signed)
	switch {
	case err != nil:
		return nil, &Alarm{p, "what the notary remembers: " + err.Error()}
	case m.Size == c.Size && m.Root != c.Root:
		return nil, &Alarm{p, fmt.Sprintf("checkpoint %d that is stored is not the one that this notary signed", c.Number)}
	case m.Size <= c.Size:
		return nil, nil
	}
	end, err := w.book.End(ctx)
	if err != nil {
		return nil, err
	}
	if end < m.Page {
		return nil, &Alarm{p, fmt.Sprintf("this notary signed page %d, and the book ends at page %d: pages were lost", m.Page, end)}
	}
	return &m, nil
}
