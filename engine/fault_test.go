package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
)

// faulty is the real book with failing appends. What happens to an append is decided by fault, which is given the
// number of the append from 1; nil leaves it alone.
type faulty struct {
	engine.Book
	mu    sync.Mutex
	n     int
	fault func(n int, inner func() (uint64, error)) (uint64, error)
}

func (f *faulty) Append(ctx context.Context, last uint64, page []byte) (uint64, error) {
	f.mu.Lock()
	f.n++
	n := f.n
	f.mu.Unlock()
	return f.fault(n, func() (uint64, error) { return f.Book.Append(ctx, last, page) })
}

// Each fault twice: the page was not stored, and it was stored though the append failed.
var faults = map[string]struct {
	err    error
	stored bool
}{
	"conflict, not stored":  {bus.ErrConflict, false},
	"conflict, stored":      {bus.ErrConflict, true},
	"in flight, not stored": {bus.ErrInFlight, false},
	"in flight, stored":     {bus.ErrInFlight, true},
	"refused, not stored":   {bus.ErrNotStored, false},
	"unknown, not stored":   {bus.ErrOutcomeUnknown, false},
	"unknown, stored":       {bus.ErrOutcomeUnknown, true},
	"cancelled, not stored": {context.DeadlineExceeded, false},
	"cancelled, stored":     {context.DeadlineExceeded, true},
}

// TestAppendFaults lets every append fail once in each way while a session is opened, refreshed and ended, and checks
// after each step that what was answered is in the book, once.
func TestAppendFaults(t *testing.T) {
	for name, fault := range faults {
		for every := 1; every <= 3; every++ {
			t.Run(fmt.Sprintf("%s, one in %d", name, every), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, t.TempDir())
				defer r.close()
				injected := 0
				book := &faulty{Book: r.bus.Book(0)}
				book.fault = func(n int, inner func() (uint64, error)) (uint64, error) {
					if n == 1 || n%(every+1) != 0 {
						return inner()
					}
					injected++
					if fault.stored {
						if _, err := inner(); err != nil {
							return 0, err
						}
					}
					return 0, fault.err
				}
				cfg := r.config()
				cfg.Book, cfg.Snapshots = book, r.bus.Book(0)
				w := engine.New(cfg)
				stop := r.runs(w)
				ctx, cancel := context.WithCancel(t.Context())
				var snapshots sync.WaitGroup // one after each page, so that the state is rebuilt from them
				snapshots.Go(func() { _ = r.snapshotter(w, 1, time.Millisecond, nil).Run(ctx) })
				checkLife(t, r)
				r.sameBothWays()
				cancel()
				snapshots.Wait()
				stop()
				if injected == 0 {
					t.Error("no fault was injected")
				}
			})
		}
	}
}

// checkLife goes through a user's life and compares the book with what was answered after each step.
func checkLife(t *testing.T, r *rig) {
	t.Helper()
	r.do(&session.Register{User: "jane", Credential: 1})
	for n := 1; n <= 3; n++ {
		step := func(what string, cmd session.Command, live bool, generation uint32) {
			t.Helper()
			if got := r.do(cmd); got.Refusal != session.Accepted {
				t.Fatalf("%s %d: refused: %s", what, n, got.Refusal)
			}
			state, events := r.book()
			s, found := state.Session(sessionID(n))
			if found != live || s.Generation != generation {
				t.Fatalf("after %s %d the book holds %+v, %t", what, n, s, found)
			}
			checkOnce(t, events)
		}
		step("login", login("jane", n), true, 1)
		step("refresh", refresh("jane", n, 2), true, 2)
		step("refresh", refresh("jane", n, 3), true, 3)
		step("logout", logout("jane", n), false, 0)
	}
}

// checkOnce checks that no session started or ended twice, and no generation was reached twice.
func checkOnce(t *testing.T, events []session.Event) {
	t.Helper()
	seen := map[string]bool{}
	once := func(format string, args ...any) {
		t.Helper()
		key := fmt.Sprintf(format, args...)
		if seen[key] {
			t.Fatalf("twice in the book: %s", key)
		}
		seen[key] = true
	}
	for _, event := range events {
		switch e := event.(type) {
		case *session.SessionStarted:
			once("start of %s", e.Session)
		case *session.SessionRefreshed:
			once("generation %d of %s", e.Generation, e.Session)
		case *session.SessionEnded:
			once("end of %s", e.Session)
		case *session.UserRegistered:
			once("registration of %s", e.User)
		}
	}
}

