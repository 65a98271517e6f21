package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// layoutRestoring stands in the metadata of a book, in place of the layout's
// version, from its creation until it holds all that its backup has. Open refuses
// it, and so does a program that does not know the word.
const layoutRestoring = "restoring-1"

// Beside is one message of a stream beside the book: an entry of a bucket, a
// checkpoint.
type Beside struct {
	Stream  string
	Subject string
	Header  map[string][]string // what its sender put there; nil: nothing
	Data    []byte
}

// TruthsBeside names the streams beside the book whose content does not follow
// from it, so that a backup has to hold them. first are those that speak of
// places in the book: read before the ends of the books are asked for, none of
// them speaks of a page that the backup does not have. last are the others.
func TruthsBeside() (first, last []string) {
	return []string{streamWebhooks, StreamCheckpoints}, []string{streamDirectory}
}

// EachBeside calls fn with each message that a stream beside the book held when
// EachBeside was called, in order; of a bucket, with the newest value of each key,
// as of some moment of the call, and not with what has been deleted. A key that is
// written meanwhile may come twice. It returns fn's error as it is, ErrNotCreated
// when there is no such stream. Of a bucket it has all keys in memory.
func (b *Bus) EachBeside(ctx context.Context, stream string, fn func(Beside) error) error {
	info, err := b.info(ctx, stream)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	// A bucket may hold revisions that were replaced, and values before the marker
	// that deletes them: what a crash has left there is not to be found in a backup.
	var newest map[string]uint64
	if isBucket(stream) {
		newest = map[string]uint64{}
		err := b.eachEntry(ctx, stream, info.State.LastSeq, func(e entry) error {
			newest[e.key] = e.revision
			return nil
		})
		if err != nil {
			return err
		}
	}
	return b.eachEntry(ctx, stream, info.State.LastSeq, func(e entry) error {
		if e.op != jetstream.KeyValuePut || e.revision < newest[e.key] || newest == nil && e.revision > info.State.LastSeq {
			return nil
		}
		return fn(Beside{Stream: stream, Subject: e.key, Header: sendersOwn(e.header), Data: e.value})
	})
}

func isBucket(stream string) bool { return strings.HasPrefix(stream, "KV_") }

// eachEntry calls fn with what a stream holds, in order, at least through a sequence.
func (b *Bus) eachEntry(ctx context.Context, stream string, last uint64, fn func(entry) error) error {
	r, err := (&bucket{bus: b, stream: stream}).newReader(">")
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer r.close()
	return r.through(ctx, last, func(e entry) error {
		if e.key == "" {
			return nil
		}
		return fn(e)
	})
}

