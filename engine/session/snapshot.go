package session

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// A snapshot is a whole state in bytes: a short cut past the events that led there, and never the truth. Its bytes are
// records, each [kind, length, msgpack array of its fields] with the two numbers as varints, and its chunks are whole
// records. The head comes first and the end, which counts the records, last. After a user come that user's live
// sessions, the oldest first, and open one-time tokens, and after a session the tokens it spent, so that none of these
// names its owner again. Equal
// states have equal bytes.
//
// Unlike an event, a record that lacks a field, or has one more, is refused, and so is every other version: whoever
// cannot read a snapshot reads the book, which takes longer and is as good. So a field that Decide or a pod comes to need
// raises SnapshotVersion, and so does a new meaning of an old one; golden bytes hold that.

// SnapshotVersion is the form in which this program writes snapshots, and the only one that it reads.
const SnapshotVersion = 1

// SnapshotChunk is how many bytes a chunk of a snapshot has at the most, unless one record alone has more.
const SnapshotChunk = 128 << 10

// snapshotWriter gathers records into chunks.
type snapshotWriter struct {
	emit    func([]byte) error
	chunk   []byte
	record  []byte
	records uint64
	err     error // the first that emit gave; nothing is emitted after it
}

// Snapshot gives the whole state to emit, chunk by chunk. A chunk is emit's for the length of the call alone. An error of
// emit ends it and is given back.
func (s *State) Snapshot(emit func(chunk []byte) error) error {
	w := &snapshotWriter{emit: emit, chunk: make([]byte, 0, SnapshotChunk)}
	w.put(recordHead, &headRecord{SnapshotVersion, s.clock})
	for _, id := range slices.Sorted(maps.Keys(s.users)) {
		if w.user(id, s.users[id]); w.err != nil {
			return w.err
		}
	}
	for _, e := range s.endingsInOrder() {
		w.put(recordEnded, &endedRecord{e, s.ended[e.id]})
	}
	for _, nonce := range s.used {
		w.put(recordNonce, &nonceRecord{nonce, s.nonces[nonce]})
	}
	for _, one := range s.strangers {
		w.put(recordStranger, &strangerRecord{one})
	}
	for _, name := range s.defined {
		r := s.resources[name]
		w.put(recordResource, &r)
	}
	for _, venue := range slices.Sorted(maps.Keys(s.lifetimes)) {
		w.put(recordLifetimes, &lifetimesRecord{venue, s.lifetimes[venue]})
	}
	w.put(recordEnd, &endRecord{w.records})
	w.flush()
	return w.err
}

func (w *snapshotWriter) user(id UserID, u *user) {
	w.put(recordUser, &userRecord{id, *u})
	for _, l := range u.sessions {
		w.put(recordSession, l)
		for keys := range slices.Chunk(l.older, maxSpentKeys) {
			w.put(recordSpent, &spentRecord{keys})
		}
	}
	for _, t := range u.open {
		w.put(recordOneTime, t)
	}
}

func (w *snapshotWriter) put(kind uint64, record fielder) {
	if w.err != nil {
		return
	}
	w.records++
	w.record = write(w.record[:0], nil, record.fields)
	if len(w.chunk)+2*binary.MaxVarintLen64+len(w.record) > SnapshotChunk {
		w.flush()
	}
	w.chunk = binary.AppendUvarint(w.chunk, kind)
	w.chunk = binary.AppendUvarint(w.chunk, uint64(len(w.record)))
	w.chunk = append(w.chunk, w.record...)
}

func (w *snapshotWriter) flush() {
	if w.err == nil && len(w.chunk) > 0 {
		w.err = w.emit(w.chunk)
	}
	w.chunk = w.chunk[:0]
}

// endingsInOrder are the endings by time. Those of one instant stand by id: a revocation ends its sessions in no order.
func (s *State) endingsInOrder() []ending {
	list := slices.Clone(s.endings)
	slices.SortStableFunc(list, func(a, b ending) int {
		return cmp.Or(cmp.Compare(s.ended[a.id], s.ended[b.id]), slices.Compare(a.id[:], b.id[:]))
	})
	return list
}
