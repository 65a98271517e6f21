package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rollbook/bus"
	"rollbook/engine/session"
)

// memory is a book in memory, with its lists. It fails when it is told to.
type memory struct {
	p  bus.Partition
	mu sync.Mutex // guards all below: an indexer may be at it beside the test

	pages []bus.StoredPage
	mark  []byte
	lists map[int][][]byte
	puts  int          // how many more writes succeed; below zero: all
	full  atomic.Int64 // how many pages were read in all
	snaps []snapshot   // the oldest first
}

// snapshot is an engine's.
type snapshot struct {
	page   uint64
	chunks [][]byte
}

var errCrash = errors.New("killed")

func newMemory(p bus.Partition) *memory {
	return &memory{p: p, lists: map[int][][]byte{}, puts: -1}
}

func (m *memory) Partition() bus.Partition { return m.p }

func (m *memory) End(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.pages)), nil
}

func (m *memory) Read(_ context.Context, after, through uint64, fn func(bus.StoredPage) error) error {
	m.mu.Lock()
	pages := m.pages
	m.mu.Unlock()
	if through > uint64(len(pages)) {
		return errors.New("read past the end")
	}
	for _, page := range pages[after:through] {
		m.full.Add(1)
		if err := fn(page); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) HistoryMark(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mark, nil
}

// allow says how many more writes succeed; below zero: all.
func (m *memory) allow(puts int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts = puts
}

// put counts a write, under the lock.
func (m *memory) put() error {
	if m.puts == 0 {
		return errCrash
	}
	m.puts--
	return nil
}

func (m *memory) PutHistoryMark(_ context.Context, mark []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.put(); err != nil {
		return err
	}
	m.mark = mark
	return nil
}

func (m *memory) PutHistory(_ context.Context, bucket int, list []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.put(); err != nil {
		return err
	}
	m.lists[bucket] = append(m.lists[bucket], list)
	return nil
}

func (m *memory) History(_ context.Context, bucket int, fn func([]byte) error) error {
	m.mu.Lock()
	lists := m.lists[bucket]
	m.mu.Unlock()
	for _, list := range lists {
		if err := fn(list); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) RestoreThrough(_ context.Context, _, through uint64, read func(iter.Seq2[[]byte, error]) error) (bus.Snapshot, bus.StoredPage, error) {
	m.mu.Lock()
	snaps := m.snaps
	m.mu.Unlock()
	for _, s := range slices.Backward(snaps) {
		if s.page > through {
			continue
		}
		err := read(func(yield func([]byte, error) bool) {
			for _, chunk := range s.chunks {
				if !yield(chunk, nil) {
					return
				}
			}
		})
		return bus.Snapshot{Page: s.page}, bus.StoredPage{}, err
	}
	return bus.Snapshot{}, bus.StoredPage{}, nil
}

// append stores the events as the next page.
func (m *memory) append(t interface{ Fatal(...any) }, at session.Instant, events ...session.Event) {
	page := bus.Page{Epoch: 1, Time: int64(at)}
	for _, e := range events {
		page.Events = append(page.Events, session.AppendEvent(nil, e))
	}
	data, err := bus.EncodePage(page)
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages = append(m.pages, bus.StoredPage{Seq: uint64(len(m.pages) + 1), Data: data})
}

const base session.Instant = 1_790_000_000_000_000_000

// life is a random life of a partition, as a writer would have decided it: with a small clock, so that deadlines are met.
type life struct {
	book   *memory
	state  *session.State
	now    session.Instant
	users  []session.UserID
	n      int
	ids    []session.SessionID
	owner  map[session.SessionID]session.UserID
	events []session.Event // all of them, in order
}

// lifeOf begins a life whose users belong to the partition, of so many.
func lifeOf(p, partitions int) *life {
	l := &life{book: newMemory(bus.Partition(p)), now: base, owner: map[session.SessionID]session.UserID{}}
	for i := 0; len(l.users) < 4; i++ {
		if user := session.UserID(fmt.Sprint("u", i)); bus.PartitionOf(string(user), partitions) == bus.Partition(p) {
			l.users = append(l.users, user)
		}
	}
	l.state = session.NewState(session.Policies{Lockout: session.Lockout{Threshold: 3, FirstDelay: 20, MaxDelay: 50, Hard: 100, Forget: 1000},
		Venues: map[session.Venue]session.Policy{
			session.Genesis: {Absolute: 100, Idle: 30, Refreshable: true, MaxSessions: 3, OneTimeLifetime: 10},
			session.Zenith:  {Absolute: 60, Refreshable: true, OneTimeLifetime: 10},
			session.AdvAuth: {Absolute: 15},
		}})
	for _, user := range l.users {
		l.take(&session.Register{User: user, Credential: 1})
	}
	return l
}

// step lets some time pass, has some commands done, and appends what came of them as a page.
func (l *life) step(t *rapid.T) {
	l.now += session.Instant(rapid.IntRange(0, 12).Draw(t, "pass"))
	var page []session.Event
	for range rapid.IntRange(1, 5).Draw(t, "commands") {
		page = append(page, l.take(l.command(t))...)
	}
	l.book.append(t, l.now, page...)
}

// snapshot has the engine make one as of now.
func (l *life) snapshot(t interface{ Fatal(...any) }) {
	s := snapshot{page: uint64(len(l.book.pages))}
	err := l.state.Snapshot(func(chunk []byte) error {
		s.chunks = append(s.chunks, bytes.Clone(chunk))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.book.snaps = append(l.book.snaps, s)
}

// take has a command done.
func (l *life) take(cmd session.Command) []session.Event {
	events, _ := l.state.Decide(cmd, l.now)
	for _, e := range events {
		l.state.Apply(e)
	}
	l.events = append(l.events, events...)
	return events
}

func (l *life) command(t *rapid.T) session.Command {
	user := rapid.SampledFrom(l.users).Draw(t, "user")
	venue := rapid.SampledFrom([]session.Venue{session.Genesis, session.Zenith, session.AdvAuth}).Draw(t, "venue")
	var id session.SessionID
	if len(l.ids) > 0 {
		id = rapid.SampledFrom(l.ids).Draw(t, "session")
	}
	l.n++
	token := session.HashToken(fmt.Sprint(l.book.p, l.n))
	switch rapid.SampledFrom([]string{"login", "login", "login", "touch", "touch", "refresh", "logout", "revoke", "wide", "expire", "wrong", "once", "lifetimes"}).Draw(t, "command") {
	case "login":
		id = session.SessionID(token[:16])
		l.ids, l.owner[id] = append(l.ids, id), user
		return &session.Login{User: user, Venue: venue, Client: rapid.SampledFrom([]string{"", "desk", "phone"}).Draw(t, "client"),
			Verdict: session.Matched, Credential: 1, Session: id, Access: token, Refresh: session.HashToken("r" + id.String())}
	case "touch":
		return &session.Touch{User: l.owner[id], Session: id}
	case "refresh":
		return &session.Refresh{User: l.owner[id], Venue: venue, Session: id, Presented: session.HashToken("r" + id.String()), Access: token}
	case "logout":
		return &session.Logout{User: l.owner[id], Session: id, Reason: session.LoggedOut}
	case "revoke":
		return &session.Revoke{User: user}
	case "wide":
		before := session.Instant(0)
		if rapid.Bool().Draw(t, "before") {
			before = l.now - 20
		}
		return &session.Revoke{Venue: venue, Client: rapid.SampledFrom([]string{"", "desk"}).Draw(t, "client"), Before: before}
	case "wrong":
		return &session.Login{User: user, Venue: venue, Verdict: session.Mismatched, Credential: 1, Session: session.SessionID(token[:16]), Access: token}
	case "once":
		return &session.IssueOneTime{User: l.owner[id], Venue: venue, Session: id, Token: token}
	case "lifetimes":
		return &session.SetLifetimes{Venue: session.Zenith, Lifetimes: session.Lifetimes{Access: 5}}
	}
	return &session.Expire{}
}

var quiet = slog.New(slog.DiscardHandler)

func readerOf(books ...*memory) *Reader {
	cfg := ReaderConfig{Log: quiet}
	for _, b := range books {
		cfg.Books = append(cfg.Books, b)
	}
	return NewReader(cfg)
}

// walked is what a walk gives, by position.
func walked(t interface{ Fatal(...any) }, r *Reader, q Query) (all []Entry) {
	err := r.Walk(context.Background(), q, func(e Entry) error { all = append(all, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
