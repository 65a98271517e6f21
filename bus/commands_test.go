package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
)

func TestSubmitAndReply(t *testing.T) {
	b := created(t, 2)
	stop := startWriter(t, b)
	defer stop()
	s, err := b.NewSubmitter(bus.SubmitterConfig{})
	ok(t, err)
	defer s.Close()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				id := bus.NewCommandID()
				r, err := s.Submit(soon(t), bus.Command{ID: id, Verb: "login", Body: []byte("body")})
				if err != nil {
					t.Error(err)
					return
				}
				if string(r.Body) != string(id[:]) || r.Position.Page == 0 || r.Position.Partition != 0 {
					t.Errorf("command %s got the outcome %x at %s", id, r.Body, r.Position)
				}
			}
		})
	}
	wg.Wait()
}

// TestIntakeOrder takes what was submitted in order, of one's own partition
// only, and goes on after a position.
func TestIntakeOrder(t *testing.T) {
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			b := created(t, partitions)
			s, err := b.NewSubmitter(bus.SubmitterConfig{})
			ok(t, err)
			defer s.Close()
			for i := range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				_, err := s.Submit(ctx, bus.Command{ID: bus.CommandID{byte(i)}, Partition: bus.Partition(i % partitions), Verb: "v-" + fmt.Sprint(i), Body: []byte{byte(i)}})
				cancel()
				want(t, err, bus.ErrNoOutcome)
			}
			in, err := b.Intake(t.Context(), 0, 1, 0, 0)
			ok(t, err)
			got := takeN(t, in, 10/partitions)
			for i, c := range got {
				n := byte(i * partitions)
				if c.ID != (bus.CommandID{n}) || c.Verb != "v-"+fmt.Sprint(n) || c.Body[0] != n || time.Since(c.Stored).Abs() > time.Minute {
					t.Errorf("command %d is %+v", i, c)
				}
			}
			in.Close()
			in, err = b.Intake(t.Context(), 0, 1, in.Incarnation(), got[1].Seq)
			ok(t, err)
			if next := takeN(t, in, 1)[0]; next.Seq != got[2].Seq {
				t.Errorf("after %d came %d, want %d", got[1].Seq, next.Seq, got[2].Seq)
			}
			in.Close()
			in, err = b.Intake(t.Context(), 0, 1, in.Incarnation()+1, got[1].Seq)
			ok(t, err)
			if next := takeN(t, in, 1)[0]; next.Seq != got[0].Seq {
				t.Errorf("in another incarnation the first command is %d, want %d", next.Seq, got[0].Seq)
			}
			in.Close()
		})
	}
}

// takeN takes at least n commands and returns copies.
func takeN(t *testing.T, in *bus.Intake, n int) (all []bus.Received) {
	t.Helper()
	for len(all) < n {
		got, err := in.Take(soon(t))
		ok(t, err)
		all = append(all, got...)
	}
	return all
}

// TestRepeats has no writer at first: the same id is published again, and the
// outcome of either reaches the sender.
func TestRepeats(t *testing.T) {
	b := created(t, 1)
	s, err := b.NewSubmitter(bus.SubmitterConfig{Retry: 20 * time.Millisecond})
	ok(t, err)
	defer s.Close()
	id := bus.NewCommandID()
	done := make(chan error, 1)
	go func() {
		r, err := s.Submit(soon(t), bus.Command{ID: id, Verb: "login"})
		if err == nil && string(r.Body) != "done" {
			err = fmt.Errorf("outcome %q", r.Body)
		}
		done <- err
	}()
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	defer in.Close()
	got := takeN(t, in, 3)
	for _, c := range got {
		if c.ID != id {
			t.Errorf("command %s was repeated as %s", id, c.ID)
		}
		ok(t, in.Reply(c, bus.Reply{Body: []byte("done")}))
	}
	ok(t, in.Flush())
	ok(t, <-done)
}

func TestNotAccepted(t *testing.T) {
	b := created(t, 1)
	js := b.JetStream()
	s, err := b.NewSubmitter(bus.SubmitterConfig{Retry: time.Hour})
	ok(t, err)
	login := bus.Command{ID: bus.NewCommandID(), Verb: "login"}

	for _, verb := range []string{"", "a.b", "*", "Login", "a b"} {
		_, err = s.Submit(t.Context(), bus.Command{ID: login.ID, Verb: verb})
		want(t, err, bus.ErrNotAccepted)
	}
	_, err = s.Submit(t.Context(), bus.Command{ID: login.ID, Verb: "login", Body: make([]byte, bus.MaxCommand+1)})
	want(t, err, bus.ErrNotAccepted)

	// Full: learnt at once, not after the retry's hour.
	stream, err := js.Stream(t.Context(), bus.StreamCommands)
	ok(t, err)
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	_, err = js.UpdateStream(t.Context(), cfg)
	ok(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = s.Submit(ctx, login) // accepted, and answered by nobody
	want(t, err, bus.ErrNoOutcome)
	_, err = s.Submit(soon(t), login)
	want(t, err, bus.ErrNotAccepted)

	// Not there.
	ok(t, js.DeleteStream(t.Context(), bus.StreamCommands))
	_, err = s.Submit(soon(t), login)
	want(t, err, bus.ErrNotAccepted)
	s.Close()
	s.Close()
	_, err = s.Submit(t.Context(), login)
	want(t, err, bus.ErrNotAccepted)
	want(t, err, bus.ErrClosed)
}

// TestRefusedAfterAcceptance: once one try was accepted, a later refusal proves
// nothing.
func TestRefusedAfterAcceptance(t *testing.T) {
	b := created(t, 1)
	stream, err := b.JetStream().Stream(t.Context(), bus.StreamCommands)
	ok(t, err)
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	_, err = b.JetStream().UpdateStream(t.Context(), cfg)
	ok(t, err)
	s, err := b.NewSubmitter(bus.SubmitterConfig{Retry: 5 * time.Millisecond})
	ok(t, err)
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Submit(ctx, bus.Command{Verb: "login"})
	want(t, err, bus.ErrNoOutcome)
}

func TestCloseEndsSubmits(t *testing.T) {
	b := created(t, 1)
	s, err := b.NewSubmitter(bus.SubmitterConfig{})
	ok(t, err)
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			_, err := s.Submit(t.Context(), bus.Command{ID: bus.NewCommandID(), Verb: "login"})
			done <- err
		}()
	}
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	defer in.Close()
	takeN(t, in, cap(done))
	s.Close()
	for range cap(done) {
		err := <-done
		want(t, err, bus.ErrNoOutcome)
		want(t, err, bus.ErrClosed)
	}
}

