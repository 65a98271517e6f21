package projections_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real embedded bus with partitions, on which a test plays the writer.
type rig struct {
	t      *testing.T
	server *bus.Embedded
	bus    *bus.Bus
	last   []uint64
}

func newRig(t *testing.T, partitions int) *rig {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	b, err := server.Connect(ctx, "test", slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, b.Create(ctx, bus.Layout{Partitions: partitions, Replicas: 1}))
	t.Cleanup(func() {
		b.Close()
		server.Shutdown()
	})
	return &rig{t: t, server: server, bus: b, last: make([]uint64, partitions)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// append stores a page with one event that names the user, and gives its position.
func (r *rig) append(p bus.Partition, user session.UserID) bus.Position {
	r.t.Helper()
	event := session.AppendEvent(nil, &session.UserRegistered{Header: session.Header{At: 1, User: user}, Credential: 1})
	page, err := bus.EncodePage(bus.Page{Epoch: 1, Time: 1, Events: [][]byte{event}})
	must(r.t, err)
	return r.store(p, page)
}

func (r *rig) store(p bus.Partition, page []byte) bus.Position {
	r.t.Helper()
	book := r.bus.Book(p)
	seq, err := book.Append(context.Background(), r.last[p], page)
	for errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine: the book knows
		if seq, err = book.End(context.Background()); err == nil && seq == r.last[p] {
			seq, err = book.Append(context.Background(), r.last[p], page)
		}
	}
	must(r.t, err)
	r.last[p] = seq
	return bus.Position{Partition: p, Page: seq}
}

func (r *rig) follow(models ...projections.Model) (*projections.Follower, func() error) {
	var books []projections.Book
	for p := range r.last {
		books = append(books, r.bus.Book(bus.Partition(p)))
	}
	return r.followBooks(books, models...)
}

func (r *rig) followBooks(books []projections.Book, models ...projections.Model) (*projections.Follower, func() error) {
	cfg := projections.Config{Books: books, Models: models, Staleness: time.Second, Log: slog.New(slog.DiscardHandler)}
	f := projections.NewFollower(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	var err error
	stop := func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	r.t.Cleanup(func() { stop() })
	return f, stop
}

// seen is a model that remembers the users it was told of.
type seen struct {
	mu     sync.Mutex
	users  map[session.UserID]int
	refuse session.UserID
}

func (*seen) Name() string { return "seen" }

func (s *seen) Apply(page projections.Page) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = map[session.UserID]int{}
	}
	for _, e := range page.Events {
		user := e.(*session.UserRegistered).User
		if user == s.refuse {
			return errors.New("this one not")
		}
		s.users[user]++
	}
	return nil
}

