package session

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// party is a partition with so many users, each with one session at a venue.
func party(b *testing.B, size int, venue Venue) *State {
	s := NewState(DefaultPolicies())
	for n := range size {
		user := UserID(fmt.Sprintf("user-%d", n))
		fill(b, s, &Register{User: user, Credential: 1})
		fill(b, s, crowd(user, venue, uint64(n)))
	}
	return s
}

const guests = 10_000

// BenchmarkDecideApplyLogin is one login into a partition of 10,000 live sessions, and the logout that keeps it that size.
func BenchmarkDecideApplyLogin(b *testing.B) {
	s := party(b, guests, Genesis)
	logins := make([]*Login, guests)
	for n := range logins {
		logins[n] = crowd(UserID(fmt.Sprintf("user-%d", n)), Genesis, uint64(n))
	}
	now, fresh := begin, uint64(guests)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		login := logins[n%guests]
		fresh++
		binary.BigEndian.PutUint64(login.Session[:], fresh)
		now = now.Add(time.Millisecond)
		events, reply := s.Decide(login, now)
		if len(events) != 1 {
			b.Fatal(reply.Refusal)
		}
		s.Apply(events[0])
		s.Apply(&SessionEnded{Header{now, login.User}, login.Session, LoggedOut})
	}
}

// BenchmarkDecideApplyRefresh is one rotation in a partition of 10,000 live sessions.
func BenchmarkDecideApplyRefresh(b *testing.B) {
	s := party(b, guests, TraderEvolution)
	refreshes := make([]*Refresh, guests)
	for n := range refreshes {
		login := crowd(UserID(fmt.Sprintf("user-%d", n)), TraderEvolution, uint64(n))
		refreshes[n] = &Refresh{User: login.User, Venue: login.Venue, Session: login.Session, Refresh: login.Refresh, Access: login.Access,
			Handle: Handle(login.Session)}
	}
	now, fresh := begin, uint64(guests)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		c := refreshes[n%guests]
		fresh++
		c.Presented = c.Refresh
		binary.BigEndian.PutUint64(c.Refresh[:], fresh)
		now = now.Add(time.Microsecond)
		events, reply := s.Decide(c, now)
		if len(events) != 1 {
			b.Fatal(reply.Refusal)
		}
		s.Apply(events[0])
	}
}

// typical are events as a book holds them.
func typical() map[string]Event {
	login := crowd("user-4711", Genesis, 4711)
	s := NewState(DefaultPolicies())
	s.Apply(&UserRegistered{Header{begin, login.User}, 1})
	started, _ := s.Decide(login, begin)
	return map[string]Event{
		"started": started[0],
		"refreshed": &SessionRefreshed{Header: Header{begin, login.User}, Session: login.Session, Generation: 2,
			Handle: Handle(login.Session), Access: login.Access},
		"ended": &SessionEnded{Header{begin, login.User}, login.Session, LoggedOut},
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	for name, e := range typical() {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendEvent(buf[:0], e)
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkDecodeEvent(b *testing.B) {
	for name, e := range typical() {
		b.Run(name, func(b *testing.B) {
			data := AppendEvent(nil, e)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeEvent(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadHeading is what a reader pays that needs no more of an event than whose, what and when.
func BenchmarkReadHeading(b *testing.B) {
	for name, e := range typical() {
		b.Run(name, func(b *testing.B) {
			data := AppendEvent(nil, e)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ReadHeading(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFold replays a book of logins, refreshes and logouts, from its stored events.
func BenchmarkFold(b *testing.B) {
	var book [][]byte
	kinds := typical()
	for n := range uint64(20_000) {
		user := Header{begin.Add(time.Duration(n) * time.Millisecond), UserID(fmt.Sprintf("user-%d", n%5000))}
		started, refreshed := *kinds["started"].(*SessionStarted), *kinds["refreshed"].(*SessionRefreshed)
		started.Header, refreshed.Header = user, user
		binary.BigEndian.PutUint64(started.Session[:], n+1)
		refreshed.Session = started.Session
		book = append(book, AppendEvent(nil, &started), AppendEvent(nil, &refreshed),
			AppendEvent(nil, &SessionEnded{user, started.Session, LoggedOut}))
	}
	b.ReportAllocs()
	for b.Loop() {
		if s := fold(b, Policies{}, book); s.Sessions() != 0 {
			b.Fatalf("%d sessions are left", s.Sessions())
		}
	}
	b.ReportMetric(float64(len(book)*b.N)/b.Elapsed().Seconds(), "events/s")
}
