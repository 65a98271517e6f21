package session

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// maxClients bounds the memory of a reader for texts that may come again.
const maxClients = 4096

// ReadSnapshot makes the state, under these policies, of the chunks that [State.Snapshot] gave. It reads them to their
// end and gives back an error among them as it is; otherwise [ErrUndecodable] for what no version of this package wrote,
// and [ErrFromTheFuture] for what another version did. Either way there is no state.
func ReadSnapshot(policies Policies, chunks iter.Seq2[[]byte, error]) (*State, error) {
	r := &snapshotReader{state: NewState(policies), clients: make(map[string]string)}
	for chunk, err := range chunks {
		if err != nil {
			return nil, err
		}
		if err := r.add(chunk); err != nil {
			return nil, fmt.Errorf("record %d of the snapshot: %w", r.records, err)
		}
	}
	if !r.ended {
		return nil, fmt.Errorf("%w: the snapshot has no end", ErrUndecodable)
	}
	heap.Init(&r.state.deadlines)
	heap.Init(&r.state.lapses)
	return r.state, nil
}

// snapshotReader is a state in the making.
type snapshotReader struct {
	state   *State
	user    *user
	id      UserID // of user
	session *live
	clients map[string]string // one text for equal ones
	records uint64
	ended   bool
}

// add reads the records of one chunk.
func (r *snapshotReader) add(chunk []byte) error {
	for len(chunk) > 0 {
		kind, n := binary.Uvarint(chunk)
		length, m := binary.Uvarint(chunk[max(n, 0):])
		if n <= 0 || m <= 0 || length > uint64(len(chunk)-n-m) {
			return fmt.Errorf("%w: a record is cut off", ErrUndecodable)
		}
		chunk = chunk[n+m:]
		if err := r.record(kind, chunk[:length]); err != nil {
			return err
		}
		chunk = chunk[length:]
	}
	return nil
}

var errMisplaced = errors.New("a record stands twice, or where it does not belong")

// record reads one record. What it accepts leaves the state whole: see the property in snapshot_test.go.
func (r *snapshotReader) record(kind uint64, data []byte) error {
	r.records++
	if (r.records == 1) != (kind == recordHead) || r.ended {
		return fmt.Errorf("%w: %w", ErrUndecodable, errMisplaced)
	}
	if kind == 0 || kind > recordEnd {
		return fmt.Errorf("a record of kind %d: %w", kind, ErrFromTheFuture)
	}
	if kind == recordHead {
		return r.head(data)
	}
	fits, err := r.place(kind, data)
	if err == nil && !fits {
		err = fmt.Errorf("%w: %w", ErrUndecodable, errMisplaced)
	}
	return err
}

// head reads the version before anything else: another one may have other fields.
func (r *snapshotReader) head(data []byte) error {
	var head headRecord
	if err := read(data, 0, func([]uint64) (fielder, error) { return &head, nil }); err != nil {
		return err
	}
	if head.version != SnapshotVersion {
		return fmt.Errorf("a snapshot of version %d, and this program knows %d: %w", head.version, SnapshotVersion, ErrFromTheFuture)
	}
	r.state.clock = head.clock
	return readWhole(data, &head)
}

// place puts a record into the state; it does not fit when there is something in its place, or nothing it belongs to.
func (r *snapshotReader) place(kind uint64, data []byte) (fits bool, err error) {
	s := r.state
	switch kind {
	case recordUser:
		var u userRecord
		err = readWhole(data, &u)
		fits = s.users[u.id] == nil
		r.id, r.user, r.session = u.id, &u.user, nil
		s.users[u.id] = &u.user
	case recordSession:
		return r.placeSession(data)
	case recordSpent:
		var spent spentRecord
		err = readWhole(data, &spent)
		if fits = r.session != nil; fits {
			r.session.older = append(r.session.older, spent.keys...)
		}
	case recordOneTime:
		t := &oneTime{user: r.id, place: len(s.lapses)}
		err = readWhole(data, t)
		if fits = r.user != nil && s.oneTime[t.token] == nil; fits {
			s.oneTime[t.token] = t
			s.lapses = append(s.lapses, t) // made a heap at the end
			r.user.open = append(r.user.open, t)
		}
	case recordEnded:
		var e endedRecord
		err = readWhole(data, &e)
		s.endings = append(s.endings, e.ending)
		if fits = true; e.at != 0 {
			s.ended[e.id] = e.at
		}
	case recordNonce:
		var n nonceRecord
		err = readWhole(data, &n)
		s.used = append(s.used, n.nonce)
		if fits = true; n.at != 0 {
			s.nonces[n.nonce] = n.at
		}
	case recordStranger:
		var one strangerRecord
		err = readWhole(data, &one)
		fits, s.strangers = true, append(s.strangers, one.stranger)
	case recordResource:
		var resource Resource
		err = readWhole(data, &resource)
		_, known := s.resources[resource.Name]
		fits = !known
		s.resources[resource.Name] = resource
		s.defined = append(s.defined, resource.Name)
	case recordLifetimes:
		var l lifetimesRecord
		err = readWhole(data, &l)
		_, known := s.lifetimes[l.venue]
		fits = !known
		s.lifetimes[l.venue] = l.Lifetimes
	case recordEnd:
		var end endRecord
		err = readWhole(data, &end)
		fits, r.ended = end.records == r.records-1, true
	}
	return fits, err
}

func (r *snapshotReader) placeSession(data []byte) (fits bool, err error) {
	l := &live{place: len(r.state.deadlines)}
	if err := readWhole(data, l); err != nil || r.user == nil || r.state.sessions[l.ID] != nil {
		return false, err
	}
	if known, ok := r.clients[l.Client]; ok {
		l.Client = known
	} else if len(r.clients) < maxClients {
		r.clients[l.Client] = l.Client
	}
	l.User = r.id
	r.session = l
	r.state.sessions[l.ID] = l
	r.user.sessions = append(r.user.sessions, l)
	r.state.deadlines = append(r.state.deadlines, l) // made a heap at the end
	return true, nil
}

// readWhole reads a record that has all its fields and no more.
func readWhole(data []byte, record fielder) error {
	c := coders.Get().(*coder)
	c.mode, c.left = counting, 0
	record.fields(c)
	want := c.left
	coders.Put(c)
	if have, ok := arrayLen(data); !ok || have != want {
		return fmt.Errorf("%w: %d fields where %d belong", ErrUndecodable, have, want)
	}
	return read(data, 0, func([]uint64) (fielder, error) { return record, nil })
}

// arrayLen is the length of the msgpack array that data begins with.
func arrayLen(data []byte) (n int, ok bool) {
	switch {
	case len(data) >= 1 && data[0]&0xf0 == 0x90:
		return int(data[0] & 0x0f), true
	case len(data) >= 3 && data[0] == 0xdc:
		return int(binary.BigEndian.Uint16(data[1:])), true
	}
	return 0, false
}
