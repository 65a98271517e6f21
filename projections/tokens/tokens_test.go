package tokens_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/tokens"
)

func hash(kind byte, n int) session.TokenHash {
	return session.HashToken(fmt.Sprintf("%c%d", kind, n))
}

func sessionID(n int) (id session.SessionID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[0] = 1
	return id
}

// oracle is the index as a program would write it that does not care for speed: every session in a list.
type oracle struct {
	live    []session.Session
	spent   map[session.TokenHash]session.SessionID
	oneTime map[session.TokenHash]session.UserID
	bound   map[session.TokenHash]session.SessionID
	until   map[session.TokenHash]session.Instant
	now     session.Instant
}

func (o *oracle) find(id session.SessionID) int {
	return slices.IndexFunc(o.live, func(s session.Session) bool { return s.ID == id })
}

func (o *oracle) apply(event session.Event) {
	switch e := event.(type) {
	case *session.SessionStarted:
		o.live = append(o.live, e.Begin())
	case *session.SessionRefreshed:
		if i := o.find(e.Session); i >= 0 {
			if e.Refresh != (session.TokenHash{}) {
				o.spent[o.live[i].Refresh] = e.Session
			}
			e.Renew(&o.live[i])
		}
	case *session.SessionTouched:
		if i := o.find(e.Session); i >= 0 {
			o.live[i].LastActive = e.At
		}
	case *session.SessionEnded:
		o.live = slices.DeleteFunc(o.live, func(s session.Session) bool { return s.ID == e.Session })
	case *session.SessionsRevoked:
		o.live = slices.DeleteFunc(o.live, func(s session.Session) bool { return e.Covers(&s) })
	case *session.OneTimeIssued:
		for _, replaced := range e.Replaced {
			delete(o.oneTime, replaced)
		}
		o.oneTime[e.Token], o.bound[e.Token], o.until[e.Token] = e.User, e.Session, e.Until
	case *session.OneTimeRedeemed:
		delete(o.oneTime, e.Token)
	}
}

// open says whether a one-time token can be redeemed, as far as a pod knows.
func (o *oracle) open(h session.TokenHash) bool {
	bound := o.bound[h]
	return o.oneTime[h] != "" && o.now < o.until[h] && (bound == session.SessionID{} || o.find(bound) >= 0)
}

func (o *oracle) byToken(h session.TokenHash) (session.Session, session.TokenKind) {
	for _, s := range o.live {
		switch h {
		case s.Access:
			return s, session.AccessToken
		case s.Refresh:
			return s, session.RefreshToken
		}
		if o.spent[h] == s.ID {
			return s, session.SpentToken
		}
	}
	return session.Session{}, session.NoToken
}

