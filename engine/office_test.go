package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
)

// process stands in for an operating system's process with writers: a connection of its own, a spread, a writer for
// each partition.
type process struct {
	t       *testing.T
	bus     *bus.Bus
	writers []*engine.Writer
	cancel  context.CancelFunc
	done    chan struct{}
}

func newProcess(t *testing.T, server *bus.Embedded, partitions int) *process {
	b, err := server.Connect(context.Background(), "engine", slog.New(slog.DiscardHandler))
	must(t, err)
	_, err = b.Open(context.Background())
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, bus: b, cancel: cancel, done: make(chan struct{})}
	spread := engine.NewSpread(b, partitions)
	ended := make(chan error, partitions+1)
	for n := range bus.Partition(partitions) {
		w := engine.New(engine.Config{
			Partition: n, Book: b.Book(n), Policies: session.DefaultPolicies(), Log: slog.New(slog.DiscardHandler), Spread: spread,
			OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
				intake, err := b.Intake(ctx, n, epoch, incarnation, after)
				if err != nil {
					return nil, err
				}
				return intake, nil
			},
		})
		p.writers = append(p.writers, w)
		go func() { ended <- w.Run(ctx) }()
	}
	sharing, leave := context.WithCancel(context.Background()) // a house stops it after the writers
	go func() { ended <- spread.Run(sharing) }()
	go func() {
		defer close(p.done)
		for range partitions {
			<-ended
		}
		leave()
		<-ended
	}()
	return p
}

// stop ends the process in order.
func (p *process) stop() {
	p.cancel()
	<-p.done
	_ = p.bus.Close()
}

// kill cuts the process off: nothing it says from here on is heard.
func (p *process) kill() {
	p.bus.Conn().Close()
	p.cancel()
	<-p.done
}

// writes counts the partitions that the process writes.
func (p *process) writes() (n int) {
	for _, w := range p.writers {
		if w.Role() == engine.Writing {
			n++
		}
	}
	return n
}

// ask has a command done in each partition and returns when all are answered.
func ask(t *testing.T, submit *bus.Submitter, partitions int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for p := range bus.Partition(partitions) {
		cmd := &session.Register{User: session.UserID(bus.NewCommandID().String()), Credential: 1}
		answer, err := submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Partition: p, Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
		must(t, err)
		reply, err := session.DecodeReply(answer.Body)
		must(t, err)
		if reply.Refusal != session.Accepted {
			t.Fatal(reply.Refusal)
		}
	}
}

// TestThreeProcesses spreads eight partitions over three processes, stops one and kills one, in virtual time.
func TestThreeProcesses(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const partitions = 8
		server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
		must(t, err)
		b, err := server.Connect(context.Background(), "test", slog.New(slog.DiscardHandler))
		must(t, err)
		must(t, b.Create(context.Background(), bus.Layout{Partitions: partitions, Replicas: 1}))
		submit, err := b.NewSubmitter(bus.SubmitterConfig{})
		must(t, err)
		defer server.Shutdown()
		defer submit.Close()

		one := newProcess(t, server, partitions)
		ask(t, submit, partitions)
		if n := one.writes(); n != partitions {
			t.Fatalf("alone, a process writes %d partitions", n)
		}
		two, three := newProcess(t, server, partitions), newProcess(t, server, partitions)
		balanced := func(within time.Duration, least int, all ...*process) {
			t.Helper()
			start := time.Now()
			for {
				total, low := 0, partitions
				for _, p := range all {
					total += p.writes()
					low = min(low, p.writes())
				}
				if total == partitions && low >= least {
					return
				}
				if time.Since(start) > within {
					t.Fatalf("after %s: %d, %d and %d partitions", within, one.writes(), two.writes(), three.writes())
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		balanced(10*time.Second, 2, one, two, three)
		ask(t, submit, partitions)
		time.Sleep(20 * time.Second)
		balanced(0, 2, one, two, three) // and it stays so

		start := time.Now()
		two.stop()
		ask(t, submit, partitions)
		if took := time.Since(start); took > 150*time.Millisecond {
			t.Errorf("after an orderly stop the partitions stood still for %s", took)
		}
		balanced(10*time.Second, 4, one, three)

		time.Sleep(5 * time.Second)
		start = time.Now()
		three.kill()
		ask(t, submit, partitions)
		if took := time.Since(start); took < 200*time.Millisecond || took > 600*time.Millisecond {
			t.Errorf("after a kill the partitions stood still for %s", took)
		}
		balanced(0, partitions, one)
		one.stop()
	})
}

// deaf is a book whose other writers are not heard.
type deaf struct{ engine.Book }

func (deaf) Announcements(func(bus.Announcement)) (func(), error) { return func() {}, nil }

// start runs a writer until stop is called, and waits until it does what it is to do.
func (r *rig) start(cfg engine.Config, role int32) (w *engine.Writer, stop func()) {
	r.t.Helper()
	w = engine.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(stop)
	become(r.t, w, role)
	return w, stop
}

// become waits until a writer has a role; a loaded machine takes its time.
func become(t testing.TB, w *engine.Writer, role int32) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); w.Role() != role; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the writer has role %d, not %d", w.Role(), role)
		}
	}
}

