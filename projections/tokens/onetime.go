package tokens

import (
	"container/heap"

	"rollbook/engine/session"
)

// oneTime is a one-time token that may be open: it has not been redeemed or replaced.
type oneTime struct {
	user    uint32
	session session.SessionID
	until   session.Instant
}

// OneTime is whom a one-time token was issued for, as long as it is known and neither redeemed nor dead with its
// session. Whether its time has passed is for the engine to say.
func (x *Index) OneTime(hash session.TokenHash) (session.UserID, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	t, ok := x.oneTime[hash]
	if !ok {
		return "", false
	}
	if t.session != (session.SessionID{}) && x.ids[t.session] == 0 {
		return "", false
	}
	return x.users.list[t.user], true
}

// issue notes a token, and forgets those that it takes the place of.
func (x *Index) issue(e *session.OneTimeIssued) {
	for _, token := range e.Replaced {
		delete(x.oneTime, token)
	}
	x.oneTime[e.Token] = oneTime{user: x.user(e.User), session: e.Session, until: e.Until}
	heap.Push(&x.lapses, lapse{e.Token, e.Until})
}

// forgetOneTime drops the tokens that are past their deadline.
func (x *Index) forgetOneTime(now session.Instant) {
	for len(x.lapses) > 0 && x.lapses[0].until <= now {
		over := heap.Pop(&x.lapses).(lapse)
		if x.oneTime[over.token].until == over.until {
			delete(x.oneTime, over.token)
		}
	}
}

// lapse is when a token passes its deadline. Those of tokens that are gone before stay until then.
type lapse struct {
	token session.TokenHash
	until session.Instant
}

// lapses is a heap, the first on top.
type lapses []lapse

func (l lapses) Len() int           { return len(l) }
func (l lapses) Less(i, j int) bool { return l[i].until < l[j].until }
func (l lapses) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lapses) Push(x any)        { *l = append(*l, x.(lapse)) }
func (l *lapses) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}
