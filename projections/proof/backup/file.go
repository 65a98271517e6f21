// Package backup keeps a book in one file, and fills an empty place from it.
//
// [Write] copies what is truth: the pages of every partition as they are stored, up to the ends that it asks for at the
// beginning, the directory, and what else beside the book does not follow from it. [Verify] reads a file through and says
// what is in it. [Restore] puts it onto a bus where there is nothing, reads the book back, compares, and appends to each
// partition what says that this was done.
//
// Invariants:
//   - A file is whole or refused: its last bytes are a hash of all before them, and nothing is restored before they were
//     read and compared. Nothing but that is proved: whoever can write the file can write another hash.
//   - Pages are copied byte for byte under the same sequence numbers; the root that the notary signs is computed when the backup is
//     made, when the file is read, and from the restored book.
//   - Until all pages are there and compared, the bus refuses to open the book. A restore that was cut short goes on when
//     it is repeated; nothing is ever deleted.
//   - A restored history says so itself: a BookRestored event stands after the last restored page.
//   - Memory is bounded by the live sessions and the names of what stands beside the book, and not by the history.
//   - Nothing of what is copied is in an error or a log.
package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/vmihailenco/msgpack/v5"

	"rollbook/bus"
)

// A file is the magic line, frames, and the SHA-256 of all bytes before it. A frame is a kind, the length of its body
// (32 bits, big endian) and the body, a msgpack array. The head comes first; then what stands beside the book and speaks
// of places in it; the cut, which says where each book ends; the rest of what stands beside; the pages, partition by
// partition; the end.
const magic = "rollbook backup 1\n"

const (
	kindHead   = 'H'
	kindBeside = 'B'
	kindCut    = 'C'
	kindPage   = 'P'
	kindEnd    = 'E'
)

// maxBody bounds a frame: more than the largest message on the bus, so that a damaged length asks for no more memory.
const maxBody = 4 << 20

var (
	// ErrDamaged: the file is not as it was written, or not to its end. It is of no use; take another.
	ErrDamaged = errors.New("the backup is damaged or cut off")
	// ErrForeign: the file is no backup, or one of a newer program.
	ErrForeign = errors.New("this is no backup that this program can read")
)

// Head is what a backup says of itself.
type Head struct {
	Made       int64  // when it was begun, unix ns, by the clock of the machine that made it
	Program    string // the version that made it
	Partitions int
	Replicas   int
}

// cut says where each book ended when it was asked.
type cut struct {
	Ends []uint64
}

// beside is one message of a stream beside the book.
type beside struct {
	Stream  string
	Subject string
	Header  map[string][]string
	Data    []byte
}

// page is one stored page.
type page struct {
	Partition uint16
	Seq       uint64
	Stored    int64 // unix ns, the server's clock
	Data      []byte
}

// Part is what a backup holds of one partition.
type Part struct {
	Pages  uint64 // sequences 1 to Pages
	Events uint64
	Root   [32]byte // of the Merkle tree over the pages and their events that the notary signs: docs/audit.md
}

// end closes the frames.
type end struct {
	Parts  []Part
	Beside uint64
}

// fileWriter writes frames and hashes what it writes. The first error stays.
type fileWriter struct {
	to  *bufio.Writer
	sum hash.Hash
	err error
}

func newFileWriter(to io.Writer) *fileWriter {
	w := &fileWriter{to: bufio.NewWriterSize(to, 1<<20), sum: sha256.New()}
	w.bytes([]byte(magic))
	return w
}

func (w *fileWriter) bytes(data []byte) {
	if w.err == nil {
		_, w.err = w.to.Write(data)
		w.sum.Write(data)
	}
}

func (w *fileWriter) frame(kind byte, body any) error {
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseArrayEncodedStructs(true)
	if err := enc.Encode(body); err != nil {
		return fmt.Errorf("write a backup: %w", err)
	}
	data := buf.Bytes()
	if len(data) > maxBody {
		return fmt.Errorf("write a backup: a frame of %d bytes is too large", len(data))
	}
	w.bytes(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data))))
	w.bytes(data)
	return w.failed()
}

// close writes the hash and what is buffered.
func (w *fileWriter) close() error {
	w.bytes(w.sum.Sum(nil))
	if w.err == nil {
		w.err = w.to.Flush()
	}
	return w.failed()
}

func (w *fileWriter) failed() error {
	if w.err != nil {
		return fmt.Errorf("write a backup: %w", w.err)
	}
	return nil
}

// fileReader reads frames and hashes what it reads.
type fileReader struct {
	from *bufio.Reader
	sum  hash.Hash
	body []byte
}

func newFileReader(from io.Reader) (*fileReader, error) {
	r := &fileReader{from: bufio.NewReaderSize(from, 1<<20), sum: sha256.New()}
	line := make([]byte, len(magic))
	if _, err := io.ReadFull(r.from, line); err != nil {
		return nil, broken(err)
	}
	if string(line) != magic {
		return nil, ErrForeign
	}
	r.sum.Write(line)
	return r, nil
}

// frame is the next frame. Its body is the reader's again with the next call.
func (r *fileReader) frame() (kind byte, body []byte, err error) {
	var lead [5]byte
	if _, err := io.ReadFull(r.from, lead[:]); err != nil {
		return 0, nil, broken(err)
	}
	n := binary.BigEndian.Uint32(lead[1:])
	if n > maxBody {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrDamaged, n)
	}
	if cap(r.body) < int(n) {
		r.body = make([]byte, n)
	}
	r.body = r.body[:n]
	if _, err := io.ReadFull(r.from, r.body); err != nil {
		return 0, nil, broken(err)
	}
	r.sum.Write(lead[:])
	r.sum.Write(r.body)
	return lead[0], r.body, nil
}

// close compares the hash, after which nothing may come.
func (r *fileReader) close() error {
	want, got := r.sum.Sum(nil), make([]byte, sha256.Size)
	if _, err := io.ReadFull(r.from, got); err != nil {
		return broken(err)
	}
	if !bytes.Equal(want, got) {
		return fmt.Errorf("%w: its hash does not match", ErrDamaged)
	}
	if _, err := r.from.ReadByte(); err == nil {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	} else if !errors.Is(err, io.EOF) {
		return broken(err)
	}
	return nil
}

// broken tells a file that ends too early from one that can not be read. What a decryption says counts as damage: it
// has no other way of ending early.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrDamaged)
	}
	return fmt.Errorf("read the backup: %w", err)
}

// decode reads a frame's body. What is left over is damage too.
func decode(body []byte, into any) error {
	in := bytes.NewReader(body)
	if err := msgpack.NewDecoder(in).Decode(into); err != nil {
		return fmt.Errorf("%w: a frame can not be read", ErrDamaged)
	}
	if in.Len() > 0 {
		return fmt.Errorf("%w: a frame has more than it should", ErrDamaged)
	}
	return nil
}

// Layout is the shape of the book that the backup is of.
func (h Head) Layout() bus.Layout { return bus.Layout{Partitions: h.Partitions, Replicas: h.Replicas} }
