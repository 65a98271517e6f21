package backup

import (
	"errors"
	"fmt"
)

var (
	// ErrShorter: the history is known to have gone on beyond the backup. To restore it loses what came after; somebody
	// has to say that this is meant.
	ErrShorter = errors.New("the history is known to be longer than the backup")
	// ErrOtherHistory: the backup and what is known are not of one history. One of the two is not what it is taken for.
	ErrOtherHistory = errors.New("the backup is of another history than what is known")
)

// Known is what is known of the history that a backup should be of: from another backup of it. Give it to [Verify], and
// then ask Check.
type Known struct {
	parts []Part
	seen  []bool // the backup's root at the known page is the known root
}

// KnownBy takes the ends and roots of another backup, whose summary Verify gave.
func KnownBy(s Summary) *Known {
	k := &Known{parts: s.Parts, seen: make([]bool, len(s.Parts))}
	for p, part := range s.Parts {
		k.seen[p] = part.Pages == 0 // nothing is the beginning of every history
	}
	return k
}

func (k *Known) see(p page, root func() [32]byte) {
	if int(p.Partition) < len(k.parts) && k.parts[p.Partition].Pages == p.Seq {
		k.seen[p.Partition] = root() == k.parts[p.Partition].Root
	}
}

// Check compares the backup that was verified with what is known: ErrShorter with how much is missing, ErrOtherHistory
// when the known part is in the backup and differs, or nil. Where the known history is longer it is not known to be the
// same one.
func (k *Known) Check(s Summary) error {
	if len(s.Parts) != len(k.parts) {
		return fmt.Errorf("%w: it has %d partitions, %d are known", ErrOtherHistory, len(s.Parts), len(k.parts))
	}
	var lost uint64
	for p, part := range s.Parts {
		switch {
		case k.parts[p].Pages > part.Pages:
			lost += k.parts[p].Pages - part.Pages
		case !k.seen[p]:
			return fmt.Errorf("%w: partition %d has another root at page %d", ErrOtherHistory, p, k.parts[p].Pages)
		}
	}
	if lost > 0 {
		return fmt.Errorf("%w: at least %d pages came after it", ErrShorter, lost)
	}
	return nil
}