// TestAgreesWithOracle runs random commands through the engine's decision core and compares the index with the oracle on
// every token ever handed out, every handle, every user.
func TestAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies := session.DefaultPolicies()
		few := policies.Venues[session.Genesis]
		few.OneTimeTokens = 1
		policies.Venues[session.Genesis] = few
		state, index := session.NewState(policies), tokens.New()
		naive := &oracle{spent: map[session.TokenHash]session.SessionID{}, oneTime: map[session.TokenHash]session.UserID{},
			bound: map[session.TokenHash]session.SessionID{}, until: map[session.TokenHash]session.Instant{}}
		var all []session.TokenHash
		var handles []session.Handle
		var ids []session.SessionID
		now, seq := session.Instant(time.Hour), uint64(0)
		users := []session.UserID{"ann", "bob", "eve"}
		do := func(cmd session.Command) {
			naive.now = now
			events, _ := state.Decide(cmd, now)
			for _, e := range events {
				state.Apply(e)
				naive.apply(e)
			}
			seq++
			if err := index.Apply(projections.Page{Seq: seq, Time: now, Events: events}); err != nil {
				t.Fatal(err)
			}
		}
		for _, u := range users {
			do(&session.Register{User: u, Credential: 1})
		}
		minted := 0
		mint := func() session.TokenHash {
			minted++
			all = append(all, hash('t', minted))
			return all[len(all)-1]
		}
		some := func(label string) (session.Session, bool) {
			if len(naive.live) == 0 {
				return session.Session{}, false
			}
			return naive.live[rapid.IntRange(0, len(naive.live)-1).Draw(t, label)], true
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "pause")) * time.Second)
			user := rapid.SampledFrom(users).Draw(t, "user")
			venue := rapid.SampledFrom([]session.Venue{session.Genesis, session.TraderEvolution}).Draw(t, "venue")
			switch rapid.IntRange(0, 8).Draw(t, "what") {
			case 0, 1, 2:
				minted++
				ids = append(ids, sessionID(minted))
				handles = append(handles, session.Handle(ids[len(ids)-1]))
				do(&session.Login{User: user, Venue: venue, Verdict: session.Matched, Credential: 1, Client: rapid.SampledFrom([]string{"", "app"}).Draw(t, "client"),
					Session: ids[len(ids)-1], Access: mint(), Refresh: mint(), Scopes: []string{"read"}[:rapid.IntRange(0, 1).Draw(t, "scopes")]})
			case 3, 4:
				if s, ok := some("session"); ok {
					presented := s.Refresh
					if rapid.IntRange(0, 5).Draw(t, "reuse") == 0 {
						presented = s.Spent
					}
					minted++
					handles = append(handles, session.Handle(sessionID(minted)))
					do(&session.Refresh{User: s.User, Venue: s.Venue, Session: s.ID, Presented: presented,
						Handle: handles[len(handles)-1], Access: mint(), Refresh: mint()})
				}
			case 5:
				if s, ok := some("session"); ok {
					do(&session.Logout{User: s.User, Session: s.ID, Reason: session.LoggedOut})
				}
			case 6:
				if s, ok := some("session"); ok {
					do(&session.Touch{User: s.User, Session: s.ID})
				}
			case 7:
				do(&session.Revoke{Venue: venue, Client: "app", Before: now.Add(-time.Minute)})
				do(&session.Expire{})
			case 8:
				issue := &session.IssueOneTime{User: user, Venue: venue, Token: mint()}
				if s, ok := some("session"); ok && s.User == user {
					issue.Session = s.ID
				}
				do(issue)
				do(&session.Verify{User: user, Venue: venue, Token: rapid.SampledFrom(all).Draw(t, "token")})
			}
			compare(t, index, naive, all, handles, ids, users)
		}
	})
}

func compare(t *rapid.T, index *tokens.Index, naive *oracle, all []session.TokenHash, handles []session.Handle,
	ids []session.SessionID, users []session.UserID) {
	t.Helper()
	if index.Len() != len(naive.live) {
		t.Fatalf("%d live sessions, want %d", index.Len(), len(naive.live))
	}
	for _, h := range all {
		got, kind := index.ByToken(h)
		want, wantKind := naive.byToken(h)
		if kind != wantKind || !equal(got, want) {
			t.Fatalf("token %x: %v %v\n%s", h[:4], kind, wantKind, cmp.Diff(want, got))
		}
		live, ok := index.Check(h)
		if ok != (wantKind == session.AccessToken) || ok && live != want.Live() {
			t.Fatalf("check of token %x: %v\n%s", h[:4], ok, cmp.Diff(want.Live(), live))
		}
		if user, ok := index.OneTime(h); ok != naive.open(h) || ok && naive.oneTime[h] != user {
			t.Fatalf("one-time token of %q, %t; want %q, %t", user, ok, naive.oneTime[h], naive.open(h))
		}
	}
	for _, h := range handles {
		got, ok := index.ByHandle(h)
		at := slices.IndexFunc(naive.live, func(s session.Session) bool { return s.Handle == h })
		if at >= 0 && (!ok || !equal(got, naive.live[at])) {
			t.Fatalf("handle %s: %v\n%s", h, ok, cmp.Diff(naive.live[at], got))
		}
		if at < 0 && ok && got.Access != (session.TokenHash{}) {
			t.Fatalf("handle %s is found as if it were live", h)
		}
	}
	for _, id := range ids {
		ended, stop := index.Watch(id)
		select {
		case <-ended:
			if naive.find(id) >= 0 {
				t.Fatalf("%s is watched as ended", id)
			}
		default:
			if naive.find(id) < 0 {
				t.Fatalf("%s is watched as live", id)
			}
		}
		stop()
	}
	for _, u := range users {
		var want []session.Session
		for _, s := range naive.live {
			if s.User == u {
				want = append(want, s)
			}
		}
		if got := index.ByUser(u); !slices.EqualFunc(got, want, equal) {
			t.Fatalf("sessions of %s: %s", u, cmp.Diff(want, got))
		}
	}
}

