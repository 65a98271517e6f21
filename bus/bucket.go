package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bucketPoll is how often a watch looks for changes that it was not told of.
const bucketPoll = time.Second

// bucket is a key-value bucket that is read without consumers. The client
// library's watch makes a push consumer, and whoever may make one may have the
// server publish what the bucket holds to any subject of the account: into a
// book, past the fence. Read by direct get, a bucket needs no such right.
//
// What the library does by way of a watch of its own (Keys, ListKeys, History)
// still makes consumers; nothing here uses it.
type bucket struct {
	jetstream.KeyValue
	bus    *Bus
	stream string
	prefix string // of the subjects that keys stand in
	erases bool   // what is replaced or deleted is overwritten on the disk: bucketerase.go
	bell   string // the subject below which the server names each change; "" when it does not
}

func (b *Bus) bucket(ctx context.Context, name, bell string) (*bucket, error) {
	kv, err := b.js.KeyValue(ctx, name)
	if err != nil {
		return nil, err
	}
	return &bucket{KeyValue: kv, bus: b, stream: "KV_" + name, prefix: "$KV." + name + ".", bell: bell}, nil
}

// name is the bucket's name, or the stream's when it is none.
func (k *bucket) name() string { return strings.TrimPrefix(k.stream, "KV_") }

// PurgeDeletes removes the markers of all deleted keys, whatever their age: the
// options can not be read outside the library. A key that is written meanwhile
// keeps its value. A bucket that erases has the markers overwritten, because their
// keys may say something, and whatever a crash has left behind newer revisions.
func (k *bucket) PurgeDeletes(ctx context.Context, _ ...jetstream.KVPurgeOpt) error {
	var markers []entry
	newest := map[string]uint64{}
	if err := k.all(ctx, jetstream.AllKeys, func(e entry) {
		newest[e.key] = e.revision
		if e.op != jetstream.KeyValuePut || k.erases {
			markers = append(markers, e)
		}
	}); err != nil {
		return err
	}
	s, err := k.bus.js.Stream(ctx, k.stream)
	if err != nil {
		return err
	}
	for _, e := range markers { // in the order of their revisions: no marker goes before what it covers
		if k.erases {
			if e.op != jetstream.KeyValuePut || e.revision < newest[e.key] {
				if err := k.erase(ctx, e.revision); err != nil {
					return fmt.Errorf("erase markers in the bucket %s: %w", k.Bucket(), err)
				}
			}
			continue
		}
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(k.prefix+e.key), jetstream.WithPurgeSequence(e.revision+1)); err != nil {
			return err
		}
	}
	return nil
}

// all calls fn with every entry of the pattern that the bucket held when all was
// called, as its stream's leader knows it, deleted keys included.
func (k *bucket) all(ctx context.Context, pattern string, fn func(entry)) error {
	info, err := k.bus.info(ctx, k.stream)
	if err != nil {
		return err
	}
	r, err := k.newReader(pattern)
	if err != nil {
		return err
	}
	defer r.close()
	return r.through(ctx, info.State.LastSeq, func(e entry) error {
		if e.key != "" {
			fn(e)
		}
		return nil
	})
}

// entry is one revision of one key. Without a key it says that nothing else of
// the pattern is there up to its revision any more: what stood there was removed
// with its marker.
type entry struct {
	bucket   string
	key      string
	value    []byte
	revision uint64
	created  time.Time
	delta    uint64
	op       jetstream.KeyValueOp
	header   nats.Header // as the server sent it
}

func (e entry) Bucket() string                  { return e.bucket }
func (e entry) Key() string                     { return e.key }
func (e entry) Value() []byte                   { return e.value }
func (e entry) Revision() uint64                { return e.revision }
func (e entry) Created() time.Time              { return e.created }
func (e entry) Delta() uint64                   { return e.delta }
func (e entry) Operation() jetstream.KeyValueOp { return e.op }

