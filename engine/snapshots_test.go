package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
)

// reign is a writer at work, with what it says in its log.
type reign struct {
	writer *engine.Writer
	log    *lines
	stop   func()
}

// lines are what a log says, one record after the other.
type lines struct {
	mu  sync.Mutex
	all []map[string]any
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var record map[string]any
	err := json.Unmarshal(line, &record)
	l.all = append(l.all, record)
	return len(line), err
}

// last is the attribute of the latest record with this message.
func (l *lines) last(message, attribute string) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.all) - 1; i >= 0; i-- {
		if l.all[i]["msg"] == message {
			return l.all[i][attribute]
		}
	}
	return nil
}

// reign runs a writer that uses snapshots, and returns when it writes.
func (r *rig) reign() *reign {
	r.t.Helper()
	said := &lines{}
	cfg := r.config()
	cfg.Snapshots, cfg.Log = r.bus.Book(0), slog.New(slog.NewJSONHandler(said, nil))
	w := engine.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for w.Role() != engine.Writing {
		select {
		case err := <-done:
			r.t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	return &reign{w, said, sync.OnceFunc(func() { cancel(); <-done })}
}

func (r *rig) snapshotter(w *engine.Writer, every int, pause time.Duration, metrics *engine.Metrics) *engine.Snapshotter {
	return engine.NewSnapshotter(engine.SnapshotterConfig{Book: r.bus.Book(0), Snapshots: r.bus.Book(0), Writer: w, Every: every,
		Pause: pause, Now: r.now, Log: slog.New(slog.DiscardHandler), Metrics: metrics})
}

// contents is all that a state holds, in bytes.
func contents(t testing.TB, s *session.State) []byte {
	t.Helper()
	var all []byte
	must(t, s.Snapshot(func(chunk []byte) error { all = append(all, chunk...); return nil }))
	return all
}

// shortCut is the state by the newest good snapshot and the pages after it, and the snapshot's page; zero without one.
func (r *rig) shortCut() (state *session.State, page uint64) {
	r.t.Helper()
	ctx, book := context.Background(), r.bus.Book(0)
	from, _, err := book.Restore(ctx, session.SnapshotVersion, func(chunks iter.Seq2[[]byte, error]) (err error) {
		state, err = session.ReadSnapshot(session.DefaultPolicies(), chunks)
		return err
	})
	must(r.t, err)
	if from.Page == 0 {
		state = session.NewState(session.DefaultPolicies())
	}
	end, err := book.End(ctx)
	must(r.t, err)
	must(r.t, book.Read(ctx, from.Page, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		for _, data := range page.Events {
			e, err := session.DecodeEvent(data)
			if err != nil {
				return err
			}
			state.Apply(e)
		}
		return err
	}))
	return state, from.Page
}

// sameBothWays checks that the snapshot and its tail give what the whole book gives.
func (r *rig) sameBothWays() (page uint64) {
	r.t.Helper()
	whole, _ := r.book()
	short, page := r.shortCut()
	if !bytes.Equal(contents(r.t, whole), contents(r.t, short)) {
		r.t.Errorf("the snapshot of page %d and the rest of the book give another state than the book", page)
	}
	return page
}

// patient is for what the client library would give up after a second.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestStartFromSnapshot: whatever has become of the snapshots, a writer that starts knows what it knew: who is locked, what
// is used up, what was answered. Only where it begins to read differs.
func TestStartFromSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, dir)
	var ticks atomic.Int64
	start := time.Now() // however slow the machine, the memory of answers must not run out meanwhile
	r.now = func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Microsecond) }
	w := r.reign()
	snapshots := r.snapshotter(w.writer, 0, 0, nil)
	r.do(&session.Register{User: "jane", Credential: 2})
	r.do(&session.Register{User: "joe", Credential: 1})
	wrong := login("joe", 90)
	wrong.Verdict = session.Mismatched
	for range 5 {
		r.do(wrong)
	}
	early, late := bus.NewCommandID(), bus.NewCommandID()
	opened := login("jane", 1)
	opened.Credential, opened.Nonce = 2, token('n', 1)
	first := r.repeat(early, opened)
	r.do(&session.IssueOneTime{User: "jane", Venue: session.TraderEvolution, Token: token('o', 1), Lifetime: time.Hour})
	must(t, snapshots.Take(t.Context()))
	second := r.repeat(late, refresh("jane", 1, 2))
	extra := login("jane", 2)
	extra.Credential = 2
	r.do(extra)
	r.do(logout("jane", 2))
	must(t, snapshots.Take(t.Context()))
	list, err := r.bus.Book(0).Snapshots(t.Context())
	must(t, err)
	if len(list) != 2 || list[0].Sessions != 1 || list[0].Events <= list[1].Events {
		t.Fatalf("%+v", list)
	}
	r.do(&session.Touch{User: "jane", Session: sessionID(1)})
	w.stop()

	damage := func(slot int) func() {
		return func() {
			_, err := r.bus.JetStream().Publish(patient(t), bus.SnapshotChunkSubject(0, slot, 0), []byte("damaged"))
			must(t, err)
		}
	}
	for _, c := range []struct {
		name string
		what func()
		from uint64 // the page after which the writer reads
	}{
		{"whole", func() {}, list[0].Page},
		{"the newest damaged", damage(list[0].Slot), list[1].Page},
		{"both damaged", damage(list[1].Slot), 0},
		{"the list damaged", func() {
			_, err := r.bus.JetStream().Publish(patient(t), bus.SnapshotSubject(0), []byte(`{"version":1}`))
			must(t, err)
		}, 0},
		{"none", func() { must(t, r.bus.JetStream().DeleteStream(patient(t), bus.StreamSnapshots)) }, 0},
	} {
		c.what()
		w := r.reign()
		if from := w.log.last("read the book", "after"); from != float64(c.from) {
			t.Errorf("%s: the writer read the book after page %v, want %d", c.name, from, c.from)
		}
		for id, want := range map[bus.CommandID]session.Reply{early: first, late: second} {
			again := r.repeat(id, &session.Logout{User: "jane", Session: sessionID(1), Reason: session.LoggedOut})
			if again.Refusal != want.Refusal || again.Session.ID != want.Session.ID {
				t.Errorf("%s: a repeated command is answered with %+v, before with %+v", c.name, again, want)
			}
		}
		for what, check := range map[string]struct {
			cmd  session.Command
			want session.Refusal
		}{
			"a locked account":       {login("joe", 91), session.Locked},
			"an outdated credential": {login("jane", 3), session.StaleCredential},
			"a session's id":         {&session.Login{User: "jane", Venue: session.Genesis, Verdict: session.Matched, Credential: 2, Session: sessionID(2), Access: token('x', 1), Refresh: token('x', 2)}, session.AlreadyExists},
			"an ended session":       {logout("jane", 2), session.Accepted},
			"an earlier generation":  {&session.Logout{User: "jane", Session: sessionID(1), Reason: session.LoggedOut, Generation: 1}, session.Superseded},
			"a one-time token":       {&session.IssueOneTime{User: "jane", Venue: session.TraderEvolution, Token: token('o', 1)}, session.AlreadyExists},
		} {
			if got := r.do(check.cmd); got.Refusal != check.want {
				t.Errorf("%s: %s is answered with %s, want %s", c.name, what, got.Refusal, check.want)
			}
		}
		w.stop()
		r.sameBothWays()
	}
	r.close()
}