// sendersOwn are the headers that the server has not added.
func sendersOwn(all nats.Header) map[string][]string {
	own := maps.Clone(map[string][]string(all))
	maps.DeleteFunc(own, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-") })
	if len(own) == 0 {
		return nil
	}
	return own
}

// Refill puts back what stood beside a book. It belongs to one goroutine.
type Refill struct {
	bus     *Bus
	buckets map[string]jetstream.KeyValue
	there   map[string]uint64 // of other streams: messages that are there already, and are passed over
}

// Refill begins to put back what stood beside a book, between BeginRestore and
// FinishRestore. What an attempt before has put there stays.
func (b *Bus) Refill(ctx context.Context) (*Refill, error) {
	r := &Refill{bus: b, buckets: map[string]jetstream.KeyValue{}, there: map[string]uint64{}}
	first, last := TruthsBeside()
	for _, stream := range append(first, last...) {
		var err error
		switch stream {
		case streamDirectory:
			r.buckets[stream], err = b.Directory(ctx)
		case streamWebhooks:
			r.buckets[stream], err = b.Webhooks(ctx)
		default:
			var info *jetstream.StreamInfo
			if info, err = b.stream(ctx, stream); err == nil {
				r.there[stream] = info.State.Msgs
			}
		}
		if err != nil {
			return nil, fmt.Errorf("refill %s: %w", stream, err)
		}
	}
	return r, nil
}

// Put stores a message in its stream: those of one stream in the order in which
// EachBeside gave them. On nil it is on disk. A stream or a subject that is none
// of a backup's is refused.
func (r *Refill) Put(ctx context.Context, m Beside) error {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	err := r.put(ctx, m)
	if err != nil {
		return fmt.Errorf("store in %s: %w", m.Stream, closedOr(err))
	}
	return nil
}

func (r *Refill) put(ctx context.Context, m Beside) error {
	if kv := r.buckets[m.Stream]; kv != nil {
		key, own := strings.CutPrefix(m.Subject, "$KV."+kv.Bucket()+".")
		if !own {
			return errors.New("the subject is another bucket's")
		}
		there, err := kv.Get(ctx, key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = kv.Create(ctx, key, m.Data)
		case err == nil && !bytes.Equal(there.Value(), m.Data):
			_, err = kv.Update(ctx, key, m.Data, there.Revision())
		}
		return err
	}
	left, known := r.there[m.Stream]
	if !known {
		return errors.New("no backup has anything of that stream")
	}
	if left > 0 {
		r.there[m.Stream]--
		return nil
	}
	_, err := r.bus.js.PublishMsg(ctx, &nats.Msg{Subject: m.Subject, Header: nats.Header(maps.Clone(m.Header)), Data: m.Data},
		jetstream.WithExpectStream(m.Stream))
	return err
}

// BeginRestore makes the streams of a book that is to be filled from a backup,
// where there is nothing, or goes on where a restore of the same layout was cut
// short. ErrExists says that there is something else, and nothing was changed.
//
// Until FinishRestore, Open refuses the books: each has the mark from its
// creation. The books come first, so that a crash here leaves the mark, or nothing
// that anybody would miss.
func (b *Bus) BeginRestore(ctx context.Context, l Layout) error {
	if l.Partitions < 1 || l.Partitions > MaxPartitions || l.Replicas < 1 || l.Replicas > 5 {
		return fmt.Errorf("begin a restore: no book has %d partitions and %d replicas", l.Partitions, l.Replicas)
	}
	ctx, cancel := context.WithTimeout(ctx, createPatience+time.Duration(l.Partitions)*time.Second)
	defer cancel()
	if err := b.checkServer(); err != nil {
		return fmt.Errorf("begin a restore: %w", err)
	}
	there, err := b.checkRestorable(ctx, l)
	if err != nil {
		return fmt.Errorf("begin a restore: %w", err)
	}
	for p := l.Partitions - 1; p >= 0; p-- {
		cfg := bookConfig(l, Partition(p))
		if there[cfg.Name] != nil {
			continue // perhaps without its mark: the end of the restore was near
		}
		cfg.Metadata[metaLayout] = layoutRestoring
		if _, err := b.js.CreateStream(ctx, cfg); err != nil {
			return fmt.Errorf("begin a restore: %s: %w", cfg.Name, err)
		}
	}
	if err := b.createBeside(ctx, l); err != nil {
		return fmt.Errorf("begin a restore: %w", err)
	}
	b.layout.Store(&l)
	return nil
}

// checkRestorable gives the books that a restore was cut short on, none where
// there is nothing, and ErrExists where there is anything else.
func (b *Bus) checkRestorable(ctx context.Context, l Layout) (map[string]*jetstream.StreamInfo, error) {
	books, err := b.books(ctx)
	if err != nil {
		return nil, err
	}
	first, marked := books[BookStream(0)], 0
	for name, info := range books {
		own, err := layoutOf(info.Config)
		switch {
		case err != nil && !errors.Is(err, ErrRestoring):
			return nil, err
		case own != l:
			return nil, fmt.Errorf("%w: %s belongs to a book of %d partitions and %d replicas", ErrExists, name, own.Partitions, own.Replicas)
		case err != nil:
			marked++
		case first == nil: // without BOOK_0 no mark has been taken away: it is the last to lose it
			return nil, fmt.Errorf("%w: %s", ErrExists, name)
		}
	}
	if first != nil {
		if _, err := layoutOf(first.Config); err == nil {
			return nil, ErrExists
		}
	}
	if marked > 0 {
		return books, nil
	}
	if err := b.checkNothingBeside(ctx, l); err != nil {
		return nil, err
	}
	users, err := b.stream(ctx, streamDirectory)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return books, nil
	}
	if err == nil && users.State.LastSeq > 0 {
		err = fmt.Errorf("%w: no book, but a directory with users", ErrExists)
	}
	return books, err
}

// metaRestored names, in the metadata of the feed's stream, the restores in the past
// of its book, each as partition/page/id, separated by spaces: the readers of the
// feed, who may not read books, tell by them one life of a book from another.
const metaRestored = "rollbook-restored"

// MarkFeed has the feed's stream name the restores in the past of its book. It
// belongs before FinishRestore: no event is published until then.
func (b *Bus) MarkFeed(ctx context.Context, restores []string) error {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	info, err := b.stream(ctx, StreamFeed)
	if err != nil {
		return fmt.Errorf("mark the feed as a restored book's: %w", err)
	}
	cfg, text := info.Config, strings.Join(restores, " ")
	if cfg.Metadata[metaRestored] == text {
		return nil
	}
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[metaRestored] = text
	if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("mark the feed as a restored book's: %w", err)
	}
	return nil
}

// FinishRestore takes the mark from the books, BOOK_0's last. The caller has seen
// that they hold what they must. A crash before the end leaves BOOK_0 marked; the
// same restore, repeated, finds nothing to add and comes here again.
func (b *Bus) FinishRestore(ctx context.Context, l Layout) error {
	ctx, cancel := context.WithTimeout(ctx, createPatience+time.Duration(l.Partitions)*time.Second)
	defer cancel()
	for p := l.Partitions - 1; p >= 0; p-- {
		info, err := b.stream(ctx, BookStream(Partition(p)))
		if err != nil {
			return fmt.Errorf("finish a restore: %w", err)
		}
		cfg := info.Config
		if cfg.Metadata[metaLayout] != layoutRestoring {
			continue
		}
		cfg.Metadata = maps.Clone(cfg.Metadata)
		cfg.Metadata[metaLayout] = layoutVersion
		if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("finish a restore: %s: %w", cfg.Name, err)
		}
	}
	return nil
}
