package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { bustest.Main(m) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
}

// site is a bus with a book whose pages the test writes itself.
type site struct {
	t    testing.TB
	bus  *bus.Bus
	last []uint64
	now  session.Instant
	ids  byte
}

func newSite(t testing.TB, partitions int) *site {
	s := &site{t: t, bus: bustest.Empty(t), last: make([]uint64, partitions), now: session.At(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))}
	ok(t, s.bus.Create(t.Context(), bus.Layout{Partitions: partitions, Replicas: 1}))
	return s
}

// write appends one page of events.
func (s *site) write(p bus.Partition, events ...session.Event) {
	s.t.Helper()
	page := bus.Page{Epoch: 3, Time: int64(s.now), Incarnation: 5, CommandsRead: s.last[p]}
	for _, e := range events {
		page.Events = append(page.Events, session.AppendEvent(nil, e))
	}
	data, err := bus.EncodePage(page)
	ok(s.t, err)
	_, err = s.bus.Book(p).Append(s.t.Context(), s.last[p], data)
	for errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine: the book knows
		var last uint64
		if last, err = s.bus.Book(p).End(s.t.Context()); err == nil && last == s.last[p] {
			_, err = s.bus.Book(p).Append(s.t.Context(), s.last[p], data)
		}
	}
	ok(s.t, err)
	s.last[p]++
}

func (s *site) at(user session.UserID) session.Header {
	s.now += session.Instant(time.Millisecond)
	return session.Header{At: s.now, User: user}
}

// login starts a session.
func (s *site) login(user session.UserID) *session.SessionStarted {
	s.ids++
	return &session.SessionStarted{Header: s.at(user), Session: session.SessionID{s.ids, 1}, Venue: session.Genesis, Client: "test",
		Until: s.now.Add(24 * time.Hour), Idle: time.Hour, Access: session.TokenHash(sha256.Sum256([]byte{s.ids})), AccessUntil: s.now.Add(time.Hour)}
}

// furnish writes a book of n users a partition: each is registered, has two sessions, one of which has ended, and a
// one-time token. The directory has an entry for each, and one that was deleted.
func (s *site) furnish(n int) {
	s.t.Helper()
	kv, err := s.bus.Directory(s.t.Context())
	ok(s.t, err)
	hooks, err := s.bus.Webhooks(s.t.Context())
	ok(s.t, err)
	_, err = hooks.Put(s.t.Context(), "audit.0", []byte(`{"page":1}`))
	ok(s.t, err)
	for p := range s.last {
		p := bus.Partition(p)
		for i := range n {
			user := session.UserID(fmt.Sprintf("user-%s-%d", p, i))
			one, two := s.login(user), s.login(user)
			s.write(p, &session.UserRegistered{Header: s.at(user), Credential: 1}, one)
			s.write(p, two, &session.OneTimeIssued{Header: s.at(user), Venue: session.Nebula, Token: session.TokenHash{s.ids, 9}, Until: s.now.Add(time.Hour)})
			s.write(p, &session.SessionEnded{Header: s.at(user), Session: one.Session, Reason: session.LoggedOut})
			_, err := kv.Put(s.t.Context(), "user."+string(user), []byte("a verifier of "+user))
			ok(s.t, err)
		}
	}
	_, err = kv.Put(s.t.Context(), "user.gone", []byte("x"))
	ok(s.t, err)
	ok(s.t, kv.Delete(s.t.Context(), "user.gone"))
}

// book is all stored pages of a partition.
func book(t testing.TB, b *bus.Bus, p bus.Partition) (pages []bus.StoredPage) {
	t.Helper()
	end, err := b.Book(p).End(t.Context())
	ok(t, err)
	ok(t, b.Book(p).Read(t.Context(), 0, end, func(page bus.StoredPage) error { pages = append(pages, page); return nil }))
	return pages
}

// folded is the state at the end of a partition.
func folded(t testing.TB, b *bus.Bus, p bus.Partition) *session.State {
	t.Helper()
	state := session.NewState(session.DefaultPolicies())
	for _, stored := range book(t, b, p) {
		for _, e := range eventsOf(t, stored) {
			state.Apply(e)
		}
	}
	return state
}

func eventsOf(t testing.TB, stored bus.StoredPage) (events []session.Event) {
	t.Helper()
	page, err := bus.DecodePage(stored.Data)
	ok(t, err)
	for _, data := range page.Events {
		e, err := session.DecodeEvent(data)
		ok(t, err)
		events = append(events, e)
	}
	return events
}

// entries are the live entries of a bucket.
func entries(t testing.TB, b *bus.Bus, stream string) map[string]string {
	t.Helper()
	all := map[string]string{}
	ok(t, b.EachBeside(t.Context(), stream, func(m bus.Beside) error { all[m.Subject] = string(m.Data); return nil }))
	return all
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