func equal(a, b session.Session) bool {
	if len(a.Scopes) == 0 && len(b.Scopes) == 0 {
		a.Scopes, b.Scopes = nil, nil
	}
	return cmp.Equal(a, b)
}

func started(n int) *session.SessionStarted {
	return &session.SessionStarted{Header: session.Header{At: 1, User: session.UserID(fmt.Sprint("user-", n%100000))}, Session: sessionID(n),
		Venue: session.Genesis, Until: session.Forever, Access: session.HashToken(presented(n)), Refresh: hash('r', n)}
}

// presented is a token as clients present it: 32 characters.
func presented(n int) string { return fmt.Sprintf("%032d", n) }

// TestWatchersAreTold: whoever watches a session is told when it ends, however it ends, and only then.
func TestWatchersAreTold(t *testing.T) {
	index := tokens.New()
	apply := func(events ...session.Event) {
		if err := index.Apply(projections.Page{Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	apply(started(1), started(2), started(3))
	var ended [4]<-chan struct{}
	for n := 1; n <= 3; n++ {
		var stop func()
		ended[n], stop = index.Watch(sessionID(n))
		defer stop()
	}
	told := func(n int) bool {
		select {
		case <-ended[n]:
			return true
		default:
			return false
		}
	}
	apply(&session.SessionEnded{Session: sessionID(1), Reason: session.LoggedOut})
	if !told(1) || told(2) || told(3) {
		t.Error("after the end of session 1", told(1), told(2), told(3))
	}
	apply(&session.SessionsRevoked{Venue: session.Nebula})
	if told(2) || told(3) {
		t.Error("a revocation of another venue was told")
	}
	apply(&session.SessionsRevoked{Venue: session.Genesis})
	if !told(2) || !told(3) {
		t.Error("after the revocation", told(2), told(3))
	}
}

// TestLookUpAllocatesNothing holds the promise of the package comment.
func TestLookUpAllocatesNothing(t *testing.T) {
	index := filled(t, 1000)
	token := presented(500)
	if n := testing.AllocsPerRun(1000, func() {
		if _, found := index.Check(session.HashToken(token)); !found {
			t.Fatal("not found")
		}
		if _, kind := index.ByToken(session.HashToken(token)); kind != session.AccessToken {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func filled(t testing.TB, sessions int) *tokens.Index {
	index := tokens.New()
	for n := 0; n < sessions; n += 1000 {
		events := make([]session.Event, 0, 1000)
		for i := n; i < n+1000 && i < sessions; i++ {
			events = append(events, started(i))
		}
		if err := index.Apply(projections.Page{Seq: uint64(n), Time: 1, Events: events}); err != nil {
			t.Fatal(err)
		}
	}
	return index
}

// BenchmarkCheck is the look-up of a presented token string, hash included: what validation costs. The tokens are asked
// for in random order over all sessions; their texts stand side by side, as a request just read stands in the cache.
func BenchmarkCheck(b *testing.B) {
	for _, sessions := range []int{100_000, 1_000_000} {
		index := filled(b, sessions)
		const asked, length = 1 << 16, 32
		var texts strings.Builder
		random := rand.New(rand.NewPCG(1, 2))
		for range asked {
			texts.WriteString(presented(random.IntN(sessions)))
		}
		all := texts.String()
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i % asked * length
				if _, found := index.Check(session.HashToken(all[at : at+length])); !found {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("sessions=%d/parallel", sessions), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					at := i % asked * length
					index.Check(session.HashToken(all[at : at+length]))
				}
			})
		})
		b.Run(fmt.Sprintf("sessions=%d/unknown", sessions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, found := index.Check(session.HashToken("no such token was ever given out")); found {
					b.Fatal("found")
				}
			}
		})
	}
}

// BenchmarkApply is the fold of started sessions.
func BenchmarkApply(b *testing.B) {
	index, n := tokens.New(), 0
	b.ReportAllocs()
	for b.Loop() {
		if err := index.Apply(projections.Page{Events: []session.Event{started(n)}}); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
