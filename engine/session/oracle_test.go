package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// oracle knows from the events and the policies alone when everything ends. It is naive on purpose: it keeps times, no
// deadlines, no heap, and nothing of what the events say about deadlines.
type oracle struct {
	policies Policies
	sessions map[SessionID]*observed
	oneTime  map[TokenHash]observedToken
	issued   []TokenHash // the keys of oneTime, in order
}

type observed struct {
	id      SessionID
	user    UserID
	venue   Venue
	started Instant
	active  Instant // login, refresh or touch
	issued  Instant // the access token, and the refresh token's last issue or use
	rotated Instant // zero: never
	ended   bool
}

type observedToken struct {
	user    UserID
	venue   Venue
	session SessionID
	issued  Instant
	life    time.Duration
	used    bool // or replaced
}

func watch(w *world) *oracle {
	o := &oracle{policies: w.policies, sessions: make(map[SessionID]*observed), oneTime: make(map[TokenHash]observedToken)}
	w.each = o.see
	return o
}

func (o *oracle) see(e Event) {
	switch e := e.(type) {
	case *SessionStarted:
		o.sessions[e.Session] = &observed{id: e.Session, user: e.User, venue: e.Venue, started: e.At, active: e.At, issued: e.At}
	case *SessionRefreshed:
		s := o.sessions[e.Session]
		s.active, s.issued, s.rotated = e.At, e.At, e.At
	case *SessionTouched:
		o.sessions[e.Session].active = e.At
	case *SessionEnded:
		o.sessions[e.Session].ended = true
	case *SessionsRevoked:
		for _, s := range o.sessions {
			// No client here: the worlds that are watched revoke by venue alone.
			if (e.Venue == NoVenue || e.Venue == s.venue) && (e.Before == 0 || s.started < e.Before) {
				s.ended = true
			}
		}
	case *OneTimeRedeemed:
		t := o.oneTime[e.Token]
		t.used = true
		o.oneTime[e.Token] = t
	}
}

// issue notes a token that was issued. One above the venue's limit takes the place of the oldest that could be redeemed.
func (o *oracle) issue(c *IssueOneTime, now Instant) {
	p := o.policies.Venues[c.Venue]
	life := c.Lifetime
	if life == 0 {
		life = p.OneTimeLifetime
	}
	var open []TokenHash
	for _, hash := range o.issued {
		t := o.oneTime[hash]
		s := o.sessions[t.session]
		if t.user == c.User && t.venue == c.Venue && !t.used && !past(now, t.issued, t.life) && (s == nil || !s.ended) {
			open = append(open, hash)
		}
	}
	if len(open) > 0 && len(open) == p.oneTimeLimit() {
		oldest := o.oneTime[open[0]]
		oldest.used = true
		o.oneTime[open[0]] = oldest
	}
	o.oneTime[c.Token] = observedToken{user: c.User, venue: c.Venue, session: c.Session, issued: now, life: life}
	o.issued = append(o.issued, c.Token)
}

// past says whether a time span that began at an instant is over; a span of zero is none.
func past(now, from Instant, span time.Duration) bool { return span > 0 && now-from >= Instant(span) }

func (o *oracle) over(s *observed, now Instant) bool {
	p := o.policies.Venues[s.venue]
	return past(now, s.started, p.Absolute) || past(now, s.active, p.Idle)
}

func (o *oracle) accessOver(s *observed, now Instant) bool {
	p := o.policies.Venues[s.venue]
	return o.over(s, now) || past(now, s.issued, p.AccessLifetime) || past(now, s.active, p.AccessIdle)
}

func (o *oracle) refreshOver(s *observed, now Instant) bool {
	return o.over(s, now) || past(now, s.issued, o.policies.Venues[s.venue].RefreshLifetime)
}

// inGrace says whether the refresh token that was replaced last still leads to the same successor.
func (o *oracle) inGrace(s *observed, now Instant) bool {
	grace := o.policies.Venues[s.venue].Grace
	return grace > 0 && now-s.rotated < Instant(grace)
}

// edges are the instants from now on at which an answer about the session may change, each with the one before it.
func (o *oracle) edges(s *observed, now Instant) []Instant {
	p := o.policies.Venues[s.venue]
	var found []Instant
	for _, edge := range []Instant{s.started.Add(p.Absolute), s.active.Add(p.Idle), s.issued.Add(p.AccessLifetime),
		s.active.Add(p.AccessIdle), s.issued.Add(p.RefreshLifetime), s.rotated.Add(p.Grace)} {
		for _, at := range []Instant{edge - 1, edge} {
			if at >= now {
				found = append(found, at)
			}
		}
	}
	return append(found, now)
}

// TestDeadlines: nothing is good at its deadline or after it, and nothing is refused as expired before it. Every rule is
// asked on both sides of every deadline.
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		o := watch(w)
		w.live(turns, func(made turn) {
			if c, ok := made.cmd.(*IssueOneTime); ok && len(made.events) > 0 {
				o.issue(c, made.now)
			}
		})
		for _, s := range o.sessions {
			for _, at := range o.edges(s, w.now) {
				askTouch(w, o, s, at)
				askLive(w, o, s, at)
				askExpire(w, o, at)
			}
		}
		for hash, token := range o.oneTime {
			for _, at := range []Instant{w.now, token.issued.Add(token.life) - 1, token.issued.Add(token.life)} {
				if at >= w.now {
					askVerify(w, o, hash, token, at)
				}
			}
		}
	})
}

