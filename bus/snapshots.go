package bus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A snapshot is chunks in one of a partition's two slots, and an entry in the
// partition's list, one message that is written last. Whoever writes takes the
// slot that the snapshot it started from is not in: a crash at any moment leaves
// that one whole and listed. Whoever reads checks everything against the entry,
// and the entry against the book. Chunks of an older, longer snapshot stay in
// their slot unlisted, so that the stream takes at most twice the longest.
//
// It is a plain stream and not an object store, whose reader makes consumers:
// a pod has no right to.

// chunkPatience is how long the acknowledgement of one chunk is awaited.
const chunkPatience = 10 * time.Second

// listVersion is the form of the list. Another one is passed over, as if there were none.
const listVersion = 1

// Snapshot is an entry of a partition's list: what a snapshot holds, and where.
type Snapshot struct {
	Format   uint64    `json:"format"`      // of the content: the business of those who write and read it
	Page     uint64    `json:"page"`        // all pages through this one are in it
	PageHash string    `json:"page_sha256"` // of that page's stored bytes, in hex: which book it is of
	Epoch    uint64    `json:"epoch"`       // of that page
	Events   uint64    `json:"events"`      // in the book through that page
	Sessions uint64    `json:"sessions"`    // live after that page
	Written  time.Time `json:"written"`     // the wall clock of its writer
	Slot     int       `json:"slot"`
	Chunks   int       `json:"chunks"`
	Bytes    int64     `json:"bytes"`  // of all chunks
	Hash     string    `json:"sha256"` // of all chunks, in hex
}

// snapshotList is the message that lists a partition's snapshots, the newest first.
type snapshotList struct {
	Version   int             `json:"version"`
	Snapshots json.RawMessage `json:"snapshots"`
	Sum       string          `json:"sha256"` // of the two above as they stand here, in hex
}

func (l *snapshotList) sum() string { return hexSum(fmt.Appendf(nil, "%d %s", l.Version, l.Snapshots)) }

// Snapshots lists the snapshots of the partition, the newest first. It looks at
// the list alone. There are none, without an error, when none was ever written;
// ErrNotCreated when nothing answers for the stream, ErrDamagedSnapshot when the
// list is not as it was written.
func (k *Book) Snapshots(ctx context.Context) ([]Snapshot, error) {
	list, _, err := k.snapshotList(ctx)
	return list, err
}

// snapshotList gives the list and its sequence, 0 when there is none. The
// sequence is given beside ErrDamagedSnapshot too.
func (k *Book) snapshotList(ctx context.Context) ([]Snapshot, uint64, error) {
	m, err := k.bus.lastOf(ctx, StreamSnapshots, SnapshotSubject(k.p))
	if err != nil || m == nil {
		return nil, 0, err
	}
	seq, _ := headerUint(m, headerSequence)
	var raw snapshotList
	var list []Snapshot
	if err := json.Unmarshal(m.Data, &raw); err != nil {
		return nil, seq, fmt.Errorf("%w: the list: %w", ErrDamagedSnapshot, err)
	}
	if raw.sum() != raw.Sum {
		return nil, seq, fmt.Errorf("%w: the list's checksum does not match", ErrDamagedSnapshot)
	}
	if raw.Version > listVersion {
		return nil, seq, fmt.Errorf("%w: the list has version %d", ErrNewerSnapshot, raw.Version)
	}
	if err := json.Unmarshal(raw.Snapshots, &list); err != nil {
		return nil, seq, fmt.Errorf("%w: the list: %w", ErrDamagedSnapshot, err)
	}
	return list, seq, nil
}

// Restore gives the newest good snapshot of the given format to read, which
// takes its chunks in order. It returns the entry, and the page of its position
// as it stands in the book; a zero Snapshot when none is good, and then the book
// is read from its first page.
//
// A snapshot is passed over, with one line in the log, when it is of another
// format or another book, lies beyond the end of this one, is damaged, or read
// returns an error; read may so be called again, with another one. The chunks
// are only known to be good when their sequence has ended without an error. What
// Restore returns as an error is the book's: it can not be read at all.
func (k *Book) Restore(ctx context.Context, format uint64, read func(chunks iter.Seq2[[]byte, error]) error) (Snapshot, StoredPage, error) {
	return k.RestoreThrough(ctx, format, math.MaxUint64, read)
}

