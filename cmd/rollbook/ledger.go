package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/resources"
)

// ledger is the book as of one moment, folded by an operator's command.
type ledger struct {
	states    []*session.State // one a partition
	resources *resources.Index
}

// readLedger reads every partition to its end as of now, as its stream's leader knows it: from its newest good snapshot,
// or from its first page.
func readLedger(ctx context.Context, b *bus.Bus, partitions int) (*ledger, error) {
	l := &ledger{resources: resources.New()}
	for p := range bus.Partition(partitions) {
		if err := l.read(ctx, b.Book(p)); err != nil {
			return nil, fmt.Errorf("read the book of partition %s: %w", p, err)
		}
	}
	return l, nil
}

func (l *ledger) read(ctx context.Context, book *bus.Book) error {
	// The policies shape new events alone, and none is made here.
	var state *session.State
	from, _, err := book.Restore(ctx, session.SnapshotVersion, func(chunks iter.Seq2[[]byte, error]) (err error) {
		state, err = session.ReadSnapshot(session.DefaultPolicies(), chunks)
		return err
	})
	if err != nil {
		return err
	}
	if from.Page == 0 {
		state = session.NewState(session.DefaultPolicies())
	}
	l.states = append(l.states, state)
	if err := l.resources.Restore(projections.Page{Partition: book.Partition(), Seq: from.Page}, state); err != nil {
		return err
	}
	end, err := book.End(ctx)
	if err != nil {
		return err
	}
	return book.Read(ctx, from.Page, end, func(stored bus.StoredPage) error {
		page, err := projections.DecodePage(book.Partition(), stored)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			state.Apply(e)
		}
		return l.resources.Apply(page)
	})
}

// user is the standing of a registered user.
func (l *ledger) user(id session.UserID) (session.Standing, bool) {
	return l.states[bus.PartitionOf(string(id), len(l.states))].User(id)
}

// sessions lists the sessions that are live at now, the oldest first. The writer ends expired ones when it gets to
// them; until then they count as ended here.
func (l *ledger) sessions(now session.Instant) []session.Session {
	var list []session.Session
	for _, state := range l.states {
		state.EachSession(func(s session.Session) {
			if now < s.Deadline() {
				list = append(list, s)
			}
		})
	}
	slices.SortFunc(list, func(a, b session.Session) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list
}
