package bus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// MaxPage is the size, in bytes, at which a writer closes a page and begins
// the next. A page may be somewhat larger (one event more); what the bus can not
// carry is refused by Append.
const MaxPage = 256 << 10

// pageVersion changes when an old reader would misread a page. A field more, at
// the end, does not change it: readers skip what they do not know.
const (
	pageVersion = 1
	pageFields  = 7
	pageTrailer = 4 // CRC-32C of all bytes before it, big endian
)

// Page is what the writer appends: the events of one group commit, and what
// the next writer must know to go on. An opening page has no events.
//
// On the wire it is a msgpack array [version, epoch, time, incarnation,
// commands read, [answer...], [event...]] with an answer as [id, events],
// followed by the checksum. Bytes once written decode for ever: page_test.go
// holds some.
type Page struct {
	Epoch        uint64   // which writer wrote it; grows with every takeover
	Time         int64    // the writer's clock, unix ns; never runs backwards within a book
	Incarnation  int64    // which COMMANDS stream CommandsRead speaks of: its creation, unix ns
	CommandsRead uint64   // every command of the partition up to this sequence is answered in the book
	Answers      []Answer // the commands this page answers, in order
	Events       [][]byte // opaque, in order
}

// Answer says which of a page's events answer a command: the next Events of
// them, in order. Events may be 0.
type Answer struct {
	ID     CommandID
	Events uint32
}

// Upper bounds of what a page's parts take, in bytes, for a writer that fills
// one up to MaxPage.
const (
	PageOverhead   = 64             // the page itself
	AnswerOverhead = 1 + 2 + 16 + 5 // each answer
	EventOverhead  = 5              // each event, beside its own length
)

// Size is an upper bound of the encoded page's length in bytes.
func (p Page) Size() int {
	n := PageOverhead + len(p.Answers)*AnswerOverhead
	for _, e := range p.Events {
		n += len(e) + EventOverhead
	}
	return n
}

// EncodePage is the page's bytes.
func EncodePage(p Page) ([]byte, error) {
	return AppendPage(make([]byte, 0, p.Size()), p)
}

// AppendPage appends the page's bytes to buf, so that a writer can use one
// buffer again and again.
func AppendPage(buf []byte, p Page) ([]byte, error) {
	c := encoders.Get().(*pageEncoder)
	defer encoders.Put(c)
	c.out = buf
	c.enc.Reset(c)
	err := c.encode(p)
	out := c.out
	c.out = nil
	if err != nil {
		return nil, fmt.Errorf("encode a page: %w", err)
	}
	sum := crc32.Checksum(out[len(buf):], castagnoli)
	return binary.BigEndian.AppendUint32(out, sum), nil
}

