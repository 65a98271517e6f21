package proof

import (
	"context"
	"errors"
	"fmt"

	"rollbook/bus"
)

// Source is what is stored: the books, and what the notary has signed. *[Live] is the bus's.
type Source interface {
	// Pages calls fn with the pages after one through another, as they are there: one that is missing is left out.
	Pages(ctx context.Context, p bus.Partition, after, through uint64, fn func(page uint64, data []byte) error) error
	// End is the last page of a book.
	End(ctx context.Context, p bus.Partition) (uint64, error)
	// Checkpoints calls fn with all of the notary's messages in order, to the end as of the call.
	Checkpoints(ctx context.Context, fn func(bus.NotaryRecord) error) error
}

// Live is the source on a bus.
type Live struct{ Bus *bus.Bus }

// Pages implements [Source].
func (l *Live) Pages(ctx context.Context, p bus.Partition, after, through uint64, fn func(uint64, []byte) error) error {
	err := l.Bus.Book(p).Read(ctx, after, through, func(page bus.StoredPage) error { return fn(page.Seq, page.Data) })
	if errors.Is(err, bus.ErrGap) {
		return nil // what comes next is told by what came last
	}
	return err
}

// End implements [Source].
func (l *Live) End(ctx context.Context, p bus.Partition) (uint64, error) {
	return l.Bus.Book(p).End(ctx)
}

// Checkpoints implements [Source].
func (l *Live) Checkpoints(ctx context.Context, fn func(bus.NotaryRecord) error) error {
	return l.Bus.ReadCheckpoints(ctx, 0, fn)
}

// ScanConfig says what of a source is read.
type ScanConfig struct {
	Partitions []bus.Partition
	// From and Through bound the pages: the records begin after the last checkpoint before From, and end with the first at
	// or after Through. 0: the first page, and the end as of now.
	From, Through uint64
	// Parts stands in place of From and Through for the partitions that are in it.
	Parts map[bus.Partition]Stretch
	// Progress, unless nil, is told of each page: how many there have been, and how many there will be, by the books' ends.
	Progress func(done, total uint64)
}

// Stretch is the pages that are wanted of a partition, in ScanConfig's terms.
type Stretch struct{ From, Through uint64 }

// scan is one reading of a source.
type scan struct {
	cfg   ScanConfig
	from  Source
	begin func(base Record) error
	add   func(Record) error
	parts map[bus.Partition]*scanned
	done  uint64
	total uint64
}

type scanned struct {
	want Stretch
	end  uint64
	base *Record  // the last checkpoint before From
	held []Record // leaf hashes whose checkpoint has not come yet
	last uint64   // the last page that was read, or tried
	over bool     // the checkpoint at or after Through has come
}

// Scan reads a source in the order in which a [Verifier] takes it: the pages, the leaf hashes that the notary left, the
// checkpoint that covers them, and so on, and at last the pages that none covers. begin is told of each partition that does
// not begin with its first page. Errors are those of the source and of the two functions.
func Scan(ctx context.Context, from Source, cfg ScanConfig, begin, add func(Record) error) error {
	s := &scan{cfg: cfg, from: from, begin: begin, add: add, parts: map[bus.Partition]*scanned{}}
	for _, p := range cfg.Partitions {
		end, err := from.End(ctx, p)
		if err != nil {
			return err
		}
		want, ok := cfg.Parts[p]
		if !ok {
			want = Stretch{cfg.From, cfg.Through}
		}
		s.parts[p] = &scanned{want: want, end: end}
		s.total += end
	}
	if err := from.Checkpoints(ctx, func(r bus.NotaryRecord) error { return s.heard(ctx, r) }); err != nil {
		return err
	}
	for _, p := range cfg.Partitions {
		w := s.parts[p]
		if w.over {
			continue
		}
		if err := s.started(p, w); err != nil {
			return err
		}
		if err := s.pages(ctx, p, w, w.end); err != nil {
			return err
		}
		if err := s.flush(w); err != nil {
			return err
		}
	}
	return nil
}

// heard takes a message of the notary's. Nothing of it is believed but which page it says it is of, and that only decides
// where in the order it is given on.
func (s *scan) heard(ctx context.Context, r bus.NotaryRecord) error {
	w := s.parts[r.Partition]
	if w == nil || w.over {
		return nil
	}
	record := Record{Kind: CheckpointRecord, Partition: r.Partition, Page: r.Page, Seq: r.Seq, From: r.From, Edge: r.Edge, Data: r.Data}
	if r.Leaves {
		record.Kind = LeavesRecord
		w.held = append(w.held, record)
		return nil
	}
	page := r.Page
	if c, err := parseCheckpoint(string(r.Data)); err == nil {
		page = c.Page
	}
	if w.want.From > 0 && page < w.want.From && w.last == 0 {
		w.base, w.held = &record, nil
		return nil
	}
	if err := s.started(r.Partition, w); err != nil {
		return err
	}
	if page > w.end { // it may have been signed since the end was asked for
		end, err := s.from.End(ctx, r.Partition)
		if err != nil {
			return err
		}
		s.total += end - w.end
		w.end = end
	}
	if err := s.pages(ctx, r.Partition, w, min(page, w.end)); err != nil {
		return err
	}
	if err := s.flush(w); err != nil {
		return err
	}
	w.over = w.want.Through > 0 && page >= w.want.Through
	return s.add(record)
}

// started gives the base on, once.
func (s *scan) started(p bus.Partition, w *scanned) error {
	if w.base == nil {
		return nil
	}
	base := *w.base
	w.base, w.last = nil, base.Page
	if err := s.begin(base); err != nil {
		return fmt.Errorf("begin partition %s: %w", p, err)
	}
	return nil
}

func (s *scan) flush(w *scanned) error {
	for _, r := range w.held {
		if err := s.add(r); err != nil {
			return err
		}
	}
	w.held = nil
	return nil
}

func (s *scan) pages(ctx context.Context, p bus.Partition, w *scanned, through uint64) error {
	if through <= w.last {
		return nil
	}
	after := w.last
	w.last = through
	return s.from.Pages(ctx, p, after, through, func(page uint64, data []byte) error {
		if s.done++; s.cfg.Progress != nil {
			s.cfg.Progress(s.done, s.total)
		}
		return s.add(Record{Kind: PageRecord, Partition: p, Page: page, Data: data})
	})
}

// VerifyLive verifies what a source holds. Errors are the source's: what is wrong with the records is a finding.
func VerifyLive(ctx context.Context, from Source, cfg ScanConfig, v *Verifier) (findings []Finding, reached []Verified, err error) {
	for _, p := range cfg.Partitions {
		v.part(p)
	}
	err = Scan(ctx, from, cfg,
		func(base Record) error { v.Begin(base); return nil },
		func(r Record) error { v.Add(r); return nil })
	if err != nil {
		return nil, nil, err
	}
	findings, reached = v.End()
	return findings, reached, nil
}
