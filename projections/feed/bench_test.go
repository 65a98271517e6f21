package feed_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections/feed"
	"rollbook/projections/feed/feedtest"
)

// BenchmarkBesideTheWriter has clients log in, refresh and log out as fast as the writer answers them, without and with
// the feed, on one embedded bus that syncs always. Each command makes one event. feed/s is the rate at which the feed
// took them meanwhile, behind/s what was left, by how long it took to publish that afterwards.
func BenchmarkBesideTheWriter(b *testing.B) {
	for _, clients := range []int{64, 512} {
		for _, publishes := range []bool{false, true} {
			b.Run(fmt.Sprintf("clients=%d/feed=%v", clients, publishes), func(b *testing.B) { besideTheWriter(b, clients, publishes) })
		}
	}
}

func besideTheWriter(b *testing.B, clients int, publishes bool) {
	on := bustest.Created(b, 1)
	log := slog.New(slog.DiscardHandler)
	writer := engine.New(engine.Config{Book: on.Book(0), Alone: true, Policies: session.DefaultPolicies(), Log: log,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return on.Intake(ctx, 0, epoch, incarnation, after)
		}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = writer.Run(ctx) })
	submit, err := on.NewSubmitter(bus.SubmitterConfig{})
	must(b, err)
	defer submit.Close()
	do := func(cmd session.Command) {
		answer, err := submit.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
		if err != nil {
			b.Error(err)
			return
		}
		if reply, err := session.DecodeReply(answer.Body); err != nil || reply.Refusal != session.Accepted {
			b.Error(cmd.Verb(), reply.Refusal, err)
		}
	}
	var registering sync.WaitGroup
	for c := range clients {
		registering.Go(func() { do(&session.Register{User: user(c), Credential: 1}) })
	}
	registering.Wait()
	var p *feed.Publisher
	if publishes {
		var stop func()
		p, stop = feedtest.Publishing(b, feed.Source{Book: on.Book(0), Feed: feed.On(on.Feed(0)), Writing: func() bool { return writer.Role() == engine.Writing }})
		defer stop()
		for p.Lags()[0].Published < uint64(clients) {
			time.Sleep(time.Millisecond)
		}
	}
	b.ResetTimer()
	start := time.Now()
	events := life(clients, b.N, do)
	took := time.Since(start)
	b.ReportMetric(float64(events)/took.Seconds(), "commands/s")
	if !publishes {
		return
	}
	done := p.Lags()[0].Published - uint64(clients)
	b.ReportMetric(float64(done)/took.Seconds(), "feed/s")
	rest := uint64(events) - done
	behind := time.Now()
	feedtest.Write(b, on, 0).CaughtUp(on)
	b.ReportMetric(float64(rest), "behind")
	b.ReportMetric(time.Since(behind).Seconds()*1000, "behind-ms")
}

func user(n int) session.UserID { return session.UserID(fmt.Sprintf("u-%d", n)) }

// life has each client do its share of n commands, and gives how many were done.
func life(clients, n int, do func(session.Command)) int {
	var working sync.WaitGroup
	var done atomic.Int64
	for c := range clients {
		working.Go(func() {
			for i := range n / clients {
				k := uint32(c + clients*(i/3) + 1)
				id := session.SessionID{0: byte(k), 1: byte(k >> 8), 2: byte(k >> 16), 15: 1}
				hash := func(kind string) session.TokenHash { return session.HashToken(fmt.Sprint(kind, k)) }
				switch i % 3 {
				case 0:
					do(&session.Login{User: user(c), Venue: session.Genesis, Verdict: session.Matched, Credential: 1, Session: id, Access: hash("a"), Refresh: hash("r")})
				case 1:
					do(&session.Refresh{User: user(c), Venue: session.Genesis, Session: id, Presented: hash("r"), Handle: session.Handle{0: byte(k), 1: byte(k >> 8), 2: byte(k >> 16), 15: 2},
						Access: hash("b"), Refresh: hash("r")})
				case 2:
					do(&session.Logout{User: user(c), Session: id, Reason: session.LoggedOut})
				}
				done.Add(1)
			}
		})
	}
	working.Wait()
	return int(done.Load())
}