// TestFaultsUnderLoad injects random faults while many clients work at once.
func TestFaultsUnderLoad(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.close()
	random := rand.New(rand.NewPCG(1, 2)) // used by the writer's goroutine alone
	injected := 0
	book := &faulty{Book: r.bus.Book(0)}
	book.fault = func(n int, inner func() (uint64, error)) (uint64, error) {
		if n == 1 || random.IntN(4) != 0 {
			return inner()
		}
		injected++
		if random.IntN(2) == 0 {
			if _, err := inner(); err != nil {
				return 0, err
			}
		}
		return 0, bus.ErrOutcomeUnknown
	}
	cfg := r.config()
	cfg.Book = book
	stop := r.run(cfg)
	const users, rounds = 32, 6
	var clients sync.WaitGroup
	for u := range users {
		clients.Go(func() {
			user := session.UserID(fmt.Sprintf("user-%d", u))
			r.do(&session.Register{User: user, Credential: 1})
			for round := range rounds {
				n := u*rounds + round + 1
				for _, cmd := range []session.Command{login(user, n), refresh(user, n, 2), logout(user, n)} {
					if round == rounds-1 && cmd.Verb() == session.VerbLogout {
						continue // the last session of each stays
					}
					if got := r.do(cmd); got.Refusal != session.Accepted {
						t.Errorf("%s of %s: %s", cmd.Verb(), user, got.Refusal)
					}
				}
			}
		})
	}
	clients.Wait()
	stop()
	state, events := r.book()
	checkOnce(t, events)
	if state.Sessions() != users || injected == 0 {
		t.Errorf("%d sessions are left of %d, with %d faults", state.Sessions(), users, injected)
	}
}

// TestFence pauses a writer in the middle of an append, lets another take over, and checks that the first can not
// append any more, notices, and that no command is done twice.
func TestFence(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.close()
	paused, resume := make(chan struct{}), make(chan struct{})
	book := &faulty{Book: r.bus.Book(0)}
	book.fault = func(n int, inner func() (uint64, error)) (uint64, error) {
		if n == 3 { // after the opening page and the registration
			close(paused)
			<-resume
		}
		return inner()
	}
	first := r.config()
	first.Book, first.Alone = book, false
	stopFirst := r.run(first)
	r.do(&session.Register{User: "jane", Credential: 1})

	done := make(chan session.Reply, 1)
	go func() { done <- r.do(login("jane", 1)) }()
	<-paused
	stopSecond := r.run(r.config()) // does not ask whether there is another
	got := <-done                   // from the second
	if got.Refusal != session.Accepted {
		t.Fatal(got.Refusal)
	}
	close(resume)
	if got := r.do(logout("jane", 1)); got.Refusal != session.Accepted {
		t.Fatal(got.Refusal)
	}
	stopFirst()
	stopSecond()
	_, events := r.book()
	checkOnce(t, events)
}

// TestExpiryIsExact runs the real server in virtual time: a session is there one nanosecond before its deadline and has
// ended, in the book, at the deadline.
func TestExpiryIsExact(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		defer r.close()
		cfg := r.config()
		cfg.Policies.Venues = map[session.Venue]session.Policy{
			session.Genesis: {Absolute: time.Hour, Idle: 10 * time.Minute, Refreshable: true, OneTimeLifetime: time.Minute},
		}
		defer r.run(cfg)()
		r.do(&session.Register{User: "jane", Credential: 1})
		opened := r.do(login("jane", 1)).Session
		deadline := opened.Started.Add(10 * time.Minute)
		if opened.Deadline() != deadline {
			t.Fatalf("deadline %s after the start", time.Duration(opened.Deadline()-opened.Started))
		}
		time.Sleep(time.Until(deadline.Time()) - 1)
		synctest.Wait()
		if state, _ := r.book(); state.Sessions() != 1 {
			t.Fatal("the session ended early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		waitFor(t, func() bool { state, _ := r.book(); return state.Sessions() == 0 })
		_, events := r.book()
		end, ok := events[len(events)-1].(*session.SessionEnded)
		if !ok || end.Reason != session.Expired || end.At != deadline {
			t.Fatalf("the last event is %T %+v, %s after the deadline", events[len(events)-1], events[len(events)-1], time.Duration(end.At-deadline))
		}
		if got := r.do(refresh("jane", 1, 2)); got.Refusal != session.InvalidToken {
			t.Errorf("refresh of an ended session: %s", got.Refusal)
		}
	})
}

// waitFor asks again until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for range 1000 {
		if condition() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it did not happen")
}

// TestMassExpiry lets more sessions expire at once than fit one page.
func TestMassExpiry(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		defer r.close()
		cfg := r.config()
		cfg.Policies.Venues = map[session.Venue]session.Policy{session.Genesis: {Absolute: time.Hour, OneTimeLifetime: time.Minute}}
		defer r.run(cfg)()
		const sessions = 2*session.MaxExpired + 7
		var clients sync.WaitGroup
		for c := range 8 {
			clients.Go(func() {
				user := session.UserID(fmt.Sprint("user-", c))
				r.do(&session.Register{User: user, Credential: 1})
				for n := c; n < sessions; n += 8 {
					if got := r.do(login(user, n+1)); got.Refusal != session.Accepted {
						t.Errorf("login %d: %s", n, got.Refusal)
					}
				}
			})
		}
		clients.Wait()
		time.Sleep(2 * time.Hour)
		waitFor(t, func() bool { state, _ := r.book(); return state.Sessions() == 0 })
		_, events := r.book()
		checkOnce(t, events)
	})
}