// RestoreThrough is Restore of the snapshots that hold no page after the given one.
func (k *Book) RestoreThrough(ctx context.Context, format, through uint64, read func(chunks iter.Seq2[[]byte, error]) error) (Snapshot, StoredPage, error) {
	list, err := k.Snapshots(ctx)
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return Snapshot{}, StoredPage{}, fmt.Errorf("find a snapshot: %w", err)
		}
		k.bus.log.Warn("no snapshot can be had, the book is read from its first page", "partition", k.p.String(), "error", err)
		return Snapshot{}, StoredPage{}, nil
	}
	list = slices.DeleteFunc(list, func(s Snapshot) bool { return s.Page > through })
	if len(list) == 0 {
		return Snapshot{}, StoredPage{}, nil
	}
	end, err := k.End(ctx)
	if err != nil {
		return Snapshot{}, StoredPage{}, err
	}
	for _, s := range list {
		page, bad, err := k.tryRestore(ctx, s, format, end, read)
		if err != nil {
			return Snapshot{}, StoredPage{}, fmt.Errorf("restore a snapshot: %w", err)
		}
		if bad == nil {
			return s, page, nil
		}
		k.bus.log.Warn("a snapshot is passed over", "partition", k.p.String(), "page", s.Page, "error", bad)
	}
	return Snapshot{}, StoredPage{}, nil
}

// tryRestore reads one snapshot. bad is why it is of no use, err why nothing is.
func (k *Book) tryRestore(ctx context.Context, s Snapshot, format, end uint64, read func(iter.Seq2[[]byte, error]) error) (page StoredPage, bad, err error) {
	switch {
	case s.Format != format:
		return page, fmt.Errorf("it has format %d, and this program reads %d", s.Format, format), nil
	case s.Page == 0 || s.Page > end:
		return page, fmt.Errorf("it is of page %d, and the book ends at %d", s.Page, end), nil
	}
	err = k.Read(ctx, s.Page-1, s.Page, func(p StoredPage) error {
		page = p
		return nil
	})
	if err != nil {
		return page, nil, err
	}
	if hexSum(page.Data) != s.PageHash {
		return page, errors.New("it is of another book: the page of its position differs"), nil
	}
	whole := false
	bad = read(k.chunks(ctx, s, &whole))
	if bad == nil && !whole {
		bad = errors.New("it was not read to its end")
	}
	if bad != nil && (ctx.Err() != nil || errors.Is(bad, ErrClosed)) {
		return page, nil, bad
	}
	return page, bad, nil
}

// chunks are a snapshot's. The last thing they give is an error when they were
// not what the entry says; whole says that they were.
func (k *Book) chunks(ctx context.Context, s Snapshot, whole *bool) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		sum, bytes := sha256.New(), int64(0)
		for n := range s.Chunks {
			m, err := k.bus.lastOf(ctx, StreamSnapshots, SnapshotChunkSubject(k.p, s.Slot, n))
			if err == nil && m == nil {
				err = fmt.Errorf("%w: chunk %d of %d is missing", ErrDamagedSnapshot, n, s.Chunks)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			sum.Write(m.Data)
			bytes += int64(len(m.Data))
			if !yield(m.Data, nil) {
				return
			}
		}
		if bytes != s.Bytes || hex.EncodeToString(sum.Sum(nil)) != s.Hash {
			yield(nil, fmt.Errorf("%w: the checksum does not match", ErrDamagedSnapshot))
			return
		}
		*whole = true
	}
}

