package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rollbook/bus"
)

const (
	algCosignature = 4      // C2SP tlog-cosignature: the type of a key that cosigns with Ed25519
	cosignatureLen = 8 + 64 // the time in seconds, big endian, and the signature
)

// ErrInconsistent says that what the notary signs now does not begin with what the witness saw before. The book, or its
// checkpoints, were changed or rolled back; nothing was cosigned. Tell an auditor.
var ErrInconsistent = errors.New("what is signed now does not begin with what was seen before")

// Seen is what a witness remembers of a partition.
type Seen struct {
	Partition bus.Partition `json:"partition"`
	Seq       uint64        `json:"seq"` // of the checkpoint, in the notary's stream
	Note      string        `json:"note"`
	Edge      string        `json:"edge"`
}

// Witness remembers the notary's checkpoints and accepts only what goes on from them. It reads no pages: the leaf hashes
// that the notary leaves are enough to fold one root to the next. It belongs to one goroutine.
type Witness struct {
	key   PublicKey
	parts map[bus.Partition]*witnessed
}

type witnessed struct {
	seen   Seen
	edge   Edge
	number uint64
	signer int // the key that must sign the next checkpoint
	said   said
	known  []Checkpoint // that the tree must go through, and has not come to
}

// NewWitness begins with what was seen before: nothing, the first time. Its error is ErrInconsistent's or ErrCheckpoint's:
// what is remembered was not signed by this key.
func NewWitness(key PublicKey, seen []Seen) (*Witness, error) {
	w := &Witness{key: key, parts: map[bus.Partition]*witnessed{}}
	for _, s := range seen {
		c, by, err := key.open(s.Partition, []byte(s.Note))
		if err != nil {
			return nil, fmt.Errorf("what the witness remembers of partition %s: %w", s.Partition, err)
		}
		edge, err := parseEdge(s.Edge)
		if err != nil || edge.size != c.Size || edge.Root() != c.Root {
			return nil, fmt.Errorf("what the witness remembers of partition %s: %w: the edge is another tree's", s.Partition, ErrInconsistent)
		}
		w.parts[s.Partition] = &witnessed{seen: s, edge: edge, number: c.Number, signer: slices.Max(by)}
	}
	return w, nil
}

// Expect has what is signed go through a checkpoint that was kept, for which Open has vouched: what parts from it is refused by
// Add, and what ends before it by Seen.
func (w *Witness) Expect(c Checkpoint) error {
	part := w.part(c.Partition)
	switch {
	case c.Size > part.edge.size:
		part.known = append(part.known, c)
	case c.Size == part.edge.size && c.Root != part.edge.Root():
		return parted(c)
	}
	return nil // one from before what was seen is its beginning, or was refused then
}

func parted(c Checkpoint) error {
	return fmt.Errorf("%w: partition %s: checkpoint %d of page %d, which was kept, is of another history", ErrInconsistent, c.Partition, c.Number, c.Page)
}

func (w *Witness) part(p bus.Partition) *witnessed {
	if w.parts[p] == nil {
		w.parts[p] = &witnessed{}
	}
	return w.parts[p]
}

// Add takes the next of the notary's messages. What was seen is known again by its number, and must be the same.
func (w *Witness) Add(r bus.NotaryRecord) error {
	part := w.part(r.Partition)
	if r.Leaves {
		part.said.add(part.edge.size, int64(r.From), r.Data)
		return nil
	}
	c, by, err := w.key.open(r.Partition, r.Data)
	if err != nil {
		return fmt.Errorf("message %d: %w", r.Seq, err)
	}
	if c.Number <= part.number {
		if c.Number == part.number && (c.Root != part.edge.Root() || c.Size != part.edge.size) {
			return fmt.Errorf("%w: partition %s has another checkpoint %d", ErrInconsistent, r.Partition, c.Number)
		}
		return nil
	}
	signer, follows := succeeds(part.signer, by)
	if !follows {
		return fmt.Errorf("%w: partition %s: checkpoint %d is signed by another key than the one before it, and that has not handed over", ErrInconsistent, r.Partition, c.Number)
	}
	edge := part.edge.Clone()
	news := part.said.through(c.Size - edge.size)
	split := part.fold(&edge, news)
	if c.Number != part.number+1 || edge.size != c.Size || edge.Root() != c.Root {
		return fmt.Errorf("%w: partition %s, between checkpoint %d and checkpoint %d", ErrInconsistent, r.Partition, part.number, c.Number)
	}
	if split != nil { // both were signed
		return parted(*split)
	}
	part.known = slices.DeleteFunc(part.known, func(known Checkpoint) bool { return known.Size <= c.Size })
	part.seen, part.edge, part.number = Seen{r.Partition, r.Seq, string(r.Data), edge.String()}, edge, c.Number
	part.signer = signer
	part.said.signed(len(news))
	return nil
}

