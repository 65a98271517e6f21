package session

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// narrow are policies under which everything happens within minutes.
func narrow() Policies {
	return Policies{
		Lockout: Lockout{Threshold: 2, FirstDelay: 10 * time.Second, MaxDelay: 40 * time.Second, Hard: 6, Forget: 5 * time.Minute},
		Venues: map[Venue]Policy{
			Genesis: {Absolute: time.Hour, Idle: 10 * time.Minute, AccessIdle: 2 * time.Minute, Refreshable: true, MaxSessions: 3,
				OneTimeLifetime: 30 * time.Second, OneTimeTokens: 1},
			TraderEvolution: {Absolute: 30 * time.Minute, AccessLifetime: time.Minute, RefreshLifetime: 5 * time.Minute,
				Refreshable: true, Rotate: true, Grace: 10 * time.Second, OneTimeLifetime: 30 * time.Second, OneTimeTokens: 2},
			AdvAuth: {Absolute: 20 * time.Second, OneTimeLifetime: 30 * time.Second},
			Zenith: {Absolute: time.Hour, Idle: 10 * time.Minute, AccessLifetime: 5 * time.Minute, AccessIdle: 3 * time.Minute,
				Refreshable: true, Rotate: true, MaxSessions: 2, EvictOldest: true, OneTimeLifetime: 30 * time.Second},
			Nebula: {Absolute: 15 * time.Minute, MaxSessions: 1, OneTimeLifetime: time.Minute, OneTimeTokens: 1},
		},
	}
}

// world is a random life of a partition: a clock that moves, commands as adapters would send them and worse, and
// everything that was ever minted. It keeps its own book, and checks nothing itself but purity.
type world struct {
	t        *rapid.T
	policies Policies
	state    *State
	now      Instant
	book     [][]byte
	turns    []turn
	minted   uint64
	sessions []SessionID               // ever started, in order
	starts   map[SessionID]Session     // as they started
	chains   map[SessionID][]TokenHash // the refresh tokens ever issued to a session, in order
	oneTime  []*OneTimeIssued          // ever issued, in order
	each     func(Event)               // called after each event was applied
}

// turn is one command and what it led to.
type turn struct {
	cmd    Command
	now    Instant
	events []Event
	reply  Reply
}

func newWorld(t *rapid.T) *world {
	p := narrow()
	w := &world{t: t, policies: p, state: NewState(p), now: begin, starts: make(map[SessionID]Session),
		chains: make(map[SessionID][]TokenHash), each: func(Event) {}}
	w.do(&Register{User: "alice", Credential: 1})
	w.do(&Register{User: "bob", Credential: 2})
	return w
}

// live runs so many random turns.
func (w *world) live(turns int, after func(turn)) {
	for range turns {
		w.wait()
		after(w.do(w.command()))
	}
}

// do decides and applies a command as the writer does. It fails when Decide changed the state or answered the same
// question in two ways.
func (w *world) do(cmd Command) turn {
	if cmd.Verb() != VerbExpire {
		travelled, err := DecodeCommand(cmd.Verb(), EncodeCommand(cmd))
		if err != nil {
			w.t.Fatalf("%s does not travel: %v", cmd.Verb(), err)
		}
		cmd = travelled
	}
	before := pictureOf(w.state)
	events, reply := w.state.Decide(cmd, w.now)
	again, sameReply := w.state.Decide(cmd, w.now)
	if diff := before.differs(pictureOf(w.state)); diff != "" {
		w.t.Fatalf("Decide of %s changed the state:\n%s", cmd.Verb(), diff)
	}
	if !sameBytes(events, again) || string(EncodeReply(reply)) != string(EncodeReply(sameReply)) {
		w.t.Fatalf("%s was decided in two ways", cmd.Verb())
	}
	for _, e := range events {
		w.book = append(w.book, AppendEvent(nil, e))
		w.state.Apply(e)
		w.note(e)
		w.each(e)
	}
	if len(events) > 0 {
		reply = w.state.Recall(events)
	}
	made := turn{cmd, w.now, events, reply}
	w.turns = append(w.turns, made)
	return made
}

// note remembers what was minted.
func (w *world) note(e Event) {
	switch e := e.(type) {
	case *SessionStarted:
		w.sessions = append(w.sessions, e.Session)
		w.starts[e.Session] = e.Begin()
		if e.Refresh != (TokenHash{}) {
			w.chains[e.Session] = append(w.chains[e.Session], e.Refresh)
		}
	case *SessionRefreshed:
		if e.Refresh != (TokenHash{}) {
			w.chains[e.Session] = append(w.chains[e.Session], e.Refresh)
		}
	case *OneTimeIssued:
		w.oneTime = append(w.oneTime, e)
	}
}

