package subscribe

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ErrRestored says that the book was restored from a backup since, and that the backup was older than what was seen: other
// events stand at positions that were seen. Errors of the type [RestoredError] say from where.
var ErrRestored = errors.New("the book was restored from a backup, and parted from what was seen")

// RestoredError is ErrRestored with the place. What was seen after the page is not in the book any more, and what is there now
// was not seen. Undo what the former caused, as far as that can be, and begin with At(Cursor), or save it where the cursor is
// kept: each event after the parting comes then, BookRestored as the first.
type RestoredError struct {
	Partition uint16
	Page      uint64   // the last that both have; 0: none
	Seen      Position // the last of the partition that was seen
	Cursor    Cursor   // where all partitions part
}

func (e *RestoredError) Error() string {
	return fmt.Sprintf("%v: of partition %d what was seen after page %d, up to %s, is not in it any more", ErrRestored, e.Partition, e.Page, e.Seen)
}

// Unwrap gives ErrRestored.
func (e *RestoredError) Unwrap() error { return ErrRestored }

// Restore is a restore in the past of a book: one life of it ends behind a page, and another begins. The feed's stream names
// those of its book in its metadata, rollbook-restored, as words.
type Restore struct {
	Partition uint16
	Page      uint64 // the last that was restored
	ID        string // of this restore, and of no other: a part of the hash of its BookRestored
}

// String is the restore as one word, "0/300/1f2e3d4c5b6a7988".
func (r Restore) String() string { return fmt.Sprintf("%d/%d/%s", r.Partition, r.Page, r.ID) }

// parseRestore reads what String wrote.
func parseRestore(word string) (Restore, error) {
	parts := strings.Split(word, "/")
	if len(parts) != 3 || parts[2] == "" {
		return Restore{}, fmt.Errorf("%q is no restore", word)
	}
	p, err1 := strconv.ParseUint(parts[0], 10, 16)
	page, err2 := strconv.ParseUint(parts[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Restore{}, fmt.Errorf("%q is no restore: %w", word, err)
	}
	return Restore{uint16(p), page, parts[2]}, nil
}

// parseRestores reads the words of the stream's metadata.
func parseRestores(text string) (list []Restore, err error) {
	for _, word := range strings.Fields(text) {
		r, err := parseRestore(word)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// parted compares the past of the book that a cursor is of with that of the book that is there now. As far as their restores
// are the same ones, so is what they restored; from the first that differs on, each life had pages of its own.
func (c Cursor) parted(now []Restore) error {
	var first *RestoredError
	rewound := Cursor{Positions: maps.Clone(c.Positions), Restored: now}
	for _, p := range slices.Sorted(maps.Keys(c.Positions)) {
		seen := c.Positions[p]
		cut, ok := parting(restoresOf(c.Restored, p), restoresOf(now, p))
		if !ok || seen.Page <= cut {
			continue
		}
		rewound.Positions[p] = Position{p, cut, math.MaxUint32}
		if first == nil {
			first = &RestoredError{Partition: p, Page: cut, Seen: seen}
		}
	}
	if first == nil {
		return nil
	}
	first.Cursor = rewound
	return first
}

// parting is the last page that two pasts of a partition have in common; ok is false when they are the same past.
func parting(seen, now []Restore) (page uint64, ok bool) {
	page = math.MaxUint64
	for i := range max(len(seen), len(now)) {
		if i < len(seen) && i < len(now) && seen[i] == now[i] {
			continue
		}
		if i < len(seen) {
			page = min(page, seen[i].Page)
		}
		if i < len(now) {
			page = min(page, now[i].Page)
		}
		return page, true
	}
	return 0, false
}

func restoresOf(all []Restore, p uint16) (list []Restore) {
	for _, r := range all {
		if r.Partition == p {
			list = append(list, r)
		}
	}
	return list
}
