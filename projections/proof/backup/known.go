package backup

import (
	"errors"
	"fmt"

	"rollbook/projections/proof"
)

var (
	// ErrShorter: the history is known to have gone on beyond the backup. To restore it loses what came after; somebody
	// has to say that this is meant.
	ErrShorter = errors.New("the history is known to be longer than the backup")
	// ErrOtherHistory: the backup and what is known are not of one history. One of the two is not what it is taken for.
	ErrOtherHistory = errors.New("the backup is of another history than what is known")
)

// Known is what is known of the history that a backup should be of. Give it to [Verify], and then ask Check.
type Known struct {
	partitions int // 0: any
	parts      map[uint16]Part
	seen       map[uint16]bool // the backup's root at the known page is the known root
}

// KnownBy takes the ends and roots of another backup, whose summary Verify gave.
func KnownBy(s Summary) *Known {
	k := &Known{partitions: len(s.Parts), parts: map[uint16]Part{}, seen: map[uint16]bool{}}
	for p, part := range s.Parts {
		k.parts[uint16(p)] = part
		k.seen[uint16(p)] = part.Pages == 0 // nothing is the beginning of every history
	}
	return k
}

// KnownSigned takes a checkpoint of the notary, whose signature was checked.
func KnownSigned(c proof.Checkpoint) *Known {
	return &Known{parts: map[uint16]Part{uint16(c.Partition): {Pages: c.Page, Root: c.Root}}, seen: map[uint16]bool{}}
}

func (k *Known) see(p page, root func() [32]byte) {
	if part, known := k.parts[p.Partition]; known && part.Pages == p.Seq {
		k.seen[p.Partition] = root() == part.Root
	}
}

// Check compares the backup that was verified with what is known: ErrShorter with how much is missing, ErrOtherHistory
// when the known part is in the backup and differs, or nil. Where the known history is longer it is not known to be the
// same one.
func (k *Known) Check(s Summary) error {
	if k.partitions > 0 && len(s.Parts) != k.partitions {
		return fmt.Errorf("%w: it has %d partitions, %d are known", ErrOtherHistory, len(s.Parts), k.partitions)
	}
	var lost uint64
	for p, part := range k.parts {
		switch {
		case int(p) >= len(s.Parts):
			return fmt.Errorf("%w: it has no partition %d", ErrOtherHistory, p)
		case part.Pages > s.Parts[p].Pages:
			lost += part.Pages - s.Parts[p].Pages
		case !k.seen[p]:
			return fmt.Errorf("%w: partition %d has another root at page %d", ErrOtherHistory, p, part.Pages)
		}
	}
	if lost > 0 {
		return fmt.Errorf("%w: at least %d pages came after it", ErrShorter, lost)
	}
	return nil
}
