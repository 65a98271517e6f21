package session

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// picture is everything a state holds, as plain values: it shares nothing with the state, and two states that decide
// alike have equal pictures. The policies are left out, and so is what has no meaning: the order within the heap, and the
// order of sessions that ended at the same instant.
type picture struct {
	clock     Instant
	users     map[UserID]userPicture
	sessions  map[SessionID]Session
	deadlines []SessionID // by deadline, then id
	oneTime   map[TokenHash]oneTime
	resources map[ResourceName]Resource
	ended     map[SessionID]Instant
	endings   []ending    // by time, then id
	lapses    []TokenHash // by deadline, then token
	strangers []stranger
	lifetimes map[Venue]Lifetimes
	nonces    map[TokenHash]Instant
	used      []TokenHash
	defined   []ResourceName
	older     map[SessionID][]TokenKey
}

// userPicture is a user whose sessions and one-time tokens are listed by id.
type userPicture struct {
	user
	ids    []SessionID
	tokens []TokenHash
}

func pictureOf(s *State) picture {
	p := picture{clock: s.clock, users: make(map[UserID]userPicture), sessions: make(map[SessionID]Session),
		oneTime: make(map[TokenHash]oneTime), resources: maps.Clone(s.resources), ended: maps.Clone(s.ended),
		endings: slices.Clone(s.endings), strangers: slices.Clone(s.strangers),
		lifetimes: maps.Clone(s.lifetimes), nonces: maps.Clone(s.nonces), used: slices.Clone(s.used),
		defined: slices.Clone(s.defined), older: make(map[SessionID][]TokenKey)}
	for id, u := range s.users {
		flat := userPicture{user: *u}
		flat.sessions, flat.open = nil, nil
		for _, l := range u.sessions {
			flat.ids = append(flat.ids, l.ID)
		}
		for _, t := range u.open {
			flat.tokens = append(flat.tokens, t.token)
		}
		p.users[id] = flat
	}
	for id, l := range s.sessions {
		one := l.Session
		one.Scopes = slices.Clone(one.Scopes)
		p.sessions[id] = one
		if len(l.older) > 0 {
			p.older[id] = slices.Clone(l.older)
		}
	}
	for hash, t := range s.oneTime {
		flat := *t
		flat.place = 0
		p.oneTime[hash] = flat
		p.lapses = append(p.lapses, hash)
	}
	slices.SortFunc(p.lapses, func(a, b TokenHash) int {
		return cmp.Or(cmp.Compare(s.oneTime[a].until, s.oneTime[b].until), slices.Compare(a[:], b[:]))
	})
	inOrder := slices.Clone(s.deadlines)
	slices.SortFunc(inOrder, func(a, b *live) int {
		switch x := (deadlines{a, b}); {
		case x.Less(0, 1):
			return -1
		case x.Less(1, 0):
			return 1
		}
		return 0
	})
	for _, l := range inOrder {
		p.deadlines = append(p.deadlines, l.ID)
	}
	p.endings = s.endingsInOrder()
	p.endings, p.strangers, p.used, p.defined = orNil(p.endings), orNil(p.strangers), orNil(p.used), orNil(p.defined)
	return p
}

func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// differs says in which way two pictures differ; empty: they do not.
func (p picture) differs(other picture) string {
	if reflect.DeepEqual(p, other) {
		return ""
	}
	return gocmp.Diff(p, other, gocmp.AllowUnexported(picture{}, userPicture{}, user{}, oneTime{}, stranger{}, ending{}),
		gocmp.Exporter(func(reflect.Type) bool { return true }))
}

