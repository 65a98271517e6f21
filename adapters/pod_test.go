package adapters_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine/session"
)

// taken keeps the commands that are submitted, and answers none.
type taken chan session.Command

func (t taken) Submit(_ context.Context, cmd bus.Command) (bus.Reply, error) {
	decoded, err := session.DecodeCommand(session.Verb(cmd.Verb), cmd.Body)
	if err == nil {
		t <- decoded
	}
	return bus.Reply{}, errors.Join(errors.New("nobody answers"), err)
}

// nobody is a directory that is always up to date.
type nobody struct{ adapters.Directory }

func (nobody) Current(context.Context) error { return nil }

func (nobody) Seal(session.UserID, session.Origin) []byte { return []byte("sealed") }

// TestPodIsNamed: a bound login, and every use, names the pod that the client is on, and the pod says that it lives.
func TestPodIsNamed(t *testing.T) {
	commands, announced := make(taken, 8), make(chan session.PodID, 8)
	pod := session.PodID{7}
	gate := adapters.NewGate(adapters.Config{Submit: commands, Directory: nobody{}, Policies: session.DefaultPolicies(), Partitions: 1, Pod: pod,
		Announce: func(id session.PodID) error { announced <- id; return nil }, Timeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gate.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	judge := func(context.Context) (session.Credential, error) {
		return session.Credential{User: "jane", Generation: 1, Verdict: session.Matched}, nil
	}
	for _, bound := range []bool{true, false} {
		_, _, err := gate.Login(ctx, adapters.Login{Venue: session.Nebula, Name: "jane", Judge: judge, Bound: bound})
		if !errors.Is(err, adapters.ErrUnavailable) {
			t.Errorf("nobody answers, and the gate says %v", err)
		}
		if login := (<-commands).(*session.Login); (login.Pod == pod) != bound {
			t.Errorf("bound %t: on pod %s", bound, login.Pod)
		}
	}
	gate.Use(session.SessionID{1}, "jane")
	if touch := (<-commands).(*session.Touch); touch.Pod != pod {
		t.Errorf("a use on pod %s", touch.Pod)
	}
	if id := <-announced; id != pod {
		t.Errorf("announced %s", id)
	}
}