// TestClockSetBack: when the machine's clock is set back by an hour the book's clock stands still, and the writer works on.
func TestClockSetBack(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	stop := r.run(r.config())
	r.do(&session.Register{User: "jane", Credential: 1})
	stop()
	before, _ := r.book()
	r.now = func() time.Time { return time.Now().Add(time.Hour) }
	stop = r.run(r.config())
	ahead := r.do(login("jane", 1)).Session
	stop()
	r.now = time.Now
	defer r.close()
	defer r.run(r.config())()
	behind := r.do(login("jane", 2)).Session
	if behind.Started < ahead.Started || ahead.Started < before.Clock() {
		t.Errorf("the book's clock ran backwards: %d, then %d", ahead.Started, behind.Started)
	}
}

// TestStaleCommandsAreLeft: what waited while nobody wrote, and is ten seconds older than what waits beside it, is not done.
func TestStaleCommandsAreLeft(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		defer r.close()
		stop := r.run(r.config())
		r.do(&session.Register{User: "jane", Credential: 1})
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		defer cancel()
		old := login("jane", 1)
		_, err := r.submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(old.Verb()), Body: session.EncodeCommand(old)})
		if !errors.Is(err, bus.ErrNoOutcome) {
			t.Fatalf("without a writer: %v", err)
		}
		time.Sleep(11 * time.Second)
		answered := make(chan session.Reply, 1)
		go func() { answered <- r.do(login("jane", 2)) }()
		time.Sleep(100 * time.Millisecond)
		defer r.run(r.config())()
		if got := <-answered; got.Refusal != session.Accepted {
			t.Fatal(got.Refusal)
		}
		state, _ := r.book()
		if _, done := state.Session(sessionID(1)); done || state.Sessions() != 1 {
			t.Errorf("the command of whoever gave up was done: %t, of %d sessions", done, state.Sessions())
		}
	})
}

// TestDiskComesBack: while pages cannot be stored the writer says so, and it finds out by itself when they can be again.
func TestDiskComesBack(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		defer r.close()
		var full atomic.Bool
		book := &faulty{Book: r.bus.Book(0)}
		book.fault = func(_ int, inner func() (uint64, error)) (uint64, error) {
			if full.Load() {
				return 0, bus.ErrOutcomeUnknown
			}
			return inner()
		}
		cfg := r.config()
		cfg.Book = book
		w := engine.New(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		r.do(&session.Register{User: "jane", Credential: 1})
		full.Store(true)
		give, stop := context.WithTimeout(context.Background(), 3*time.Second)
		defer stop()
		cmd := login("jane", 1)
		if _, err := r.submit.Submit(give, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)}); !errors.Is(err, bus.ErrNoOutcome) {
			t.Errorf("with a full disk: %v", err)
		}
		if w.Role() != engine.Failing {
			t.Errorf("role %d while pages are not stored", w.Role())
		}
		full.Store(false)
		waitFor(t, func() bool { return w.Role() == engine.Writing })
		if got := r.do(login("jane", 2)); got.Refusal != session.Accepted {
			t.Error(got.Refusal)
		}
		cancel()
		<-done
	})
}

// TestDiskStaysFull: a writer alone on its bus gives up in the end, because only a new process may do better.
func TestDiskStaysFull(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		defer r.close()
		book := &faulty{Book: r.bus.Book(0)}
		book.fault = func(n int, inner func() (uint64, error)) (uint64, error) {
			if n > 2 {
				return 0, bus.ErrNotStored
			}
			return inner()
		}
		cfg := r.config()
		cfg.Book = book
		done := make(chan error, 1)
		go func() { done <- engine.New(cfg).Run(context.Background()) }()
		r.do(&session.Register{User: "jane", Credential: 1})
		give, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		cmd := login("jane", 1)
		_, _ = r.submit.Submit(give, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
		if err := <-done; !errors.Is(err, engine.ErrCannotWrite) {
			t.Errorf("the writer ended with %v", err)
		}
	})
}

// TestDamagedBookStopsTheWriter: a page that is not what was written is never passed over.
func TestDamagedBookStopsTheWriter(t *testing.T) {
	r := newRig(t, t.TempDir())
	defer r.close()
	_, err := r.bus.Book(0).Append(context.Background(), 0, []byte("not a page"))
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := engine.New(r.config()).Run(ctx); !errors.Is(err, bus.ErrDamagedPage) {
		t.Errorf("the writer ended with %v", err)
	}
}
