package tokens

import (
	"rollbook/engine/session"
	"rollbook/projections"
)

// restoreBatch is how many sessions are taken in at a time: whoever asks for a session of another partition meanwhile
// waits for no more.
const restoreBatch = 1000

// Restore implements [projections.Restorer]. The state forgets at its events, this index at its pages: what is over
// by the time of the snapshot's page goes at once.
func (x *Index) Restore(page projections.Page, state *session.State) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	state.EachSession(func(s session.Session) {
		if n++; n%restoreBatch == 0 {
			x.mu.Unlock()
			x.mu.Lock()
		}
		slot := x.add(&s)
		for _, older := range state.OlderSpent(s.ID) {
			x.noteSpent(slot, key(older))
		}
		if s.Spent != (session.TokenHash{}) {
			x.noteSpent(slot, keyOf(s.Spent))
		}
	})
	state.EachEnded(func(s session.Session, when session.Instant) {
		x.ended[s.Handle] = ended{s, when}
		x.endings = append(x.endings, s.Handle)
	})
	state.EachOneTime(x.issue)
	x.forget(page.Time)
	x.reached(page.Partition, page.Seq)
	return nil
}

var _ projections.Restorer = (*Index)(nil)