// DecodePage reads a page. Its events are slices into data, which must not be
// changed while they are in use. It returns ErrDamagedPage when the bytes are
// not as they were written, ErrPageVersion when a newer program wrote them.
func DecodePage(data []byte) (Page, error) {
	if len(data) <= pageTrailer {
		return Page{}, fmt.Errorf("%w: %d bytes are too few", ErrDamagedPage, len(data))
	}
	body, trailer := data[:len(data)-pageTrailer], data[len(data)-pageTrailer:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(trailer) {
		return Page{}, fmt.Errorf("%w: the checksum does not match", ErrDamagedPage)
	}
	c := decoders.Get().(*pageDecoder)
	defer decoders.Put(c)
	c.reset(body)
	p, err := c.decode()
	c.reset(nil)
	return p, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pageEncoder is a msgpack encoder that appends to a slice.
type pageEncoder struct {
	enc *msgpack.Encoder
	out []byte
}

var encoders = sync.Pool{New: func() any { return &pageEncoder{enc: msgpack.NewEncoder(io.Discard)} }}

func (c *pageEncoder) Write(b []byte) (int, error) {
	c.out = append(c.out, b...)
	return len(b), nil
}

func (c *pageEncoder) WriteByte(b byte) error {
	c.out = append(c.out, b)
	return nil
}

func (c *pageEncoder) encode(p Page) error {
	// Writing to a slice does not fail, so that only the first and the last error
	// of the encoder's own are worth a look.
	if err := c.enc.EncodeArrayLen(pageFields); err != nil {
		return err
	}
	_ = c.enc.EncodeUint(pageVersion)
	_ = c.enc.EncodeUint(p.Epoch)
	_ = c.enc.EncodeInt(p.Time)
	_ = c.enc.EncodeInt(p.Incarnation)
	_ = c.enc.EncodeUint(p.CommandsRead)
	_ = c.enc.EncodeArrayLen(len(p.Answers))
	for i := range p.Answers {
		_ = c.enc.EncodeArrayLen(2)
		_ = c.enc.EncodeBytes(p.Answers[i].ID[:])
		_ = c.enc.EncodeUint(uint64(p.Answers[i].Events))
	}
	err := c.enc.EncodeArrayLen(len(p.Events))
	for _, e := range p.Events {
		if e == nil {
			e = []byte{} // nil is written as an empty event, not as msgpack's nil
		}
		err = c.enc.EncodeBytes(e)
	}
	return err
}

// pageDecoder is a msgpack decoder that knows where in the input it is. A
// bytes.Reader is an io.ByteScanner, so that the decoder reads no further than
// it must, and what remains tells the offset.
type pageDecoder struct {
	dec  *msgpack.Decoder
	in   bytes.Reader
	body []byte
}

var decoders = sync.Pool{New: func() any { return &pageDecoder{dec: msgpack.NewDecoder(bytes.NewReader(nil))} }}

func (c *pageDecoder) reset(body []byte) {
	c.body = body
	c.in.Reset(body)
	c.dec.Reset(&c.in)
}

func (c *pageDecoder) decode() (Page, error) {
	fields, err := c.dec.DecodeArrayLen()
	if err != nil || fields < 1 {
		return Page{}, damaged("head", err)
	}
	version, err := c.dec.DecodeUint64()
	if err != nil {
		return Page{}, damaged("version", err)
	}
	if version != pageVersion {
		return Page{}, fmt.Errorf("%w: %d", ErrPageVersion, version)
	}
	if fields < pageFields {
		return Page{}, damaged("head", nil)
	}
	var p Page
	if p.Epoch, err = c.dec.DecodeUint64(); err != nil {
		return Page{}, damaged("epoch", err)
	}
	if p.Time, err = c.dec.DecodeInt64(); err != nil {
		return Page{}, damaged("time", err)
	}
	if p.Incarnation, err = c.dec.DecodeInt64(); err != nil {
		return Page{}, damaged("incarnation", err)
	}
	if p.CommandsRead, err = c.dec.DecodeUint64(); err != nil {
		return Page{}, damaged("commands read", err)
	}
	if p.Answers, err = c.answers(); err != nil {
		return Page{}, err
	}
	if p.Events, err = c.events(); err != nil {
		return Page{}, err
	}
	for range min(fields-pageFields, c.in.Len()+1) {
		if err := c.dec.Skip(); err != nil {
			return Page{}, damaged("later fields", err)
		}
	}
	if c.in.Len() != 0 {
		return Page{}, damaged("end", nil)
	}
	return p, nil
}

func (c *pageDecoder) answers() ([]Answer, error) {
	n, err := c.dec.DecodeArrayLen()
	if err != nil || n > c.in.Len() { // an element takes a byte at least
		return nil, damaged("answers", err)
	}
	if n <= 0 {
		return nil, nil
	}
	answers := make([]Answer, n)
	for i := range answers {
		parts, err := c.dec.DecodeArrayLen()
		if err != nil || parts < 2 {
			return nil, damaged("answer", err)
		}
		id, err := c.bytes()
		if err != nil || len(id) != len(CommandID{}) {
			return nil, damaged("command id", err)
		}
		answers[i].ID = CommandID(id)
		if answers[i].Events, err = c.dec.DecodeUint32(); err != nil {
			return nil, damaged("answer", err)
		}
		for range min(parts-2, c.in.Len()+1) {
			if err := c.dec.Skip(); err != nil {
				return nil, damaged("answer", err)
			}
		}
	}
	return answers, nil
}

func (c *pageDecoder) events() ([][]byte, error) {
	n, err := c.dec.DecodeArrayLen()
	if err != nil || n > c.in.Len() {
		return nil, damaged("events", err)
	}
	if n <= 0 {
		return nil, nil
	}
	events := make([][]byte, n)
	for i := range events {
		if events[i], err = c.bytes(); err != nil {
			return nil, damaged("event", err)
		}
	}
	return events, nil
}

// bytes is the next binary value, as a slice into the input.
func (c *pageDecoder) bytes() ([]byte, error) {
	n, err := c.dec.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > c.in.Len() {
		return nil, io.ErrUnexpectedEOF
	}
	from := len(c.body) - c.in.Len()
	if _, err := c.in.Seek(int64(n), io.SeekCurrent); err != nil {
		return nil, err
	}
	return c.body[from : from+n : from+n], nil
}

func damaged(where string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: %s", ErrDamagedPage, where)
	}
	return fmt.Errorf("%w: %s: %w", ErrDamagedPage, where, err)
}