func (s *seen) count(user session.UserID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[user]
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestReadYourWrites: after Await the model has seen the page, in every partition, whether it was stored before the
// follower started or after.
func TestReadYourWrites(t *testing.T) {
	r := newRig(t, 3)
	early := r.append(2, "early")
	model := &seen{}
	f, _ := r.follow(model)
	must(t, f.Await(timeout(t), early))
	if model.count("early") != 1 {
		t.Error("the page from before the start is missing")
	}
	for n := range 60 {
		user := session.UserID(fmt.Sprint("user-", n))
		must(t, f.Await(timeout(t), r.append(bus.Partition(n%3), user)))
		if model.count(user) != 1 {
			t.Fatalf("%s was seen %d times", user, model.count(user))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := f.Await(ctx, bus.Position{Partition: 1, Page: 1e6}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a page that is not there: %v", err)
	}
	if err := f.Await(timeout(t), bus.Position{Partition: 3}); err == nil {
		t.Error("a partition that is not followed is awaited")
	}
}

// TestBarrier: whatever was stored before the barrier was asked for is seen after it.
func TestBarrier(t *testing.T) {
	r := newRig(t, 2)
	model := &seen{}
	f, stop := r.follow(model)
	for n := range 30 {
		user := session.UserID(fmt.Sprint("user-", n))
		r.append(bus.Partition(n%2), user)
		var waiting sync.WaitGroup
		for range 8 {
			waiting.Go(func() {
				if err := f.Barrier(timeout(t)); err != nil {
					t.Error(err)
				}
				if model.count(user) != 1 {
					t.Errorf("%s is not seen after the barrier", user)
				}
			})
		}
		waiting.Wait()
	}
	if err := f.Fresh(); err != nil {
		t.Errorf("right after a barrier: %v", err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped with %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := f.Barrier(ctx); err == nil {
		t.Error("a barrier without a follower is reached")
	}
}

// pastBook is a book whose end is asked of a server that lives in the past.
type pastBook struct {
	*bus.Book
	behind atomic.Uint64 // by how many pages
}

func (k *pastBook) End(ctx context.Context) (uint64, error) {
	end, err := k.Book.End(ctx)
	return end - min(end, k.behind.Load()), err
}

// TestBarrierFromThePast: an end before the pages that are seen already says nothing of those that are not.
func TestBarrierFromThePast(t *testing.T) {
	r := newRig(t, 1)
	book := &pastBook{Book: r.bus.Book(0)}
	f, _ := r.followBooks([]projections.Book{book}, &seen{})
	r.append(0, "one")
	must(t, f.Await(timeout(t), r.append(0, "two")))
	book.behind.Store(1)
	if err := f.Barrier(timeout(t)); !errors.Is(err, projections.ErrStale) {
		t.Errorf("the barrier of an end before what is seen: %v", err)
	}
	book.behind.Store(0)
	must(t, f.Barrier(timeout(t)))
}

// TestFresh: a follower that nobody speaks to turns stale; an announcement makes it fresh; one that announces pages it
// has not seen does not.
func TestFresh(t *testing.T) {
	r := newRig(t, 1)
	f, _ := r.follow(&seen{})
	if err := f.Fresh(); !errors.Is(err, projections.ErrStale) {
		t.Errorf("before anything was heard: %v", err)
	}
	book := r.bus.Book(0)
	fresh := func(last uint64) bool {
		for range 100 {
			must(t, book.Announce(bus.Announcement{Epoch: 1, Last: last})) // again: the follower may just be starting
			if f.Fresh() == nil {
				return true
			}
			time.Sleep(time.Millisecond)
		}
		return false
	}
	if !fresh(0) {
		t.Error("an announcement of what is known leaves the follower stale")
	}
	time.Sleep(1100 * time.Millisecond)
	if err := f.Fresh(); !errors.Is(err, projections.ErrStale) {
		t.Errorf("after a second of silence: %v", err)
	}
	if fresh(17) {
		t.Error("an announcement of pages that are missing makes the follower fresh")
	}
}

// TestStuckBeatsGapped: a page that cannot be applied stops the follower with its position unmoved.
func TestStuckBeatsGapped(t *testing.T) {
	event := session.AppendEvent(nil, &session.UserRegistered{Header: session.Header{At: 1, User: "x"}, Credential: 1})
	unknown := append([]byte{}, event...)
	unknown[1] = 0x7f // a kind of event that this program does not know
	foreign, err := bus.EncodePage(bus.Page{Epoch: 1, Events: [][]byte{unknown}})
	must(t, err)
	for name, store := range map[string]func(*rig){
		"not a page":       func(r *rig) { r.store(0, []byte("not a page")) },
		"unknown event":    func(r *rig) { r.store(0, foreign) },
		"the model refuse": func(r *rig) { r.append(0, "refused") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			model := &seen{refuse: "refused"}
			f, _ := r.follow(model)
			good := r.append(0, "good")
			must(t, f.Await(timeout(t), good))
			store(r)
			after := r.append(0, "after")
			for deadline := time.Now().Add(20 * time.Second); !f.Lags()[0].Stuck; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the follower is not stuck")
				}
			}
			if got := f.Lags()[0].Position; got != good.Page || model.count("after") != 0 {
				t.Errorf("position %d, and the page after was seen %d times", got, model.count("after"))
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			if f.Await(ctx, after) == nil || f.Fresh() == nil {
				t.Error("a stuck follower passes for one that works")
			}
		})
	}
}