// TestSnapshotsWhileWriting: snapshots are written one after the other while clients work, and the server is stopped
// in the middle of it again and again. Whatever is left, the snapshot and its tail give what the book gives.
func TestSnapshotsWhileWriting(t *testing.T) {
	t.Parallel()
	dir, used := t.TempDir(), 0
	for round := range 6 {
		r := newRig(t, dir)
		if r.sameBothWays() > 0 {
			used++
		}
		w := r.reign()
		ctx, cancel := context.WithCancel(t.Context())
		var working sync.WaitGroup
		working.Go(func() {
			if err := r.snapshotter(w.writer, 1, time.Millisecond, nil).Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the snapshotter ended with %v", err)
			}
		})
		var answered atomic.Int64
		for c := range 4 {
			working.Go(func() {
				user := benchUser(c)
				do := func(cmd session.Command) {
					if _, err := r.submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)}); err == nil {
						answered.Add(1)
					}
				}
				do(&session.Register{User: user, Credential: 1})
				for n := 0; ctx.Err() == nil; n++ {
					k := round<<16 | c<<12 | n
					do(login(user, k))
					do(refresh(user, k, 2))
					if n%3 > 0 {
						do(logout(user, k))
					}
				}
			})
		}
		// Some snapshots are listed before it all stops, at a moment of its own choice.
		for listed := 0; listed < 3; {
			list, err := r.bus.Book(0).Snapshots(t.Context())
			must(t, err)
			if len(list) > 0 && answered.Load() > int64(40*listed) {
				listed++
			}
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
		if round%2 == 0 {
			cancel() // the bus is there still, and finishes what it has
			working.Wait()
			w.stop()
			r.close()
		} else {
			r.server.Shutdown() // under the feet of everybody
			cancel()
			working.Wait()
			w.stop()
			r.submit.Close()
		}
	}
	if used == 0 {
		t.Error("no start had a snapshot: nothing is proved")
	}
}

// TestSnapshotIsDue, in virtual time: the first after so many events, the next after as many again, but not before the
// pause is over, and none when the writer stops; and what the metrics say.
func TestSnapshotIsDue(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		r := newRig(t, t.TempDir())
		w := r.reign()
		metrics := engine.NewMetrics()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.snapshotter(w.writer, 10, time.Minute, metrics).Run(ctx) }()
		newest := func() uint64 {
			list, err := r.bus.Book(0).Snapshots(t.Context())
			must(t, err)
			if len(list) == 0 {
				return 0
			}
			return list[0].Events
		}
		grow := func(events int) {
			for range events {
				r.do(&session.Register{User: benchUser(rand.IntN(1 << 30)), Credential: 1})
			}
		}
		after := func(d time.Duration, want uint64) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := newest(); got != want {
				t.Errorf("the newest snapshot has %d events, want %d", got, want)
			}
		}
		grow(9)
		after(time.Hour, 0)
		grow(1)
		after(3*time.Second, 10)
		grow(25)
		after(50*time.Second, 10) // not so soon
		after(15*time.Second, 35)
		grow(9)
		after(time.Hour, 35)
		if age := gauge(t, metrics, "rollbook_snapshot_age_events"); age != 9 {
			t.Errorf("the age is %v events", age)
		}
		if age := gauge(t, metrics, "rollbook_snapshot_age_seconds"); age < 3500 || age > 3700 {
			t.Errorf("the age is %v seconds", age)
		}
		if size := gauge(t, metrics, "rollbook_snapshot_bytes"); size <= 0 {
			t.Errorf("the size is %v bytes", size)
		}
		grow(1)
		w.stop()
		after(time.Hour, 35) // another process may write, and its snapshots
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		r.close()
	})
}

// gauge is the value of the only sample of a metric.
func gauge(t *testing.T, m *engine.Metrics, name string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is not one sample of %s", name)
	return 0
}
