package session

import (
	"encoding/binary"
	"fmt"
)

// Heading is what every stored event begins with.
type Heading struct {
	Type EventType
	Header
}

// eventTypes are the types by their stored numbers, less one.
var eventTypes = EventTypes()

// ReadHeading reads how a stored event begins, and nothing else of it: a tenth of what [DecodeEvent] costs. Of what that
// reads it says the same. What it refuses, with [ErrUndecodable] or [ErrFromTheFuture], that refuses too; but damage further
// on it does not see.
func ReadHeading(data []byte) (Heading, error) {
	_, kind, version, h, err := heading(data)
	if err == nil && (kind == 0 || kind > uint64(len(eventTypes))) {
		err = fmt.Errorf("event kind %d: %w", kind, ErrFromTheFuture)
	}
	if err == nil {
		err = checkVersion(version)
	}
	if err != nil {
		return Heading{}, fmt.Errorf("event: %w", err)
	}
	return Heading{eventTypes[kind-1], h}, nil
}

// Whose reads whose a stored event is, and nothing else of it: empty when it is nobody's in particular. It knows kinds that
// this program does not: every event begins alike.
func Whose(data []byte) (UserID, error) {
	length, _, version, h, err := heading(data)
	if err == nil && length < 4 {
		err = ErrUndecodable
	}
	if err == nil {
		err = checkVersion(version)
	}
	if err != nil {
		return "", fmt.Errorf("event: %w", err)
	}
	return h.User, nil
}

// heading reads the array's length and its first four elements.
func heading(data []byte) (length int, kind, version uint64, h Header, err error) {
	if length, kind, version, h, ok := plainHeading(data); ok {
		return length, kind, version, h, nil
	}
	c := coders.Get().(*coder)
	c.src.Reset(data)
	c.dec.ResetReader(&c.src)
	c.mode, c.err = reading, nil
	length, err = c.dec.DecodeArrayLen()
	if err != nil || length < 2 {
		return 0, 0, 0, Header{}, ErrUndecodable
	}
	c.left = length
	c.uint(&kind)
	c.uint(&version)
	h.fields(c)
	if c.err != nil { // left to the collector, as by read
		return 0, 0, 0, Header{}, fmt.Errorf("%w: %w", ErrUndecodable, c.err)
	}
	coders.Put(c)
	return length, kind, version, h, nil
}

// The first bytes of msgpack values, as AppendEvent writes them.
const (
	fixedArray  = 0x90 // and the length, up to 15
	array16     = 0xdc
	fixedUint   = 0x7f // the largest number that is a byte of its own
	uint64Byte  = 0xcf
	fixedString = 0xa0 // and the length, up to 31
	string8     = 0xd9
)

// plainHeading reads a heading whose numbers and texts have the sizes that they always have: two small numbers, a time
// after 1970, a short user. It is not ok with all else, which is the decoder's to judge.
func plainHeading(data []byte) (length int, kind, version uint64, h Header, ok bool) {
	const head, numbers, text = 3, 1 + 1 + 9, 2 // bytes at the most of the array's head, and of the user's
	if len(data) < head+numbers+text {
		return 0, 0, 0, h, false
	}
	rest := data[1:]
	switch length = int(data[0] &^ fixedArray); {
	case data[0] == array16:
		length, rest = int(binary.BigEndian.Uint16(rest)), rest[2:]
	case data[0]&0xf0 != fixedArray:
		return 0, 0, 0, h, false
	}
	if length < 4 || rest[0] > fixedUint || rest[1] > fixedUint || rest[2] != uint64Byte || rest[3] > 0x7f {
		return 0, 0, 0, h, false
	}
	kind, version, h.At = uint64(rest[0]), uint64(rest[1]), Instant(binary.BigEndian.Uint64(rest[3:]))
	rest = rest[numbers:]
	size := int(rest[0] &^ fixedString)
	switch {
	case rest[0] == string8:
		size, rest = int(rest[1]), rest[2:]
	case rest[0]&0xe0 == fixedString:
		rest = rest[1:]
	default:
		return 0, 0, 0, h, false
	}
	if size > len(rest) {
		return 0, 0, 0, h, false
	}
	h.User = UserID(rest[:size])
	return length, kind, version, h, true
}
