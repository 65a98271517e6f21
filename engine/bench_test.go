package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
)

// BenchmarkDecideApply is the decision core alone: one login, refresh and logout an iteration.
func BenchmarkDecideApply(b *testing.B) {
	state := session.NewState(session.DefaultPolicies())
	now := session.Instant(1)
	do := func(cmd session.Command) {
		now++
		events, reply := state.Decide(cmd, now)
		if reply.Refusal != session.Accepted || len(events) == 0 {
			b.Fatal(cmd.Verb(), reply.Refusal)
		}
		for _, e := range events {
			state.Apply(e)
		}
	}
	do(&session.Register{User: "jane", Credential: 1})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		do(login("jane", n))
		do(refresh("jane", n, 2))
		do(logout("jane", n))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(3*b.N), "ns/command")
}

// BenchmarkCommands is the whole way of a command through the embedded bus, every answer on disk before it is given,
// beside the rate at which one publisher gets synced acknowledgements in the same run. The raw rate is measured before
// and after, and the mean is taken.
func BenchmarkCommands(b *testing.B) {
	for _, clients := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := newRig(b, b.TempDir())
			defer r.close()
			defer r.run(r.config())()
			raw := newRawPublisher(b, r)
			rateBefore, p50Before := raw.measure(b, 700*time.Millisecond)

			var registering sync.WaitGroup
			for c := range clients {
				registering.Go(func() { r.do(&session.Register{User: benchUser(c), Credential: 1}) })
			}
			registering.Wait()
			b.ResetTimer()
			latencies := drive(r, clients, b.N)
			b.StopTimer()
			rate := float64(len(latencies)) / b.Elapsed().Seconds()

			rateAfter, p50After := raw.measure(b, 700*time.Millisecond)
			slices.Sort(latencies)
			p50, p99 := latencies[len(latencies)/2], latencies[len(latencies)*99/100]
			rawRate, rawP50 := (rateBefore+rateAfter)/2, (p50Before+p50After)/2
			b.ReportMetric(rate, "commands/s")
			b.ReportMetric(rawRate, "raw/s")
			b.ReportMetric(rate/rawRate, "x-raw")
			b.ReportMetric(float64(p50.Microseconds()), "p50-us")
			b.ReportMetric(float64(p99.Microseconds()), "p99-us")
			b.ReportMetric(float64(p50)/float64(rawP50), "p50/raw-p50")
		})
	}
}

func benchUser(n int) session.UserID { return session.UserID(fmt.Sprintf("user-%d", n)) }

// drive has each client log in, refresh and log out in turn until n commands are answered, and gives their latencies.
func drive(r *rig, clients, n int) []time.Duration {
	each := make([][]time.Duration, clients)
	var working sync.WaitGroup
	for c := range clients {
		share := n / clients
		if c < n%clients {
			share++
		}
		working.Go(func() {
			user := benchUser(c)
			for i := range share {
				k := c + clients*(i/3) + 1
				cmd := []session.Command{login(user, k), refresh(user, k, 2), logout(user, k)}[i%3]
				start := time.Now()
				if got := r.do(cmd); got.Refusal != session.Accepted {
					r.t.Errorf("%s: %s", cmd.Verb(), got.Refusal)
					return
				}
				each[c] = append(each[c], time.Since(start))
			}
		})
	}
	working.Wait()
	return slices.Concat(each...)
}

// rawPublisher publishes to a file stream of the same server, one message after the other, each acknowledged after its
// fsync.
type rawPublisher struct{ js jetstream.JetStream }

func newRawPublisher(b *testing.B, r *rig) *rawPublisher {
	js := r.bus.JetStream()
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}, Storage: jetstream.FileStorage})
	must(b, err)
	return &rawPublisher{js}
}

func (p *rawPublisher) measure(b *testing.B, d time.Duration) (rate float64, p50 time.Duration) {
	payload := make([]byte, 350)
	var took []time.Duration
	begin := time.Now()
	for time.Since(begin) < d {
		start := time.Now()
		_, err := p.js.Publish(context.Background(), "raw", payload)
		must(b, err)
		took = append(took, time.Since(start))
	}
	rate = float64(len(took)) / time.Since(begin).Seconds()
	slices.Sort(took)
	return rate, took[len(took)/2]
}