func sameBytes(a, b []Event) bool {
	return slices.EqualFunc(a, b, func(x, y Event) bool { return string(AppendEvent(nil, x)) == string(AppendEvent(nil, y)) })
}

// wait moves the clock: not at all, a little, a lot, or to the edge of something.
func (w *world) wait() {
	steps := []time.Duration{0, 0, 0, 0, 0, 0, 1, 1, time.Second, time.Second, 5 * time.Second, 9 * time.Second, 10 * time.Second,
		30 * time.Second, time.Minute}
	if w.seldom() {
		steps = []time.Duration{3 * time.Minute, 10 * time.Minute, 25 * time.Hour}
	}
	i := w.pick(len(steps)+4, "wait")
	edge := Instant(0)
	switch {
	case i < len(steps):
		w.now = w.now.Add(steps[i])
		return
	case i == len(steps):
		edge = w.state.NextDeadline() - 1
	case i == len(steps)+1:
		edge = w.state.NextDeadline()
	case i == len(steps)+2 && len(w.oneTime) > 0:
		edge = w.oneTime[len(w.oneTime)-1].Until - Instant(w.pick(2, "before"))
	default:
		if standing, ok := w.state.User(w.user()); ok && standing.LockedUntil != Forever {
			edge = standing.LockedUntil - Instant(w.pick(2, "before"))
		}
	}
	w.now = max(w.now, edge)
}

// users are those a world knows: some are registered, some are decoys.
var users = []UserID{"alice", "bob", "carol", "decoy-1", "decoy-2"}

// pick draws a number below n, each as likely as another: rapid's own ranges prefer the small ones, and a partition in
// which nearly always the same thing is asked of the same user lives a dull life.
func (w *world) pick(n int, label string) int {
	return rapid.Custom(func(t *rapid.T) int {
		drawn, width := 0, bits.Len(uint(n))+4
		for range width {
			drawn <<= 1
			if rapid.Bool().Draw(t, "bit") {
				drawn++
			}
		}
		return drawn * n >> width
	}).Draw(w.t, label)
}

func one[T any](w *world, from []T, label string) T { return from[w.pick(len(from), label)] }

func (w *world) user() UserID { return one(w, users, "user") }
func (w *world) venue() Venue { return Venue(1 + w.pick(5, "venue")) }
func (w *world) flip() bool   { return rapid.Bool().Draw(w.t, "flip") }
func (w *world) seldom() bool { return w.pick(10, "seldom") == 0 }
func (w *world) client() string {
	return one(w, []string{"", "web", "desk"}, "client")
}

// mint is a number nobody had before.
func (w *world) mint() TokenHash {
	w.minted++
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], w.minted)
	return sha256.Sum256(n[:])
}

func (w *world) mintID() SessionID {
	hash := w.mint()
	return SessionID(hash[:16])
}

// session picks one that is live, mostly, or ended, or never was.
func (w *world) session() (SessionID, UserID) {
	var found []SessionID
	w.state.EachSession(func(s Session) { found = append(found, s.ID) })
	slices.SortFunc(found, func(a, b SessionID) int { return slices.Compare(a[:], b[:]) })
	if len(found) == 0 || w.seldom() {
		found = w.sessions
	}
	if len(found) == 0 || w.seldom() {
		return w.mintID(), w.user()
	}
	id := one(w, found, "session")
	if w.seldom() {
		return id, w.user()
	}
	return id, w.starts[id].User
}

// command draws what is asked next.
func (w *world) command() Command {
	kinds := map[string]func() Command{"login": w.login, "refresh": w.refresh, "touch": w.touch, "logout": w.logout,
		"issue": w.issue, "verify": w.verify, "expire": w.expire, "operate": w.operate, "define": w.define, "guess": w.guess}
	often := []string{"login", "login", "guess", "guess", "issue", "issue", "verify", "verify", "expire", "operate", "define"}
	if w.state.Sessions() > 0 || w.seldom() {
		often = append(often, "login", "login", "refresh", "refresh", "refresh", "refresh", "refresh", "touch", "touch", "logout")
	}
	return kinds[one(w, often, "command")]()
}

func (w *world) login() Command {
	user := one(w, []UserID{"alice", "alice", "alice", "alice", "bob", "bob", "bob", w.user()}, "who")
	c := &Login{User: user, Venue: w.venue(), Client: w.client(), Verdict: Matched, Session: w.mintID(), Access: w.mint(),
		Refresh: w.mint(), Bound: w.flip(), Credential: uint64(1 + w.pick(3, "credential"))}
	if standing, known := w.state.User(user); known && !w.seldom() {
		c.Credential = standing.Credential
	} else if !known {
		c.Verdict, c.Credential = NoSuchUser, 0
	}
	if w.pick(6, "wrong") == 0 {
		c.Verdict = Verdict(w.pick(4, "verdict"))
	}
	if w.flip() {
		c.Scopes = []string{"read", "trade"}
	}
	if w.seldom() { // not later than the book forgets: ids are minted at random, and never come back
		if id, _ := w.session(); w.state.sessions[id] != nil || w.state.ended[id] != 0 {
			c.Session = id
		}
	}
	return c
}