func askTouch(w *world, o *oracle, s *observed, at Instant) {
	events, reply := w.state.Decide(&Touch{User: s.user, Session: s.id}, at)
	want := Accepted
	switch {
	case s.ended:
		want = UnknownSession
	case o.accessOver(s, at):
		want = ExpiredToken
	}
	if reply.Refusal != want || (want == Accepted && at != s.active) != (len(events) == 1) {
		w.t.Fatalf("a touch at %d of %+v should be %s: %s", at, *s, want, reply.Refusal)
	}
}

// askLive compares what a pod is told with what is over, on both sides of every edge.
func askLive(w *world, o *oracle, s *observed, at Instant) {
	held, live := w.state.Session(s.id)
	if live == s.ended {
		w.t.Fatalf("%s is live: %v, and ended: %v", s.id, live, s.ended)
	}
	if !live {
		return
	}
	told := held.Live()
	if (at < told.Deadline) == o.accessOver(s, at) || told.ID != s.id || told.User != s.user || told.Venue != s.venue {
		w.t.Fatalf("at %d a pod is told %+v of %+v", at, told, *s)
	}
	p := o.policies.Venues[s.venue]
	if idle := p.Idle > 0 || p.AccessIdle > 0; idle != (told.NoteFrom != Forever) {
		w.t.Fatalf("a use is worth recording from %d on, with an idle limit: %v", told.NoteFrom, idle)
	}
	for _, limit := range []time.Duration{p.Idle, p.AccessIdle} {
		if limit > 0 && (told.NoteFrom < s.active || told.NoteFrom >= s.active.Add(limit)) {
			w.t.Fatalf("used at %d, it is recorded again from %d on, and idle after %s", s.active, told.NoteFrom, limit)
		}
	}
}

// askExpire compares what the timer would end with what is over.
func askExpire(w *world, o *oracle, at Instant) {
	due := make(map[SessionID]bool)
	for _, s := range o.sessions {
		if !s.ended && o.over(s, at) {
			due[s.id] = true
		}
	}
	events, _ := w.state.Decide(&Expire{}, at)
	for _, e := range events {
		ended := e.(*SessionEnded)
		if !due[ended.Session] || ended.Reason != Expired {
			w.t.Fatalf("%s is not due at %d", ended.Session, at)
		}
		delete(due, ended.Session)
	}
	if len(due) > 0 {
		w.t.Fatalf("%d sessions that are over at %d do not expire", len(due), at)
	}
	if next := w.state.NextDeadline(); (next != 0 && next <= at) != (len(events) > 0) {
		w.t.Fatalf("the next deadline is %d, and at %d %d sessions expire", next, at, len(events))
	}
}

func askVerify(w *world, o *oracle, hash TokenHash, token observedToken, at Instant) {
	standing, _ := w.state.User(token.user)
	good := !token.used && !past(at, token.issued, token.life) && !standing.Disabled
	if s := o.sessions[token.session]; s != nil {
		good = good && !s.ended && !o.over(s, at)
	}
	events, reply := w.state.Decide(&Verify{User: token.user, Venue: token.venue, Token: hash}, at)
	if good != (len(events) == 1) || good != (reply.Refusal == Accepted) {
		w.t.Fatalf("a one-time token at %d, good is %v: %s, %+v", at, good, reply.Refusal, token)
	}
}

// TestOneChain: of all the refresh tokens a session ever had, at any time at most one renews it, and at most one more is
// answered, with the very pair that is live already. Every other one is reuse, and ends the session for all of them.
func TestOneChain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		o := watch(w)
		for _, venue := range []Venue{TraderEvolution, Zenith, Genesis} {
			w.do(&Login{User: "alice", Venue: venue, Verdict: Matched, Credential: 1, Session: w.mintID(), Access: w.mint(), Refresh: w.mint()})
		}
		for range turns {
			w.wait()
			if w.flip() && len(w.sessions) > 0 { // present any token of any session that ever was
				id := one(w, w.sessions, "family")
				if chain := w.chains[id]; len(chain) > 0 {
					w.do(w.successor(id, chain[max(0, len(chain)-1-w.pick(4, "back"))]))
				}
			} else {
				w.do(w.command())
			}
			for _, s := range o.sessions {
				for _, at := range o.edges(s, w.now) {
					tryAll(w, o, s, at)
				}
			}
		}
	})
}

// tryAll presents every refresh token that the session ever had, without letting it happen.
func tryAll(w *world, o *oracle, s *observed, at Instant) {
	chain := w.chains[s.id]
	accepted := 0
	for i, token := range chain {
		last := len(chain) - 1
		c := w.successor(s.id, token)
		events, reply := w.state.Decide(c, at)
		renewed, ended := len(events) == 1 && events[0].Type() == "SessionRefreshed", endsAsReuse(events, s.id)
		var right bool
		switch {
		case s.ended:
			right = len(events) == 0 && reply.Refusal == InvalidToken
		case o.over(s, at) || i == last && o.refreshOver(s, at):
			right = len(events) == 0 && reply.Refusal == ExpiredToken
		case i == last:
			right = renewed
		case i == last-1 && o.inGrace(s, at):
			right = len(events) == 0 && reply.Refusal == Accepted && reply.Repeated && reply.Session.Refresh == chain[last] &&
				reply.Session.Access == c.Access && reply.Session.Handle == c.Handle
		default:
			right = ended
		}
		if !right {
			w.t.Fatalf("token %d of %d of %+v at %d: %v, %s, repeated: %v", i+1, len(chain), *s, at, events, reply.Refusal, reply.Repeated)
		}
		if renewed || reply.Repeated {
			accepted++
		}
	}
	if accepted > 2 {
		w.t.Fatalf("%d refresh tokens of one session are accepted", accepted)
	}
}

func endsAsReuse(events []Event, id SessionID) bool {
	if len(events) != 1 {
		return false
	}
	e, ok := events[0].(*SessionEnded)
	return ok && e.Session == id && e.Reason == Reused
}
