package engine

import (
	"time"

	"rollbook/bus"
)

// How long, and how many at the most, answered commands are remembered. A pod repeats a command for some seconds at the
// most, so this is memory enough at 100,000 commands a second.
const (
	answerMemory = 30 * time.Second
	maxAnswers   = 1 << 20
)

// place says where a command's events stand: count events of a page from the first on.
type place struct {
	page         uint64
	first, count uint32
}

// answers remembers which commands the book has answered lately, and where.
type answers struct {
	places map[bus.CommandID]place
	order  []remembered // as answered, oldest first
}

type remembered struct {
	id   bus.CommandID
	time int64
}

func newAnswers() *answers { return &answers{places: make(map[bus.CommandID]place)} }

func (a *answers) find(id bus.CommandID) (place, bool) {
	at, ok := a.places[id]
	return at, ok
}

// settle notes the answers of a page that is in the book, and forgets old ones.
func (a *answers) settle(page uint64, list []bus.Answer, now int64) {
	first := uint32(0)
	for _, answer := range list {
		a.places[answer.ID] = place{page, first, answer.Events}
		a.order = append(a.order, remembered{answer.ID, now})
		first += answer.Events
	}
	for len(a.order) > 0 && (len(a.order) > maxAnswers || now-a.order[0].time >= int64(answerMemory)) {
		delete(a.places, a.order[0].id)
		a.order = a.order[1:]
	}
}
