package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"rollbook/bus"
)

// ErrCheckpoint says that a text is no checkpoint that this key has signed. Do not trust it.
var ErrCheckpoint = errors.New("not a checkpoint that this key has signed")

// Checkpoint is what a notary states of a partition's book. As text it is a C2SP tlog-checkpoint:
//
//	NAME/p<partition>
//	<size, decimal>
//	<root, base64>
//	checkpoint <number> page <page>
//
// The fourth line is an extension line: the checkpoints of a partition are numbered from 1, so that none can be taken away
// unseen, and each says which page it stands after.
type Checkpoint struct {
	Partition bus.Partition
	Size      int64 // leaves
	Root      Hash
	Number    uint64
	Page      uint64 // the last page that is covered
}

func (c Checkpoint) text(origin string) string {
	return fmt.Sprintf("%s\n%d\n%s\ncheckpoint %d page %d\n", origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), c.Number, c.Page)
}

// Sign is the checkpoint as a signed note.
func (k Key) Sign(c Checkpoint) ([]byte, error) { return k.signAfter(k.last(), c) }

// signAfter signs what comes after a checkpoint of the key at, for which signs holds: when that is not the last one, it signs
// too, and so hands over.
func (k Key) signAfter(at int, c Checkpoint) ([]byte, error) {
	origin := k.Public().Origin(c.Partition)
	signers := []note.Signer{signer{origin, k.private[k.last()]}}
	if at != k.last() {
		signers = append([]note.Signer{signer{origin, k.private[at]}}, signers...)
	}
	return note.Sign(&note.Note{Text: c.text(origin)}, signers...)
}

// Open checks the signature on a checkpoint of a partition and reads it: any of the keys may have signed it. Signatures of
// others are passed over.
func (k PublicKey) Open(p bus.Partition, signed []byte) (Checkpoint, error) {
	c, _, err := k.open(p, signed)
	return c, err
}

// open says by which of the keys it is signed too.
func (k PublicKey) open(p bus.Partition, signed []byte) (c Checkpoint, by []int, err error) {
	origin := k.Origin(p)
	opened, err := note.Open(signed, k.verifiers(origin))
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	for _, sig := range opened.Sigs { // two texts must not stand for one signature
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return Checkpoint{}, nil, fmt.Errorf("%w: the signature is not in canonical base64", ErrCheckpoint)
		}
		by = append(by, slices.IndexFunc(k.keys, func(key ed25519.PublicKey) bool { return keyID(origin, algEd25519, key) == sig.Hash }))
	}
	c, err = parseCheckpoint(opened.Text)
	if err == nil && (c.Partition != p || c.text(origin) != opened.Text) {
		err = errors.New("it is of another log, or in another form")
	}
	if err != nil {
		return Checkpoint{}, nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return c, by, nil
}

// strange reports whether a checkpoint that Open has vouched for is signed by a key of the same name that is none of these.
func (k PublicKey) strange(p bus.Partition, signed []byte) bool {
	opened, err := note.Open(signed, k.verifiers(k.Origin(p)))
	return err == nil && slices.ContainsFunc(opened.UnverifiedSigs, func(sig note.Signature) bool { return sig.Name == k.Origin(p) })
}

// OpenAny does so for whichever partition the checkpoint says that it is of.
func (k PublicKey) OpenAny(signed []byte) (Checkpoint, error) {
	c, err := parseCheckpoint(string(signed))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return k.Open(c.Partition, signed)
}

// parseCheckpoint reads the lines of a checkpoint, whoever has signed it; more may follow.
func parseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.SplitN(text, "\n", 5)
	if len(lines) < 5 {
		return c, errors.New("it has too few lines")
	}
	_, partition, ok := cutLast(lines[0], "/p")
	p, err1 := strconv.ParseUint(partition, 10, 16)
	size, err2 := strconv.ParseInt(lines[1], 10, 64)
	root, err3 := tlog.ParseHash(lines[2])
	number, page, ok2 := strings.Cut(strings.TrimPrefix(lines[3], "checkpoint "), " page ")
	n, err4 := strconv.ParseUint(number, 10, 64)
	at, err5 := strconv.ParseUint(page, 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil || !ok || !ok2 || size < 0 {
		return c, errors.New("its lines do not say what a checkpoint's say")
	}
	return Checkpoint{bus.Partition(p), size, root, n, at}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// openRecord checks a stored checkpoint, with the edge beside it.
func (k PublicKey) openRecord(r bus.NotaryRecord) (c Checkpoint, edge Edge, by []int, err error) {
	if c, by, err = k.open(r.Partition, r.Data); err != nil {
		return c, edge, nil, err
	}
	if edge, err = parseEdge(r.Edge); err != nil {
		return c, edge, nil, fmt.Errorf("%w: the edge beside it: %w", ErrCheckpoint, err)
	}
	if edge.size != c.Size || edge.Root() != c.Root {
		return c, edge, nil, fmt.Errorf("%w: the edge beside it has another root", ErrCheckpoint)
	}
	if r.Page != c.Page {
		return c, edge, nil, fmt.Errorf("%w: beside it stands page %d, and it says %d", ErrCheckpoint, r.Page, c.Page)
	}
	return c, edge, by, nil
}

// HandedOver reports whether a partition's last checkpoint is signed by the last of several keys, so that those before it are
// not needed any more. The error is ErrCheckpoint's.
func (k PublicKey) HandedOver(last bus.NotaryRecord) (bool, error) {
	if last.Seq == 0 {
		return false, nil
	}
	_, _, by, err := k.openRecord(last)
	return slices.Contains(by, len(k.keys)-1), err
}