// bucketReader reads a bucket's entries in the order of their revisions.
type bucketReader struct {
	bucket  *bucket
	filter  string
	batches *batches
	last    uint64 // all of the filter up to here has been read
}

func (k *bucket) newReader(pattern string) (*bucketReader, error) {
	g, err := k.bus.newBatches()
	if err != nil {
		return nil, err
	}
	return &bucketReader{bucket: k, filter: k.prefix + pattern, batches: g}, nil
}

func (r *bucketReader) close() { r.batches.close() }

// through reads on to the end as the answering server knows it, and at least to
// the given revision: whoever names one has it from the stream's leader.
func (r *bucketReader) through(ctx context.Context, atLeast uint64, fn func(entry) error) error {
	pause, failed := retryPauseFirst, false
	for {
		before := r.last
		pending, err := r.batch(ctx, fn)
		switch {
		case err == nil && pending == 0 && r.last >= atLeast:
			return nil
		case err != nil && !errors.Is(err, errNoAnswer) || errors.Is(err, ErrClosed):
			return err
		case r.last > before:
			pause, failed = retryPauseFirst, false
			continue
		case err == nil:
			// The answering server lags, or what stood last is gone. The leader knows.
			var gone bool
			if gone, err = r.nothingNext(ctx); gone {
				r.last = atLeast
				return fn(entry{bucket: r.bucket.name(), revision: atLeast, op: jetstream.KeyValuePurge})
			}
		}
		if errors.Is(err, ErrNotPermitted) {
			return err
		}
		if err != nil && !failed {
			failed = true
			r.bucket.bus.log.Warn("a bucket can not be read, trying on", "bucket", r.bucket.name(), "after", r.last)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, retryPauseLast)
	}
}

// batch reads as many entries as one answer holds.
func (r *bucketReader) batch(ctx context.Context, fn func(entry) error) (pending uint64, err error) {
	request := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q,"batch":%d,"max_bytes":%d}`, r.last+1, r.filter, batchPages, batchBytes)
	return r.batches.ask(ctx, r.bucket.stream, request, func(m *nats.Msg) error {
		e, err := r.bucket.entry(m)
		if err != nil {
			return err
		}
		if e.revision <= r.last {
			return nil
		}
		if err := fn(e); err != nil {
			return err
		}
		r.last = e.revision
		return nil
	})
}

// nothingNext asks the stream's leader whether anything of the filter stands
// after what was read.
func (r *bucketReader) nothingNext(ctx context.Context) (bool, error) {
	request := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, r.last+1, r.filter)
	msg, err := r.bucket.bus.request(ctx, apiMessageGet+r.bucket.stream, request)
	if err != nil {
		return false, err
	}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return false, fmt.Errorf("read the leader's answer about %s: %w", r.bucket.stream, err)
	}
	switch {
	case answer.Error == nil:
		return false, nil
	case answer.Error.ErrCode == codeNoMessage:
		return true, nil
	}
	return false, answer.Error
}

// entry reads one message of the bucket's stream.
func (k *bucket) entry(m *nats.Msg) (entry, error) {
	seq, ok := headerUint(m, headerSequence)
	at, err := time.Parse(time.RFC3339Nano, headerOf(m, headerTimeStamp))
	key, own := strings.CutPrefix(headerOf(m, headerSubject), k.prefix)
	if !ok || err != nil || !own {
		return entry{}, fmt.Errorf("read %s: an entry without its key, sequence or time", k.stream)
	}
	pending, _ := headerUint(m, headerNumPending)
	e := entry{bucket: k.name(), key: key, header: m.Header, value: m.Data, revision: seq, created: at, delta: pending, op: jetstream.KeyValuePut}
	switch headerOf(m, headerKVOperation) {
	case "DEL":
		e.op = jetstream.KeyValueDelete
	case "PURGE":
		e.op = jetstream.KeyValuePurge
	}
	if headerOf(m, headerMarkerReason) != "" { // the server's own marker, of an age limit or a purge
		e.op = jetstream.KeyValuePurge
	}
	return e, nil
}