// broken says which index of the state does not agree with another; empty: none.
func broken(s *State) string {
	if len(s.deadlines) != len(s.sessions) {
		return fmt.Sprintf("%d deadlines of %d sessions", len(s.deadlines), len(s.sessions))
	}
	for i, l := range s.deadlines {
		if l.place != i || s.sessions[l.ID] != l {
			return fmt.Sprintf("the session at place %d of the heap thinks it is at %d, or is not live", i, l.place)
		}
		if i > 0 && s.deadlines.Less(i, (i-1)/2) {
			return fmt.Sprintf("the heap is out of order at place %d", i)
		}
	}
	if len(s.lapses) != len(s.oneTime) {
		return fmt.Sprintf("%d one-time tokens, of which %d lapse", len(s.oneTime), len(s.lapses))
	}
	for i, t := range s.lapses {
		if t.place != i || s.oneTime[t.token] != t || i > 0 && s.lapses.Less(i, (i-1)/2) || !slices.Contains(s.users[t.user].open, t) {
			return fmt.Sprintf("the one-time token at place %d of the heap is out of place, or not its user's", i)
		}
	}
	owned, open := 0, 0
	for id, u := range s.users {
		owned, open = owned+len(u.sessions), open+len(u.open)
		for _, l := range u.sessions {
			if l.User != id || s.sessions[l.ID] != l {
				return fmt.Sprintf("user %s has a session that is not theirs, or not live", id)
			}
		}
	}
	if owned != len(s.sessions) || open != len(s.oneTime) {
		return fmt.Sprintf("users own %d of %d sessions, %d of %d one-time tokens", owned, len(s.sessions), open, len(s.oneTime))
	}
	return ""
}

// TestPictureIsWhole fails when the state grows a field that the pictures do not show.
func TestPictureIsWhole(t *testing.T) {
	shown := reflect.TypeFor[picture]()
	state := reflect.TypeFor[State]()
	for i := range state.NumField() {
		name := state.Field(i).Name
		if _, ok := shown.FieldByName(name); !ok && name != "policies" {
			t.Errorf("State.%s is in no picture: replay equals live is not checked for it", name)
		}
	}
}

// TestPictureSeesEveryDifference proves that the comparison the properties stand on can fail.
func TestPictureSeesEveryDifference(t *testing.T) {
	fresh := func() *State {
		s := NewState(DefaultPolicies())
		at := Header{begin, "alice"}
		s.Apply(&UserRegistered{at, 1})
		s.Apply(&SessionStarted{Header: at, Session: SessionID{1}, Venue: Genesis, Until: begin + 10, Scopes: []string{"a"}})
		s.Apply(&SessionStarted{Header: at, Session: SessionID{2}, Venue: Genesis, Until: begin + 20})
		s.Apply(&SessionEnded{at, SessionID{2}, LoggedOut})
		s.Apply(&OneTimeIssued{Header: at, Token: TokenHash{1}, Until: begin + 30})
		return s
	}
	if diff := pictureOf(fresh()).differs(pictureOf(fresh())); diff != "" {
		t.Fatalf("the same events, and yet:\n%s", diff)
	}
	for name, change := range map[string]func(*State){
		"clock":    func(s *State) { s.clock++ },
		"failures": func(s *State) { s.users["alice"].failures++ },
		"scopes":   func(s *State) { s.sessions[SessionID{1}].Scopes[0] = "b" },
		"session":  func(s *State) { s.sessions[SessionID{1}].LastActive++ },
		"ended":    func(s *State) { s.ended[SessionID{2}]++ },
		"one time": func(s *State) { s.oneTime[TokenHash{1}].until++ },
		"owned":    func(s *State) { s.users["alice"].sessions = nil },
		"open":     func(s *State) { s.users["alice"].open = nil },
		"resource": func(s *State) { s.resources["R"] = Resource{Name: "R"} },
	} {
		s := fresh()
		before := pictureOf(s)
		change(s)
		if before.differs(pictureOf(s)) == "" {
			t.Errorf("a change of %s is not seen", name)
		}
	}
	s := fresh()
	heap.Push(&s.deadlines, &live{})
	if broken(s) == "" {
		t.Error("a deadline without a session is not seen")
	}
	s = fresh()
	heap.Push(&s.lapses, &oneTime{user: "alice"})
	if broken(s) == "" {
		t.Error("the lapse of a token that is not known is not seen")
	}
}
