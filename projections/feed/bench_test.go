package feed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections/feed"
	"rollbook/projections/feed/feedtest"
)

// BenchmarkBesideTheWriter has clients log in, refresh and log out as fast as the writer answers them, on two embedded buses
// that sync always: one without the feed and one with it, in turns, so that what else the machine does falls on both. Each
// command makes one event. with/without is what the feed leaves of the rate, cpu what a command costs of the cores' time in all;
// feed/s is the rate at which the feed took the events meanwhile; behind is what was left of a turn, and behind-ms how long it
// took to publish that afterwards.
func BenchmarkBesideTheWriter(b *testing.B) {
	for _, clients := range []int{64, 512} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { besideTheWriter(b, clients) })
	}
}

func besideTheWriter(b *testing.B, clients int) {
	without, with := newStand(b, clients, false), newStand(b, clients, true)
	turn := 32 * clients
	published := with.published()
	behind := uint64(0)
	after := time.Duration(0)
	b.ResetTimer()
	sums := takeTurns(b, turn, without, with, func() {
		behind += with.done - with.published()
		start := time.Now()
		for with.published() < with.done {
			time.Sleep(time.Millisecond)
		}
		after += time.Since(start)
	})
	end, err := with.on.Feed(0).Marker(b.Context())
	must(b, err)
	batches := float64(end.Seq - with.done)
	sums.report(b)
	b.ReportMetric(float64(with.published()-published-behind)/sums.beside.Seconds(), "feed/s")
	b.ReportMetric(float64(behind)/float64(sums.turns), "behind")
	b.ReportMetric(after.Seconds()*1000/float64(sums.turns), "behind-ms")
	b.ReportMetric(float64(with.done)/batches, "events/batch")
}

// BenchmarkFollowers is what those cost the writer who follow the book in its process, each by itself: four beside it that
// read whose, what and when of every event, and none, in turns.
func BenchmarkFollowers(b *testing.B) {
	const clients, followers, turn = 512, 4, 32 * 512
	without, with := newStand(b, clients, false), newStand(b, clients, false)
	ctx, stop := context.WithCancel(b.Context())
	var following sync.WaitGroup
	var pages, read atomic.Int64
	for range followers {
		following.Go(func() {
			_ = with.on.Book(0).Follow(ctx, 0, func(stored bus.StoredPage) error {
				page, err := bus.DecodePage(stored.Data)
				for _, data := range page.Events {
					_, headErr := session.ReadHeading(data)
					err = errors.Join(err, headErr)
				}
				if err != nil {
					b.Error(err)
				}
				pages.Add(1)
				read.Add(int64(len(page.Events)))
				return err
			})
		})
	}
	defer following.Wait()
	defer stop()
	b.ResetTimer()
	sums := takeTurns(b, turn, without, with, func() {
		for read.Load() < followers*int64(with.done) {
			time.Sleep(time.Millisecond)
		}
	})
	sums.report(b)
	b.ReportMetric(float64(read.Load())/float64(pages.Load()), "events/page")
}

// sums are how long the turns of two stands took, and what they cost in CPU time.
type sums struct {
	turns, commands                      int // of each
	before, beside, cpuBefore, cpuBeside time.Duration
}

// takeTurns has the two do as many commands as b wants, each first as often as second. What is left of a turn of the stand
// with something beside it is its own cost: rest waits for it.
func takeTurns(b *testing.B, turn int, without, with *stand, rest func()) (s sums) {
	for s.commands < b.N || s.turns%2 > 0 {
		for _, second := range []bool{s.turns%2 > 0, s.turns%2 == 0} {
			start := cpu()
			if second {
				s.beside += with.turn(turn)
				rest()
				s.cpuBeside += cpu() - start
			} else {
				s.before += without.turn(turn)
				s.cpuBefore += cpu() - start
			}
		}
		s.turns++
		s.commands += turn
	}
	return s
}

