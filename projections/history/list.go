package history

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"rollbook/bus"
	"rollbook/engine/session"
)

// The lists of a partition are written in chunks: for a run of pages, one list a bucket, also where it is empty, so that a
// list that was lost shows as a run that is not covered. Each belongs to a generation of the index, which the mark names;
// what is of another generation is not looked at.
//
// A list is a version, the generation, the run (the page before it, its last page), and for each key how many pages and
// which, each as the distance from the one before. The mark is a version, the generation, the last page of the index and
// the SHA-256 of that page as it is stored. Both end in a CRC-32C. Numbers are unsigned varints, but for the generation.
const listVersion = 1

// errDamagedList: bytes are not a list or mark as it was written, or are of a newer program. It is done without.
var errDamagedList = errors.New("damaged list")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// userKey is how a list names a user: the start of the hash of the user id. Two users of one key cost a look at a page in
// vain, nothing else.
type userKey [8]byte

// keyOf is a user's key. The empty id is nobody's: its list has the events that concern everybody.
func keyOf(user session.UserID) userKey {
	sum := sha256.Sum256([]byte(user))
	return userKey(sum[:8])
}

func (k userKey) bucket() int { return int(k[0]) % bus.HistoryBuckets }

// span is the pages after+1 to through.
type span struct{ after, through uint64 }

// generation tells one life of an index from another, so that lists of another book are not taken for this one's.
type generation [8]byte

// mark says how far an index goes.
type mark struct {
	gen     generation
	through uint64
	hash    [sha256.Size]byte // of the page
}

func (m mark) encode() []byte {
	out := append([]byte{listVersion}, m.gen[:]...)
	out = binary.AppendUvarint(out, m.through)
	return sealed(append(out, m.hash[:]...))
}

func decodeMark(data []byte) (m mark, err error) {
	in, err := unsealed(data)
	if err != nil {
		return mark{}, err
	}
	in.take(m.gen[:])
	m.through = in.number()
	in.take(m.hash[:])
	if in.failed || len(in.rest) > 0 {
		return mark{}, errDamagedList
	}
	return m, nil
}

// list is which users are on which pages of a run, of those in one bucket.
type list struct {
	gen   generation
	run   span
	pages map[userKey][]uint64 // rising
}

func (l list) encode() []byte {
	out := append([]byte{listVersion}, l.gen[:]...)
	out = binary.AppendUvarint(out, l.run.after)
	out = binary.AppendUvarint(out, l.run.through)
	out = binary.AppendUvarint(out, uint64(len(l.pages)))
	for _, key := range slices.SortedFunc(maps.Keys(l.pages), func(a, b userKey) int { return bytes.Compare(a[:], b[:]) }) {
		out = append(out, key[:]...)
		out = binary.AppendUvarint(out, uint64(len(l.pages[key])))
		last := l.run.after
		for _, page := range l.pages[key] {
			out = binary.AppendUvarint(out, page-last)
			last = page
		}
	}
	return sealed(out)
}

// decodeList reads a list, of which it keeps the pages of the wanted keys.
func decodeList(data []byte, wanted ...userKey) (l list, err error) {
	in, err := unsealed(data)
	if err != nil {
		return list{}, err
	}
	in.take(l.gen[:])
	l.run = span{in.number(), in.number()}
	l.pages = map[userKey][]uint64{}
	for n := in.number(); n > 0 && !in.failed; n-- {
		var key userKey
		in.take(key[:])
		want := slices.Contains(wanted, key)
		last := l.run.after
		for count := in.number(); count > 0 && !in.failed; count-- {
			step := in.number()
			if l.run.through < last || step > l.run.through-last {
				in.failed = true
				break
			}
			last += step
			if want {
				l.pages[key] = append(l.pages[key], last)
			}
		}
	}
	if in.failed || len(in.rest) > 0 || l.run.after > l.run.through {
		return list{}, errDamagedList
	}
	return l, nil
}

// sealed appends the checksum.
func sealed(data []byte) []byte {
	return binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
}

func unsealed(data []byte) (input, error) {
	if len(data) < 5 {
		return input{}, errDamagedList
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(data[len(body):]) {
		return input{}, errDamagedList
	}
	if body[0] != listVersion {
		return input{}, fmt.Errorf("%w: version %d", errDamagedList, body[0])
	}
	return input{rest: body[1:]}, nil
}

// input is bytes that are read from the front; failed says that they were too few.
type input struct {
	rest   []byte
	failed bool
}

func (in *input) number() uint64 {
	n, size := binary.Uvarint(in.rest)
	if size <= 0 {
		in.failed, in.rest = true, nil
		return 0
	}
	in.rest = in.rest[size:]
	return n
}

func (in *input) take(to []byte) {
	if len(in.rest) < len(to) {
		in.failed, in.rest = true, nil
		return
	}
	copy(to, in.rest)
	in.rest = in.rest[len(to):]
}

// uncovered is what of the pages 1 to end no run covers, in order.
func uncovered(runs []span, end uint64) (gaps []span) {
	sortSpans(runs)
	reached := uint64(0)
	for _, run := range runs {
		if run.after > reached && reached < end {
			gaps = append(gaps, span{reached, min(run.after, end)})
		}
		reached = max(reached, run.through)
	}
	if reached < end {
		gaps = append(gaps, span{reached, end})
	}
	return gaps
}

// nearby is how many pages between two that are wanted are read along: asking again costs about as much.
const nearby = 1

// joined puts spans in order and makes one of those that overlap or are close together.
func joined(spans []span) (out []span) {
	sortSpans(spans)
	for _, s := range spans {
		if n := len(out); n > 0 && s.after <= out[n-1].through+nearby {
			out[n-1].through = max(out[n-1].through, s.through)
			continue
		}
		out = append(out, s)
	}
	return out
}

func sortSpans(spans []span) {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.through, b.through))
	})
}
