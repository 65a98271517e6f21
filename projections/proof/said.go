package proof

import "slices"

// said is the leaf hashes that notaries have left since a checkpoint. One that was cut short left some that another says
// again, and two that run side by side both say them: messages may overlap, and then they say the same.
type said struct {
	list   []Hash
	differ bool // two messages said different things of one leaf, or one was no list of hashes
}

// add takes a message: data are the hashes from a place on, in a tree whose last checkpoint has a size.
func (s *said) add(size, from int64, data []byte) {
	list, ok := splitHashes(data)
	if !ok || from < 0 {
		s.differ = true
		return
	}
	if from < size { // of leaves that are signed already
		list = list[min(int64(len(list)), size-from):]
		from = size
	}
	at := from - size
	if at > int64(len(s.list)) {
		return // something between is missing: so it will be at the checkpoint
	}
	again := min(len(list), len(s.list)-int(at))
	s.differ = s.differ || !slices.Equal(list[:again], s.list[at:int(at)+again])
	s.list = append(s.list, list[again:]...)
}

// through gives the first n hashes; fewer when fewer were said, and none for a count that cannot be.
func (s *said) through(n int64) []Hash {
	return s.list[:max(0, min(n, int64(len(s.list))))]
}

// signed forgets the first n, which a checkpoint covers.
func (s *said) signed(n int) { *s = said{list: slices.Clone(s.list[n:])} }