func (s sums) report(b *testing.B) {
	n := float64(s.commands)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/s.before.Seconds(), "without/s")
	b.ReportMetric(n/s.beside.Seconds(), "with/s")
	b.ReportMetric(s.before.Seconds()/s.beside.Seconds(), "with/without")
	b.ReportMetric(s.cpuBefore.Seconds()*1e6/n, "cpu-µs-without")
	b.ReportMetric(s.cpuBeside.Seconds()*1e6/n, "cpu-µs-with")
}

// stand is a bus with a writer, clients and perhaps a publisher.
type stand struct {
	on     *bus.Bus
	submit *bus.Submitter
	b      *testing.B
	feed   *feed.Publisher // nil without
	steps  []int           // commands that each client has done
	done   uint64          // events of all of them
}

func newStand(b *testing.B, clients int, publishes bool) *stand {
	s := &stand{on: bustest.Created(b, 1), b: b, steps: make([]int, clients)}
	log := slog.New(slog.DiscardHandler)
	writer := engine.New(engine.Config{Book: s.on.Book(0), Alone: true, Policies: session.DefaultPolicies(), Log: log,
		OpenIntake: func(ctx context.Context, epoch uint64, incarnation int64, after uint64) (engine.Intake, error) {
			return s.on.Intake(ctx, 0, epoch, incarnation, after)
		}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = writer.Run(ctx) })
	b.Cleanup(running.Wait)
	b.Cleanup(cancel)
	var err error
	s.submit, err = s.on.NewSubmitter(bus.SubmitterConfig{})
	must(b, err)
	b.Cleanup(s.submit.Close)
	if publishes {
		s.feed, _ = feedtest.Publishing(b, feed.Source{Book: s.on.Book(0), Feed: feed.On(s.on.Feed(0)),
			Writing: func() bool { return writer.Role() == engine.Writing }})
	}
	var registering sync.WaitGroup
	for c := range clients {
		registering.Go(func() { s.do(&session.Register{User: user(c), Credential: 1}) })
	}
	registering.Wait()
	s.done = uint64(clients)
	for publishes && s.published() < s.done {
		time.Sleep(time.Millisecond)
	}
	return s
}

func (s *stand) published() uint64 { return s.feed.Lags()[0].Published }

func (s *stand) do(cmd session.Command) {
	answer, err := s.submit.Submit(context.Background(), bus.Command{ID: bus.NewCommandID(), Verb: string(cmd.Verb()), Body: session.EncodeCommand(cmd)})
	if err != nil {
		s.b.Error(err)
		return
	}
	if reply, err := session.DecodeReply(answer.Body); err != nil || reply.Refusal != session.Accepted {
		s.b.Error(cmd.Verb(), reply.Refusal, err)
	}
}

func user(n int) session.UserID { return session.UserID(fmt.Sprintf("u-%d", n)) }

// turn has each client do its share of n commands, and says how long they took.
func (s *stand) turn(n int) time.Duration {
	clients := len(s.steps)
	var working sync.WaitGroup
	start := time.Now()
	for c := range clients {
		working.Go(func() {
			for range n / clients {
				i := s.steps[c]
				s.steps[c]++
				k := uint32(c + clients*(i/3) + 1)
				id := session.SessionID{0: byte(k), 1: byte(k >> 8), 2: byte(k >> 16), 15: 1}
				hash := func(kind string) session.TokenHash { return session.HashToken(fmt.Sprint(kind, k)) }
				switch i % 3 {
				case 0:
					s.do(&session.Login{User: user(c), Venue: session.Genesis, Verdict: session.Matched, Credential: 1, Session: id, Access: hash("a"), Refresh: hash("r")})
				case 1:
					s.do(&session.Refresh{User: user(c), Venue: session.Genesis, Session: id, Presented: hash("r"), Handle: session.Handle{0: byte(k), 1: byte(k >> 8), 2: byte(k >> 16), 15: 2},
						Access: hash("b"), Refresh: hash("r")})
				case 2:
					s.do(&session.Logout{User: user(c), Session: id, Reason: session.LoggedOut})
				}
			}
		})
	}
	working.Wait()
	s.done += uint64(n / clients * clients)
	return time.Since(start)
}

// cpu is the time that both cores have worked for this process.
func cpu() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