// trimmed is an intake that misses registrations: they were done, and removed, while its writer was paused.
type trimmed struct{ engine.Intake }

func (i trimmed) Take(ctx context.Context) ([]bus.Received, error) {
	got, err := i.Intake.Take(ctx)
	return slices.DeleteFunc(got, func(r bus.Received) bool { return r.Verb == string(session.VerbRegister) }), err
}

// TestDeposedWriterRefusesNothing: a writer that does not know of its successor answers nothing on its old state,
// although a refusal takes no append.
func TestDeposedWriterRefusesNothing(t *testing.T) {
	r := newRig(t, t.TempDir())
	t.Cleanup(r.close)
	for n := range 6 {
		old := r.config()
		old.Alone, old.Book = false, deaf{r.bus.Book(0)}
		old.OpenIntake = func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			intake, err := r.bus.Intake(ctx, 0, epoch, incarnation, after)
			if err != nil {
				return nil, err
			}
			return trimmed{intake}, nil
		}
		_, stopOld := r.start(old, engine.Writing)
		_, stopNext := r.start(r.config(), engine.Writing) // does not ask whether there is another
		// Both are given what follows, and the first to answer is believed. The old one has not heard of the user.
		user := session.UserID(fmt.Sprint("user-", n))
		for _, cmd := range []session.Command{&session.Register{User: user, Credential: 1}, &session.Disable{User: user}} {
			if got := r.do(cmd); got.Refusal != session.Accepted {
				t.Fatalf("%s %d: %s", cmd.Verb(), n, got.Refusal)
			}
		}
		stopNext()
		stopOld()
	}
}

// counting counts the pages that are read by Read, as a start and a take-over do; Follow is left alone.
type counting struct {
	engine.Book
	pages atomic.Int64
}

func (c *counting) Read(ctx context.Context, after, through uint64, fn func(bus.StoredPage) error) error {
	return c.Book.Read(ctx, after, through, func(p bus.StoredPage) error { c.pages.Add(1); return fn(p) })
}

// TestTakeOverReadsTheTail: a standby has folded the book when its writer resigns, and reads no more than the few pages
// that it may not have been shown yet.
func TestTakeOverReadsTheTail(t *testing.T) {
	r := newRig(t, t.TempDir())
	t.Cleanup(r.close)
	cfg := r.config()
	cfg.Alone = false
	_, stopFirst := r.start(cfg, engine.Writing)
	register := func(name string) {
		for n := range 100 {
			r.do(&session.Register{User: session.UserID(fmt.Sprint(name, n)), Credential: 1})
		}
	}
	register("early-")
	book := &counting{Book: r.bus.Book(0)}
	cfg.Book = book
	second, _ := r.start(cfg, engine.StandingBy)
	register("late-")
	read := book.pages.Load()
	if read < 100 {
		t.Fatalf("the standby read %d pages at its start", read)
	}
	stopFirst()
	become(t, second, engine.Writing)
	if more := book.pages.Load() - read; more > 50 {
		t.Errorf("taking over read %d pages of 200", more)
	}
	if got := r.do(&session.Register{User: "late-7", Credential: 1}); got.Refusal == session.Accepted {
		t.Error("the standby had not folded what came while it stood by")
	}
}

// TestIdleWriterIsDeposed: a writer without work learns of its successor, as one does that was paused, and stands by.
func TestIdleWriterIsDeposed(t *testing.T) {
	r := newRig(t, t.TempDir())
	t.Cleanup(r.close)
	cfg := r.config()
	cfg.Alone = false
	first, _ := r.start(cfg, engine.Writing)
	_, stop := r.start(r.config(), engine.Writing)
	become(t, first, engine.StandingBy)
	r.do(&session.Register{User: "jane", Credential: 1})
	stop() // alone, it does not resign: the first hears the silence
	become(t, first, engine.Writing)
	if got := r.do(login("jane", 1)); got.Refusal != session.Accepted {
		t.Error(got.Refusal)
	}
}
