package engine_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
)

// TestLeases: the bound sessions of a pod that falls silent end after the lease, those of one that lives do not, and a
// writer that has just begun waits for a whole lease before it believes that anybody is dead.
func TestLeases(t *testing.T) {
	bustest.Bubble(t, func(t *testing.T) {
		const lease = 30 * time.Second
		r := newRig(t, t.TempDir())
		defer r.close()
		cfg := r.config()
		cfg.Leases = &engine.Leases{Length: lease, Pods: r.bus.Pods, Submit: r.submit.Submit}
		stop := r.run(cfg)
		r.ask(&session.Register{User: "jane", Credential: 1})

		silent, lively := session.PodID{1}, session.PodID{2}
		open := func(n byte, bound bool, pod session.PodID) {
			r.ask(&session.Login{User: "jane", Venue: session.Nebula, Verdict: session.Matched, Credential: 1, Session: session.SessionID{n},
				Access: session.TokenHash{n}, Bound: bound, Pod: pod})
		}
		announcing, quiet := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for announcing.Err() == nil {
				_ = r.bus.AnnouncePod(lively)
				time.Sleep(2 * time.Second)
			}
		}()
		defer func() { quiet(); <-done }()
		must(t, r.bus.AnnouncePod(silent))
		open(1, true, silent)
		open(2, true, lively)
		open(3, false, silent)

		live := func(want ...byte) {
			t.Helper()
			var got []byte
			state := r.fold()
			for n := byte(1); n <= 3; n++ {
				if _, reply := state.Decide(&session.Touch{User: "jane", Session: session.SessionID{n}}, state.Clock()+1); reply.Refusal == session.Accepted {
					got = append(got, n)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("live: %v, want %v", got, want)
			}
		}
		time.Sleep(lease / 2)
		stop() // a new term begins with the silent pod among those that the book knows
		stop = r.run(cfg)
		defer func() { stop() }()
		time.Sleep(lease - 2*time.Second)
		live(1, 2, 3)
		time.Sleep(5 * time.Second)
		live(2, 3)
		quiet()
		<-done
		time.Sleep(lease + 5*time.Second)
		live(3)
	})
}

// ask submits a command that must be accepted.
func (r *rig) ask(cmd session.Command) {
	r.t.Helper()
	answer, err := r.submit.Submit(context.Background(), bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	must(r.t, err)
	if reply, err := session.DecodeReply(answer.Body); err != nil || reply.Refusal != session.Accepted {
		r.t.Fatal(fmt.Sprint(cmd.Verb(), ": ", reply.Refusal, ", ", err))
	}
}

// fold reads the whole book.
func (r *rig) fold() *session.State {
	r.t.Helper()
	state := session.NewState(session.DefaultPolicies())
	end, err := r.bus.Book(0).End(context.Background())
	must(r.t, err)
	must(r.t, r.bus.Book(0).Read(context.Background(), 0, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return err
		}
		for _, data := range page.Events {
			event, err := session.DecodeEvent(data)
			if err != nil {
				return err
			}
			state.Apply(event)
		}
		return nil
	}))
	return state
}
