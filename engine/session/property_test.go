package session

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// turns is how many commands one random life has.
const turns = 60

// fold replays a book.
func fold(t testing.TB, policies Policies, book [][]byte) *State {
	s := NewState(policies)
	for _, stored := range book {
		e, err := DecodeEvent(stored)
		if err != nil {
			t.Fatalf("a stored event does not decode: %v", err)
		}
		s.Apply(e)
	}
	return s
}

// TestReplayEqualsLive: the stored events give the state of the one who decided them, under any policies.
func TestReplayEqualsLive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live(turns, func(turn) {})
		if found := broken(w.state); found != "" {
			rt.Fatal(found)
		}
		for name, policies := range map[string]Policies{"the same": narrow(), "the default": DefaultPolicies(), "no": {}} {
			replayed := NewState(policies)
			for _, stored := range w.book {
				e, err := DecodeEvent(stored)
				if err != nil {
					rt.Fatal(err)
				}
				replayed.Apply(e)
			}
			if diff := pictureOf(w.state).differs(pictureOf(replayed)); diff != "" {
				rt.Fatalf("under %s policies the replay differs:\n%s", name, diff)
			}
			if found := broken(replayed); found != "" {
				rt.Fatal(found)
			}
		}
	})
}

// TestPrefixPlusTail: who takes over anywhere in the book, from the stored events alone, stands where the one before
// stood, and writes the same events from there.
func TestPrefixPlusTail(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live(w.pick(turns, "takeover"), func(turn) {})
		prefix, decided, seen := len(w.book), len(w.turns), pictureOf(w.state)
		w.live(turns, func(turn) {})
		heir := fold(t, narrow(), w.book[:prefix])
		if diff := seen.differs(pictureOf(heir)); diff != "" {
			rt.Fatalf("after %d commands the prefix differs:\n%s", decided, diff)
		}
		for i, old := range w.turns[decided:] {
			events, _ := heir.Decide(old.cmd, old.now)
			if !sameBytes(inOrder(events), inOrder(old.events)) {
				rt.Fatalf("command %d, %s, is decided differently after a takeover:\n%v\n%v", decided+i, old.cmd.Verb(), old.events, events)
			}
			for _, e := range old.events {
				heir.Apply(e)
			}
		}
		if diff := pictureOf(w.state).differs(pictureOf(heir)); diff != "" {
			rt.Fatalf("prefix and tail differ from the whole:\n%s", diff)
		}
	})
}

// inOrder sorts events that may stand in any order: what expires at once.
func inOrder(events []Event) []Event {
	for _, e := range events {
		if ended, ok := e.(*SessionEnded); !ok || ended.Reason != Expired {
			return events
		}
	}
	sorted := slices.Clone(events)
	slices.SortFunc(sorted, func(a, b Event) int {
		return slices.Compare(a.(*SessionEnded).Session[:], b.(*SessionEnded).Session[:])
	})
	return sorted
}

// TestLimitHolds: after every single event nobody has more good sessions at a venue than the policy allows.
func TestLimitHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		full := 0
		w.each = func(Event) {
			count := make(map[string]int)
			w.state.EachSession(func(s Session) {
				if w.now >= s.Deadline() {
					return
				}
				place := fmt.Sprint(s.User, " at ", s.Venue)
				if count[place]++; count[place] > w.policies.Venues[s.Venue].limit() {
					rt.Fatalf("%s has %d sessions", place, count[place])
				} else if count[place] == w.policies.Venues[s.Venue].limit() {
					full++
				}
			})
		}
		w.live(turns, func(turn) {})
		for _, venue := range []Venue{Genesis, Zenith, Nebula} { // in every life each limit is tried at the end
			for range 4 {
				w.do(&Login{User: "alice", Venue: venue, Verdict: Matched, Credential: 9, Session: w.mintID(), Access: w.mint(), Refresh: w.mint()})
			}
		}
		standing, _ := w.state.User("alice")
		if full == 0 && !standing.Disabled && w.now >= standing.LockedUntil {
			rt.Fatal("no limit was ever reached: nothing was checked")
		}
	})
}

