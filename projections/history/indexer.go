package history

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// IndexerConfig is what an indexer stands on. All fields are required but those that say what zero means.
type IndexerConfig struct {
	Book Book
	// Writing says whether the writer of this process writes the partition. Lists are made while it does: two processes
	// that make them do no harm, and double the work.
	Writing func() bool
	// Every is how many events a chunk of lists is made for. What is younger is read from the book by whoever asks. Zero:
	// 50,000.
	Every   int
	Log     *slog.Logger
	Metrics *Metrics // nil: nobody looks
}

const (
	// indexLook is how often an indexer looks for new pages.
	indexLook = time.Second
	// mostPages makes a chunk due where pages have few events: reading a page costs more than its events do.
	mostPages = 10_000
	// workSlice, restFor and restMost make an indexer rest, and readPages is how many pages it asks for at a time: as
	// engine.Snapshotter does, for the same reasons.
	workSlice = time.Millisecond
	restFor   = 9
	restMost  = time.Second
	readPages = 32
)

// Indexer makes the lists of one partition, off the writer's path.
type Indexer struct {
	cfg IndexerConfig

	// Owned by Run.
	known   bool // mark is what is stored, as far as this process knows
	mark    mark // the zero generation: there is no index yet
	chunk   chunk
	told    string // the trouble that the log says already
	working time.Time
}

// chunk is what has been read of the book since the mark, and is not stored yet.
type chunk struct {
	last   uint64            // the last page in it
	hash   [sha256.Size]byte // of that page
	events int
	pages  map[userKey][]uint64
}

// NewIndexer makes an indexer; it starts nothing.
func NewIndexer(cfg IndexerConfig) *Indexer {
	if cfg.Every <= 0 {
		cfg.Every = 50_000
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	return &Indexer{cfg: cfg}
}

// Run reads the pages as they are written and stores a chunk of lists whenever one is due, until ctx ends, and returns
// ctx's error. What it cannot store it makes again, from the mark on.
func (x *Indexer) Run(ctx context.Context) error {
	look := time.NewTicker(indexLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if !x.cfg.Writing() {
			x.known, x.chunk = false, chunk{} // another process may make lists meanwhile
			continue
		}
		err := x.extend(ctx, false)
		if err == nil || ctx.Err() != nil {
			continue
		}
		x.known, x.chunk = false, chunk{}
		x.cfg.Metrics.failed(x.cfg.Book.Partition())
		if err.Error() != x.told { // else the same again
			x.told = err.Error()
			x.cfg.Log.Warn("the history index does not grow", "partition", x.cfg.Book.Partition(), "err", err)
		}
	}
}

// Extend makes the lists of all that the book holds as of now, due or not. Not while Run runs.
func (x *Indexer) Extend(ctx context.Context) error { return x.extend(ctx, true) }

// extend reads to the end of the book and stores each chunk that is full; with all, also the last.
func (x *Indexer) extend(ctx context.Context, all bool) error {
	x.working = time.Now()
	if !x.known {
		if err := x.discover(ctx); err != nil {
			return err
		}
	}
	end, err := x.cfg.Book.End(ctx)
	if err != nil {
		return err
	}
	for x.chunk.last < end {
		through := min(x.chunk.last+readPages, end)
		if err := x.cfg.Book.Read(ctx, x.chunk.last, through, x.take); err != nil {
			return err
		}
		full := x.chunk.events >= x.cfg.Every || x.chunk.last-x.mark.through >= mostPages
		if full || all && x.chunk.last == end {
			if err := x.store(ctx); err != nil {
				return err
			}
		}
		if err := x.rest(ctx); err != nil {
			return err
		}
	}
	x.cfg.Metrics.at(x.cfg.Book.Partition(), x.mark.through, end)
	return nil
}

// discover finds out how far the lists go. Lists that are not of this book are left where they are, and a new index begun.
func (x *Indexer) discover(ctx context.Context) error {
	found, err := goodMark(ctx, x.cfg.Book)
	if err != nil && !errors.Is(err, errNoIndex) {
		return err
	}
	if err != nil {
		x.cfg.Log.Debug("a history index is begun", "partition", x.cfg.Book.Partition(), "because", err)
		rand.Read(found.gen[:]) // it never fails
	}
	x.mark, x.known = found, true
	x.chunk = chunk{last: found.through, pages: map[userKey][]uint64{}}
	return nil
}

// errNoIndex says why there are no lists of use.
var errNoIndex = errors.New("no index")

// goodMark is the mark of the lists, when it is whole and of this book; else errNoIndex.
func goodMark(ctx context.Context, book Book) (mark, error) {
	data, err := book.HistoryMark(ctx)
	if err != nil {
		return mark{}, err
	}
	if data == nil {
		return mark{}, fmt.Errorf("%w: there was none", errNoIndex)
	}
	m, err := decodeMark(data)
	if err != nil {
		return mark{}, fmt.Errorf("%w: %w", errNoIndex, err)
	}
	end, err := book.End(ctx)
	if err != nil {
		return mark{}, err
	}
	if m.through == 0 || m.through > end {
		return mark{}, fmt.Errorf("%w: it goes to page %d of %d", errNoIndex, m.through, end)
	}
	same := false
	err = book.Read(ctx, m.through-1, m.through, func(page bus.StoredPage) error {
		same = sha256.Sum256(page.Data) == m.hash
		return nil
	})
	if err == nil && !same {
		return mark{}, fmt.Errorf("%w: it is of another book: page %d differs", errNoIndex, m.through)
	}
	return m, err
}

// take notes who is on a page.
func (x *Indexer) take(stored bus.StoredPage) error {
	p, err := open(stored)
	if err != nil {
		return err
	}
	for i, data := range p.events {
		user, err := session.Whose(data)
		if err != nil {
			return fmt.Errorf("event %d of page %d: %w", i, p.seq, err)
		}
		key := keyOf(user)
		if pages := x.chunk.pages[key]; len(pages) == 0 || pages[len(pages)-1] != p.seq {
			x.chunk.pages[key] = append(pages, p.seq)
		}
	}
	x.chunk.last, x.chunk.hash = p.seq, sha256.Sum256(stored.Data)
	x.chunk.events += len(p.events)
	return nil
}

// store writes the chunk: a list for each bucket, and then the mark. A crash before the mark leaves lists that are made
// again, over a run that begins alike and may end elsewhere.
func (x *Indexer) store(ctx context.Context) error {
	next := mark{x.mark.gen, x.chunk.last, x.chunk.hash}
	lists := make([]list, bus.HistoryBuckets)
	for i := range lists {
		lists[i] = list{next.gen, span{x.mark.through, next.through}, map[userKey][]uint64{}}
	}
	for key, pages := range x.chunk.pages {
		lists[key.bucket()].pages[key] = pages
	}
	for bucket, l := range lists {
		if err := x.cfg.Book.PutHistory(ctx, bucket, l.encode()); err != nil {
			return err
		}
		if err := x.rest(ctx); err != nil {
			return err
		}
	}
	if err := x.cfg.Book.PutHistoryMark(ctx, next.encode()); err != nil {
		return err
	}
	x.mark, x.chunk, x.told = next, chunk{last: next.through, pages: map[userKey][]uint64{}}, ""
	return nil
}

// rest makes a long job rest.
func (x *Indexer) rest(ctx context.Context) error {
	worked := time.Since(x.working)
	if worked < workSlice {
		return nil
	}
	timer := time.NewTimer(min(restFor*worked, restMost))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	x.working = time.Now()
	return nil
}