// WriteSnapshot stores the chunks that fill puts as the newest snapshot: of the
// state after the given page. Of the entry the caller gives the format, the
// epoch, the numbers and the time. from is the snapshot that it was made from, which stays; zero
// when there was none. On nil it is on disk, and the entry is returned. Another
// writer of snapshots is noticed at the end: ErrConflict.
func (k *Book) WriteSnapshot(ctx context.Context, s, from Snapshot, at StoredPage, fill func(put func(chunk []byte) error) error) (Snapshot, error) {
	list, seq, err := k.snapshotList(ctx)
	if err != nil && !errors.Is(err, ErrDamagedSnapshot) { // a damaged list is replaced
		return Snapshot{}, fmt.Errorf("write a snapshot: %w", err)
	}
	if slices.ContainsFunc(list, func(old Snapshot) bool { return old.Format > s.Format }) {
		return Snapshot{}, fmt.Errorf("write a snapshot: %w", ErrNewerSnapshot)
	}
	keep := slices.Contains(list, from)
	if from != (Snapshot{}) && !keep {
		return Snapshot{}, fmt.Errorf("write a snapshot: %w: others were listed meanwhile", ErrConflict)
	}
	s.Page, s.PageHash, s.Slot, s.Chunks, s.Bytes = at.Seq, hexSum(at.Data), 0, 0, 0
	if keep {
		s.Slot = 1 - from.Slot
	}
	sum := sha256.New()
	err = fill(func(chunk []byte) error {
		if err := k.publish(ctx, SnapshotChunkSubject(k.p, s.Slot, s.Chunks), chunk); err != nil {
			return err
		}
		sum.Write(chunk)
		s.Chunks++
		s.Bytes += int64(len(chunk))
		return nil
	})
	if err != nil {
		return Snapshot{}, fmt.Errorf("write a snapshot: %w", err)
	}
	s.Hash, s.Written = hex.EncodeToString(sum.Sum(nil)), s.Written.UTC().Round(0)
	list = []Snapshot{s}
	if keep {
		list = append(list, from)
	}
	data, err := encodeList(list)
	if err == nil {
		err = k.publish(ctx, SnapshotSubject(k.p), data, jetstream.WithExpectLastSequencePerSubject(seq))
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("list a snapshot: %w", err)
	}
	return s, nil
}

func encodeList(list []Snapshot) ([]byte, error) {
	raw, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	l := snapshotList{Version: listVersion, Snapshots: raw}
	l.Sum = l.sum()
	return json.Marshal(l)
}

// publish stores one message of a snapshot.
func (k *Book) publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) error {
	ctx, cancel := context.WithTimeout(ctx, chunkPatience)
	defer cancel()
	_, err := k.bus.js.Publish(ctx, subject, data, append(opts, jetstream.WithExpectStream(StreamSnapshots))...)
	var refused *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && (refused.ErrorCode == codeWrongLastSequence || refused.ErrorCode == codeSequenceInFlight):
		return fmt.Errorf("%w: another snapshot was listed meanwhile", ErrConflict)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%s: %w: %w", StreamSnapshots, ErrNotCreated, err)
	}
	return closedOr(err)
}

// lastOf is the newest message of a subject, by direct get, so that no right to
// make consumers is needed; nil when there is none. Any replica may answer: the
// message may be an older one.
func (b *Bus) lastOf(ctx context.Context, stream, subject string) (*nats.Msg, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	pause := retryPauseFirst
	for range maxSilentRounds {
		var m *nats.Msg
		if m, err = b.request(ctx, apiDirectGet+stream, request); err == nil {
			switch status := headerOf(m, headerStatus); status {
			case "":
				return m, nil
			case statusNoMessage:
				return nil, nil
			default:
				return nil, fmt.Errorf("read %s: the server refused with status %s", stream, status)
			}
		}
		if errors.Is(err, ErrNotPermitted) {
			return nil, fmt.Errorf("read %s: %w", stream, err)
		}
		if errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return nil, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, retryPauseLast)
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("read %s: %w: %w", stream, ErrNotCreated, err)
	}
	return nil, fmt.Errorf("read %s: %w: %w", stream, ErrUnreachable, err)
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