// TestLockedOpensForNobody: from UserLocked until its end, an unlock or nothing else, every login is refused as locked,
// whatever the verdict. The lock is kept by the test, from the events alone.
func TestLockedOpensForNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		locked := make(map[UserID]Instant)
		w.each = func(e Event) {
			switch e := e.(type) {
			case *UserLocked:
				locked[e.User] = e.Until
			case *UserUnlocked:
				delete(locked, e.User)
			}
		}
		w.live(turns, func(turn) {
			for _, user := range users {
				until, was := locked[user]
				for verdict := Matched; was && verdict <= NoSuchUser; verdict++ {
					try := &Login{User: user, Venue: w.venue(), Verdict: verdict, Credential: 9, Session: w.mintID(), Access: w.mint(), Refresh: w.mint()}
					events, reply := w.state.Decide(try, w.now)
					if len(events) > 0 {
						reply = w.state.Recall(events)
					}
					switch {
					case w.now < until && (reply.Refusal != Locked || reply.RetryAt != until || len(events) != 1):
						rt.Fatalf("%s is locked until %d, now is %d: %v, %v", user, until, w.now, reply, events)
					case w.now >= until && reply.Refusal == Locked:
						rt.Fatalf("%s should be open since %d, now is %d", user, until, w.now)
					}
				}
			}
		})
	})
}

// TestRecall: whoever repeats a command later is told what was said the first time; of a session that has moved on or
// ended since, at least what the events say.
func TestRecall(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live(turns, func(turn) {})
		for _, old := range w.turns {
			if len(old.events) == 0 {
				continue
			}
			got, want := w.state.Recall(old.events), old.reply
			_, still := w.state.Session(want.Session.ID)
			switch e := old.events[0].(type) {
			case *SessionTouched:
				want.Session, got.Session = known(want.Session, still), known(got.Session, still)
			case *SessionRefreshed:
				if !still {
					want.Session, got.Session = told(e, want.Session), told(e, got.Session)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("%s is answered differently the second time (still live: %v):\n%s", old.cmd.Verb(), still, diff)
			}
		}
	})
}

// known is what a repeated Touch still says: whose session, when, and what never changes while it lives.
func known(s Session, live bool) Session {
	out := Session{ID: s.ID, User: s.User, LastActive: s.LastActive}
	if live {
		out.Venue, out.Client, out.Bound, out.Started, out.Until, out.Scopes = s.Venue, s.Client, s.Bound, s.Started, s.Until, s.Scopes
		out.Idle, out.AccessIdle, out.Failed, out.Rejected, out.PreviousLogin = s.Idle, s.AccessIdle, s.Failed, s.Rejected, s.PreviousLogin
	}
	return out
}

// told is what a refresh's own event says of the session.
func told(e *SessionRefreshed, s Session) Session {
	out := Session{ID: s.ID, User: s.User, Generation: s.Generation, LastActive: s.LastActive, Handle: s.Handle, Access: s.Access,
		AccessUntil: s.AccessUntil, RefreshUntil: s.RefreshUntil, SpentUntil: s.SpentUntil}
	if e.Refresh != (TokenHash{}) {
		out.Refresh = s.Refresh
	}
	return out
}

// TestApplyIsTotal: no decodable events, in any order, break the state; and it can be asked anything afterwards.
func TestApplyIsTotal(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		for range rapid.IntRange(1, 80).Draw(rt, "events") {
			e := newEvent(uint64(rapid.IntRange(1, kindResourceRemoved).Draw(rt, "kind")))
			stray(rt, reflect.ValueOf(e).Elem())
			decoded, err := DecodeEvent(AppendEvent(nil, e))
			if err != nil {
				rt.Fatal(err)
			}
			w.state.Apply(decoded)
			w.state.Recall([]Event{decoded})
			if found := broken(w.state); found != "" {
				rt.Fatalf("after %#v: %s", decoded, found)
			}
		}
		w.state.NextDeadline()
		for range 10 {
			w.now = max(w.now, w.state.Clock())
			w.do(w.command())
		}
	})
}

// stray fills an event with values from small sets, so that events meet, and with times that make no sense.
func stray(t *rapid.T, v reflect.Value) {
	hour := Instant(time.Hour)
	for i := range v.NumField() {
		f := v.Field(i)
		n := rapid.IntRange(0, 3).Draw(t, "value")
		switch f.Interface().(type) {
		case Header, Resource:
			stray(t, f)
		case UserID:
			f.SetString([]string{"", "alice", "bob", "decoy-1"}[n])
		case SessionID, Handle, TokenHash:
			f.Index(0).SetUint(uint64(n))
		case Instant, time.Duration:
			f.SetInt(int64(rapid.SampledFrom([]Instant{0, -1, Forever, -Forever, begin, begin + hour, begin + 25*hour, begin + 50*hour,
				begin + Instant(lately), hour}).Draw(t, "time")))
		default:
			switch f.Kind() {
			case reflect.Uint8, reflect.Uint32, reflect.Uint64:
				f.SetUint(uint64(n))
			case reflect.String:
				f.SetString([]string{"", "R", "S", "T"}[n])
			}
		}
	}
}