// guess tries another password on the same few names.
func (w *world) guess() Command {
	c := w.login().(*Login)
	c.User = one(w, []UserID{"bob", "decoy-1"}, "victim")
	if standing, known := w.state.User(c.User); known {
		c.Verdict, c.Credential = Mismatched, standing.Credential
	} else {
		c.Verdict = NoSuchUser
	}
	return c
}

// refresh presents one of the tokens the session ever had, mostly the latest, with the successor that is derived from it.
func (w *world) refresh() Command {
	id, user := w.session()
	presented := w.mint()
	if chain := w.chains[id]; len(chain) > 0 && !w.seldom() {
		presented = chain[len(chain)-1]
		if w.flip() {
			presented = one(w, chain, "token")
		}
	}
	c := w.successor(id, presented)
	c.User = user
	if w.seldom() {
		c.Venue = w.venue()
	}
	return c
}

// successor is the refresh that a pod makes of a presented token: derived where the venue rotates, minted elsewhere.
func (w *world) successor(id SessionID, presented TokenHash) *Refresh {
	start := w.starts[id]
	c := &Refresh{User: start.User, Venue: start.Venue, Session: id, Presented: presented, Handle: Handle(w.mintID()), Access: w.mint()}
	if start.Venue == NoVenue {
		c.Venue = w.venue()
	}
	if w.policies.Venues[c.Venue].Rotate {
		derive := func(use string) TokenHash { return sha256.Sum256(append(presented[:], use...)) }
		handle := derive("handle")
		c.Handle, c.Access, c.Refresh = Handle(handle[:16]), derive("access"), derive("refresh")
	}
	return c
}

func (w *world) touch() Command {
	id, user := w.session()
	return &Touch{User: user, Session: id}
}

func (w *world) logout() Command {
	id, user := w.session()
	c := &Logout{User: user, Session: id, Reason: one(w, []EndReason{LoggedOut, Disconnected, Revoked}, "reason")}
	if w.flip() {
		c.Generation = uint32(1 + w.pick(3, "generation"))
	}
	return c
}

func (w *world) issue() Command {
	c := &IssueOneTime{User: one(w, users[:2], "whose"), Venue: w.venue(), Token: w.mint()}
	if w.flip() {
		c.Session, c.User = w.session()
	}
	if w.flip() {
		c.Lifetime = time.Duration(1+w.pick(20, "lifetime")) * time.Second
	}
	return c
}

func (w *world) verify() Command {
	if len(w.oneTime) == 0 || w.seldom() {
		return &Verify{User: w.user(), Venue: w.venue(), Token: w.mint()}
	}
	t := w.oneTime[len(w.oneTime)-1]
	if w.seldom() {
		t = one(w, w.oneTime, "one-time")
	}
	c := &Verify{User: t.User, Venue: t.Venue, Token: t.Token}
	if w.seldom() {
		c.Venue = w.venue()
	}
	return c
}

func (w *world) expire() Command { return &Expire{} }

func (w *world) operate() Command {
	user := w.user()
	switch w.pick(10, "operate") {
	case 0:
		return &Disable{user}
	case 1, 2, 3:
		for _, u := range users {
			if standing, known := w.state.User(u); known && standing.Disabled {
				return &Enable{u}
			}
		}
		return one(w, []Command{&Enable{user}, &Unlock{user}}, "enable or unlock")
	case 4:
		return &ChangeCredential{User: user, Credential: uint64(1 + w.pick(3, "credential")), EndSessions: w.flip()}
	case 5:
		id, owner := w.session()
		return &Revoke{User: owner, Session: id}
	case 6:
		c := &Revoke{Venue: Venue(w.pick(6, "venue")), All: w.flip()}
		if w.flip() {
			c.User, c.Client = user, w.client()
		}
		if w.flip() {
			c.Before = w.now - Instant(time.Minute)
		}
		return c
	}
	if user[0] == 'd' {
		user = "alice" // a decoy is never registered
	}
	return &Register{User: user, Credential: 1}
}

func (w *world) define() Command {
	name := ResourceName(fmt.Sprintf("R%d", w.pick(3, "resource")))
	if w.seldom() {
		return &RemoveResource{name}
	}
	return &DefineResource{Resource{Name: name, Kind: DataServer, Fields: []Field{
		{Name: "A", Type: "ENUM", ValidValues: []string{"x", w.client()}}}}}
}
