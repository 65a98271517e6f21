package session

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// coder walks a value's fields in order, once to count them, once to write them, or once to read them. One list of
// fields serves all three, so that they cannot drift apart.
type coder struct {
	mode mode
	left int // counting: fields so far; reading: fields left in the array
	buf  bytes.Buffer
	src  bytes.Reader
	enc  *msgpack.Encoder
	dec  *msgpack.Decoder
	err  error // the first failure; the rest of the walk does nothing

	// Memory that would otherwise be taken for each value read.
	lead    [2]uint64
	scratch [256]byte
}

// fielder is what has a list of fields: every event, command and reply.
type fielder interface{ fields(*coder) }

type mode uint8

const (
	counting mode = iota
	writing
	reading
)

var coders = sync.Pool{New: func() any {
	c := &coder{}
	c.enc, c.dec = msgpack.NewEncoder(&c.buf), msgpack.NewDecoder(&c.src)
	return c
}}

// write appends the array of the leading numbers and the fields.
func write(buf []byte, lead []uint64, fields func(*coder)) []byte {
	c := coders.Get().(*coder)
	defer coders.Put(c)
	c.buf.Reset()
	c.err = nil
	c.array(fields, lead...)
	if c.err != nil {
		panic("session: writing to memory failed: " + c.err.Error())
	}
	return append(buf, c.buf.Bytes()...)
}

// array writes one array: its length, the leading numbers, the fields.
func (c *coder) array(fields func(*coder), lead ...uint64) {
	c.mode, c.left = counting, len(lead)
	fields(c)
	c.mode = writing
	c.fail(c.enc.EncodeArrayLen(c.left))
	for _, n := range lead {
		c.fail(c.enc.EncodeUint(n))
	}
	fields(c)
}

// read reads one array of which the first n are numbers; open says by them what to read. A coder that met damage is left
// to the collector: its decoder may have grown to a length that was only promised.
func read(data []byte, n int, open func(lead []uint64) (fielder, error)) error {
	c := coders.Get().(*coder)
	c.src.Reset(data)
	c.dec.ResetReader(&c.src)
	c.mode, c.err = reading, nil

	length, err := c.dec.DecodeArrayLen()
	if err != nil || length < n {
		return ErrUndecodable
	}
	for i := range n {
		if c.lead[i], err = c.dec.DecodeUint64(); err != nil {
			return ErrUndecodable
		}
	}
	value, err := open(c.lead[:n])
	if err != nil {
		return err
	}
	c.left = length - n
	value.fields(c)
	c.skipRest()
	if c.err == nil && c.src.Len() > 0 {
		c.err = errors.New("bytes after the end")
	}
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrUndecodable, c.err)
	}
	coders.Put(c)
	return nil
}

func (c *coder) skipRest() {
	for ; c.left > 0 && c.err == nil; c.left-- {
		c.fail(c.dec.Skip())
	}
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// next says whether the field at hand is to be transferred now; it keeps the count.
func (c *coder) next() bool {
	switch c.mode {
	case counting:
		c.left++
		return false
	case reading:
		if c.left == 0 {
			return false // written before this field existed: it stays zero
		}
		c.left--
	}
	return c.err == nil
}

func (c *coder) uint(v *uint64) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		c.fail(c.enc.EncodeUint(*v))
		return
	}
	n, err := c.dec.DecodeUint64()
	c.fail(err)
	*v = n
}

func (c *coder) int(v *int64) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		c.fail(c.enc.EncodeInt(*v))
		return
	}
	n, err := c.dec.DecodeInt64()
	c.fail(err)
	*v = n
}

func (c *coder) instant(v *Instant)        { c.int((*int64)(v)) }
func (c *coder) duration(v *time.Duration) { c.int((*int64)(v)) }

func (c *coder) uint32(v *uint32) {
	wide := uint64(*v)
	c.uint(&wide)
	if c.mode != reading { // who writes only reads the value: others may be at it too
		return
	}
	if wide > 1<<32-1 {
		c.fail(errors.New("number out of range"))
		return
	}
	*v = uint32(wide)
}

// code transfers one of the small stored numbers.
func code[T ~uint8](c *coder, v *T) {
	wide := uint64(*v)
	c.uint(&wide)
	if c.mode != reading {
		return
	}
	if wide > 255 {
		c.fail(errors.New("code out of range"))
		return
	}
	*v = T(wide)
}

func (c *coder) bool(v *bool) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		c.fail(c.enc.EncodeBool(*v))
		return
	}
	b, err := c.dec.DecodeBool()
	c.fail(err)
	*v = b
}

// text transfers a string.
func text[T ~string](c *coder, v *T) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		c.fail(c.enc.EncodeString(string(*v)))
		return
	}
	n, err := c.dec.DecodeBytesLen()
	if err != nil || n > c.src.Len() {
		c.fail(errors.New("text is cut off"))
		return
	}
	if n <= 0 {
		*v = ""
		return
	}
	buf := c.scratch[:]
	if n > len(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	c.fail(c.dec.ReadFull(buf))
	*v = T(buf)
}

// hash and id transfer fixed bytes; all zero is written as nil, one byte.
func (c *coder) hash(v *TokenHash) { c.fixed(v[:]) }
func (c *coder) id(v *[16]byte)    { c.fixed(v[:]) }

func (c *coder) fixed(v []byte) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		if allZero(v) {
			c.fail(c.enc.EncodeNil())
		} else {
			c.fail(c.enc.EncodeBytes(v))
		}
		return
	}
	n, err := c.dec.DecodeBytesLen()
	switch {
	case err != nil:
		c.fail(err)
	case n == -1:
		clear(v)
	case n != len(v):
		c.fail(fmt.Errorf("%d bytes where %d belong", n, len(v)))
	default:
		c.fail(c.dec.ReadFull(v))
	}
}

func allZero(v []byte) bool {
	for _, b := range v {
		if b != 0 {
			return false
		}
	}
	return true
}

// texts transfers a list of strings.
func texts[T ~string](c *coder, v *[]T) {
	list(c, v, func(item *T, c *coder) { text(c, item) })
}

// group transfers a value as an array of its own, so that it can grow.
func (c *coder) group(fields func(*coder)) {
	if !c.next() {
		return
	}
	outer := c.left
	defer func() { c.left = outer }()
	if c.mode == writing {
		c.array(fields)
		return
	}
	n, err := c.dec.DecodeArrayLen()
	if err != nil {
		c.fail(err)
		return
	}
	c.left = max(n, 0)
	fields(c)
	c.skipRest()
}

// list transfers a list whose items are arrays of their own fields, so that items can grow too.
func list[T any](c *coder, v *[]T, fields func(*T, *coder)) {
	if !c.next() {
		return
	}
	outer := c.left
	defer func() { c.left = outer }()
	if c.mode == writing {
		c.fail(c.enc.EncodeArrayLen(len(*v)))
		for i := range *v {
			c.array(func(c *coder) { fields(&(*v)[i], c) })
		}
		return
	}
	n, err := c.dec.DecodeArrayLen()
	if err != nil || n > c.src.Len() { // an item takes at least one byte
		c.fail(errors.New("list is cut off"))
		return
	}
	if n <= 0 {
		*v = nil
		return
	}
	items := make([]T, 0, min(n, 64))
	for range n {
		length, err := c.dec.DecodeArrayLen()
		if err != nil || c.err != nil {
			c.fail(err)
			return
		}
		items = append(items, *new(T))
		c.left = max(length, 0)
		fields(&items[len(items)-1], c)
		c.skipRest()
	}
	*v = items
}
