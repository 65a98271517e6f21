package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
)

func TestMain(m *testing.M) { bustest.Main(m) }

// rig is a real embedded bus with one partition and a way to run writers on it.
type rig struct {
	t      testing.TB
	server *bus.Embedded
	bus    *bus.Bus
	submit *bus.Submitter
	now    func() time.Time
}

func newRig(t testing.TB, dir string) *rig {
	t.Helper()
	ctx := context.Background()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir})
	must(t, err)
	b, err := server.Connect(ctx, "test", slog.New(slog.DiscardHandler))
	must(t, err)
	if err := b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}); !errors.Is(err, bus.ErrExists) {
		must(t, err)
	}
	_, err = b.Open(ctx)
	must(t, err)
	submit, err := b.NewSubmitter(bus.SubmitterConfig{})
	must(t, err)
	return &rig{t: t, server: server, bus: b, submit: submit, now: time.Now}
}

func (r *rig) close() {
	r.submit.Close()
	must(r.t, r.bus.Close())
	r.server.Shutdown()
}

func (r *rig) config() engine.Config {
	return engine.Config{
		Book: r.bus.Book(0), Alone: true, Policies: session.DefaultPolicies(), Now: r.now,
		Log: slog.New(slog.DiscardHandler),
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return r.bus.Intake(ctx, 0, epoch, incarnation, after)
		},
	}
}

// run runs a writer until stop is called, and fails the test when it ends by itself.
func (r *rig) run(cfg engine.Config) (stop func()) { return r.runs(engine.New(cfg)) }

func (r *rig) runs(w *engine.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("the writer ended with %v", err)
		}
	}
}

// do submits a command and returns the reply.
func (r *rig) do(cmd session.Command) session.Reply {
	r.t.Helper()
	return r.repeat(bus.NewCommandID(), cmd)
}

func (r *rig) repeat(id bus.CommandID, cmd session.Command) session.Reply {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := r.submit.Submit(ctx, bus.Command{ID: id, Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	must(r.t, err)
	reply, err := session.DecodeReply(answer.Body)
	must(r.t, err)
	return reply
}

// book folds everything that is stored.
func (r *rig) book() (*session.State, []session.Event) {
	r.t.Helper()
	ctx := context.Background()
	book := r.bus.Book(0)
	end, err := book.End(ctx)
	must(r.t, err)
	state, all := session.NewState(session.DefaultPolicies()), []session.Event(nil)
	must(r.t, book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return err
		}
		for _, data := range page.Events {
			e, err := session.DecodeEvent(data)
			if err != nil {
				return err
			}
			state.Apply(e)
			all = append(all, e)
		}
		return nil
	}))
	return state, all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// token and sessionID make distinct values from a number.
func token(kind byte, n int) session.TokenHash {
	return session.HashToken(string([]byte{kind, byte(n), byte(n >> 8), byte(n >> 16)}))
}

func sessionID(n int) session.SessionID {
	return session.SessionID{0: 0x5e, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

func login(user session.UserID, n int) *session.Login {
	return &session.Login{User: user, Venue: session.Genesis, Verdict: session.Matched, Credential: 1,
		Session: sessionID(n), Access: token('a', n), Refresh: token('r', n)}
}

func refresh(user session.UserID, n, generation int) *session.Refresh {
	return &session.Refresh{User: user, Venue: session.Genesis, Session: sessionID(n), Presented: token('r', n),
		Handle: session.Handle(sessionID(n<<8 | generation)), Access: token('b', n<<8|generation), Refresh: token('r', n)}
}

func logout(user session.UserID, n int) *session.Logout {
	return &session.Logout{User: user, Session: sessionID(n), Reason: session.LoggedOut}
}

func TestOneLife(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir)
	stop := r.run(r.config())
	if got := r.do(&session.Register{User: "jane", Credential: 1}); got.Refusal != session.Accepted {
		t.Fatal(got.Refusal)
	}
	wrong := login("jane", 1)
	wrong.Verdict = session.Mismatched
	if got := r.do(wrong); got.Refusal != session.WrongCredentials {
		t.Fatal(got.Refusal)
	}
	opened := r.do(login("jane", 1))
	if opened.Refusal != session.Accepted || opened.Session.Failed != 1 || opened.Session.Generation != 1 {
		t.Fatalf("%+v", opened)
	}
	id, cmd := bus.NewCommandID(), refresh("jane", 1, 2)
	first := r.repeat(id, cmd)
	if first.Refusal != session.Accepted || first.Session.Generation != 2 {
		t.Fatalf("%+v", first)
	}
	stop()
	r.close()

	// A new process on the same disk: the session is there, and the same command is answered from the book.
	r = newRig(t, dir)
	defer r.close()
	defer r.run(r.config())()
	again := r.repeat(id, cmd)
	again.Session.Scopes, first.Session.Scopes = nil, nil
	if a, b := session.EncodeReply(again), session.EncodeReply(first); string(a) != string(b) {
		t.Errorf("answered again differently:\n%+v\n%+v", again, first)
	}
	for range 2 {
		if got := r.do(logout("jane", 1)); got.Refusal != session.Accepted {
			t.Fatal(got.Refusal)
		}
	}
	_, events := r.book()
	var types []session.EventType
	for _, e := range events {
		types = append(types, e.Type())
	}
	want := []session.EventType{"UserRegistered", "LoginRejected", "SessionStarted", "SessionRefreshed", "SessionEnded"}
	if len(types) != len(want) {
		t.Fatalf("the book holds %v", types)
	}
	for i := range want {
		if types[i] != want[i] {
			t.Fatalf("the book holds %v", types)
		}
	}
}
