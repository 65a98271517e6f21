package projections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// restore begins a partition with the newest good snapshot, when every model can; otherwise, and when there is none, with
// the first page. The position moves when all models hold the state, and not before.
func (f *Follower) restore(ctx context.Context, p *part) error {
	if p.position() > 0 {
		return nil
	}
	var models []Restorer
	for _, model := range f.cfg.Models {
		m, can := model.(Restorer)
		if !can {
			return nil
		}
		models = append(models, m)
	}
	start := time.Now()
	var state *session.State
	var from bus.Snapshot
	var at bus.StoredPage
	for {
		var err error
		from, at, err = p.book.Restore(ctx, session.SnapshotVersion, func(chunks iter.Seq2[[]byte, error]) (err error) {
			state, err = session.ReadSnapshot(session.Policies{}, chunks) // policies shape new events, and none is made here
			return err
		})
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		f.cfg.Log.Warn("the book can not be read, trying on", "partition", p.book.Partition(), "err", err) // some seconds apart
	}
	if from.Page == 0 {
		return nil
	}
	raw, err := bus.DecodePage(at.Data)
	if err != nil {
		return fmt.Errorf("page %d: %w", at.Seq, err)
	}
	page := Page{Partition: p.book.Partition(), Seq: at.Seq, Time: session.Instant(raw.Time)}
	for _, model := range models {
		if err := model.Restore(page, state); err != nil {
			return fmt.Errorf("the snapshot of page %d: %s: %w", at.Seq, model.Name(), err)
		}
	}
	p.move(page)
	f.cfg.Log.Info("began with a snapshot", "partition", p.book.Partition(), "page", at.Seq, "sessions", state.Sessions(),
		"took", time.Since(start).Round(time.Millisecond))
	return nil
}