// fold adds leaves, and gives the first checkpoint that was kept and that the tree does not go through.
func (part *witnessed) fold(edge *Edge, leaves []Hash) (split *Checkpoint) {
	for _, leaf := range leaves {
		edge.Append(leaf)
		for i, known := range part.known {
			if split == nil && known.Size == edge.size && known.Root != edge.Root() {
				split = &part.known[i]
			}
		}
	}
	return split
}

// Seen is what to remember. end is how far the stream goes now: where it ends before what was seen or kept, it was rolled
// back, and the error is ErrInconsistent.
func (w *Witness) Seen(end uint64) ([]Seen, error) {
	var list []Seen
	for p := range bus.Partition(bus.MaxPartitions) {
		part := w.parts[p]
		if part != nil && len(part.known) > 0 {
			return nil, fmt.Errorf("%w: partition %s ends at checkpoint %d, and checkpoint %d of page %d was kept", ErrInconsistent, p, part.number, part.known[0].Number, part.known[0].Page)
		}
		if part == nil || part.seen.Seq == 0 {
			continue
		}
		if part.seen.Seq > end {
			return nil, fmt.Errorf("%w: partition %s ends before its checkpoint %d", ErrInconsistent, p, part.number)
		}
		list = append(list, part.seen)
	}
	return list, nil
}

// Cosign signs a checkpoint of the notary's beside it, as of a time, with the witness's key (C2SP cosignature/v1).
func (k Key) Cosign(notary PublicKey, s Seen, at time.Time) ([]byte, error) {
	origin := notary.Origin(s.Partition)
	opened, err := note.Open([]byte(s.Note), notary.verifiers(origin))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return note.Sign(opened, cosigner{k, at})
}

// WitnessKey is what an auditor needs of a witness's key.
type WitnessKey struct{ PublicKey }

// Witness is the public half of a key that cosigns.
func (k Key) Witness() WitnessKey { return WitnessKey{PublicKey{k.name, k.public[k.last():]}} }

// String is the vkey: "name+hash+base64", of the type for cosignatures.
func (k WitnessKey) String() string {
	raw := append([]byte{algCosignature}, k.keys[0]...)
	return fmt.Sprintf("%s+%08x+%s", k.name, keyID(k.name, algCosignature, k.keys[0]), base64.StdEncoding.EncodeToString(raw))
}

// ParseWitnessKey reads it.
func ParseWitnessKey(text string) (WitnessKey, error) {
	parts := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(parts) != 3 {
		return WitnessKey{}, ErrKey
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return WitnessKey{}, ErrKey
	}
	k := WitnessKey{PublicKey{parts[0], []ed25519.PublicKey{raw[1:]}}}
	if k.String() != strings.TrimSpace(text) || parts[0] == "" {
		return WitnessKey{}, ErrKey
	}
	return k, nil
}

// Cosigned gives when the witness cosigned a checkpoint; ErrCheckpoint when it did not.
func (k WitnessKey) Cosigned(signed []byte) (time.Time, error) {
	opened, err := note.Open(signed, note.VerifierList(coverifier(k)))
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	raw, err := base64.StdEncoding.DecodeString(opened.Sigs[0].Base64)
	if err != nil || len(raw) != 4+cosignatureLen {
		return time.Time{}, ErrCheckpoint
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0), nil
}

// cosigned is what a witness's signature is of.
func cosigned(at uint64, text []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), text...)
}

type cosigner struct {
	key Key
	at  time.Time
}

func (s cosigner) Name() string { return s.key.name }
func (s cosigner) KeyHash() uint32 {
	return keyID(s.key.name, algCosignature, s.key.public[s.key.last()])
}
func (s cosigner) Sign(text []byte) ([]byte, error) {
	at := uint64(s.at.Unix())
	return append(binary.BigEndian.AppendUint64(nil, at), ed25519.Sign(s.key.private[s.key.last()], cosigned(at, text))...), nil
}

type coverifier WitnessKey

func (v coverifier) Name() string    { return v.name }
func (v coverifier) KeyHash() uint32 { return keyID(v.name, algCosignature, v.keys[0]) }
func (v coverifier) Verify(text, sig []byte) bool {
	return len(sig) == cosignatureLen && ed25519.Verify(v.keys[0], cosigned(binary.BigEndian.Uint64(sig), text), sig[8:])
}