// TestIntakeSurvives loses its consumer, then its stream.
func TestIntakeSurvives(t *testing.T) {
	b := created(t, 1)
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	defer func() { in.Close() }()
	s, err := b.NewSubmitter(bus.SubmitterConfig{})
	ok(t, err)
	defer s.Close()
	submit := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := s.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: "login"})
		want(t, err, bus.ErrNoOutcome)
	}
	submit()
	if got := takeN(t, in, 1); got[0].Seq != 1 {
		t.Fatalf("took %d", got[0].Seq)
	}
	stream, err := b.JetStream().Stream(t.Context(), bus.StreamCommands)
	ok(t, err)
	for name := range stream.ConsumerNames(t.Context()).Name() {
		ok(t, stream.DeleteConsumer(t.Context(), name))
	}
	submit()
	if got := takeN(t, in, 1); len(got) != 1 || got[0].Seq != 2 {
		t.Fatalf("took %d commands from %d after the consumer was lost, want 2 alone", len(got), got[0].Seq)
	}

	ok(t, b.JetStream().DeleteStream(t.Context(), bus.StreamCommands))
	_, err = in.Take(soon(t))
	want(t, err, bus.ErrCommandsReplaced)
	old := in.Incarnation()
	in.Close()
	in, err = b.Intake(t.Context(), 0, 1, old, 2)
	ok(t, err)
	if in.Incarnation() == old {
		t.Error("a new command stream has the old identity")
	}
	submit()
	if got := takeN(t, in, 1); got[0].Seq != 1 {
		t.Errorf("the new stream's first command is %d", got[0].Seq)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = in.Take(ended)
	want(t, err, context.Canceled)
}

// TestForeignMessages: what is not a command, or would have the writer publish
// anywhere but to an inbox, is passed over.
func TestForeignMessages(t *testing.T) {
	b := created(t, 1)
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	defer in.Close()
	envelope := func(inbox string) []byte {
		m := append(make([]byte, 0, 64), 1)
		m = append(m, make([]byte, 24)...)
		m = append(m, byte(len(inbox)))
		return append(append(m, inbox...), "body"...)
	}
	bad := [][]byte{nil, {1}, []byte("garbage that is long enough to be an envelope"), append(envelope("_INBOX.x")[:25], 255),
		envelope(bus.BookSubject(0)), envelope("_INBOX.>"), envelope("_INBOX.a.*"), envelope("_INBOX."), envelope("")}
	for _, m := range bad {
		ok(t, b.Conn().Publish(bus.CommandSubject(0, "login"), m))
	}
	ok(t, b.Conn().Publish(bus.CommandSubject(9, "login"), envelope("_INBOX.good")))
	ok(t, b.Conn().Publish(bus.CommandSubject(0, "login"), envelope("_INBOX.good")))
	got := takeN(t, in, 1)
	if len(got) != 1 || string(got[0].Body) != "body" || got[0].Seq != uint64(len(bad)+2) {
		t.Errorf("took %+v", got)
	}
}

// TestTrim: what is answered leaves COMMANDS, of one's own partition only.
func TestTrim(t *testing.T) {
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			b := created(t, partitions)
			in, err := b.Intake(t.Context(), 0, 1, 0, 0)
			ok(t, err)
			defer in.Close()
			const n = 10000
			for i := range n * partitions {
				_, err := b.JetStream().PublishAsync(bus.CommandSubject(bus.Partition(i%partitions), "v"), []byte("x"))
				ok(t, err)
				if i%1000 == 999 {
					<-b.JetStream().PublishAsyncComplete()
				}
			}
			<-b.JetStream().PublishAsyncComplete()
			ok(t, in.Trim(uint64(n*partitions)))
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				s, err := b.JetStream().Stream(t.Context(), bus.StreamCommands)
				ok(t, err)
				if left := s.CachedInfo().State.Msgs; left == uint64(n*(partitions-1)) {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("%d commands are left", left)
				}
			}
		})
	}
}

// TestIntakeAfterARestart: COMMANDS is in memory, and Open makes it again.
func TestIntakeAfterARestart(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir, "")
	b := connect(t, e)
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	old := in.Incarnation()
	e.Shutdown()
	if _, err := in.Take(soon(t)); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Take on a bus that is shut down: %v", err)
	}
	in.Close()
	b = connect(t, start(t, dir, ""))
	_, err = b.JetStream().Stream(t.Context(), bus.StreamCommands)
	want(t, err, jetstream.ErrStreamNotFound)
	_, err = b.Open(t.Context())
	ok(t, err)
	in, err = b.Intake(t.Context(), 0, 1, old, 17)
	ok(t, err)
	if in.Incarnation() == old {
		t.Error("the command stream has its old identity after a restart")
	}
	in.Close()
}
