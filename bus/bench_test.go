package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
)

// The bodies are of the size of real ones: a login command and its event.
var (
	benchCommand = make([]byte, 200)
	benchEvent   = make([]byte, 160)
)

// rawRate is the rate, per second, and the median of synced single publishes in
// this run: what the machine's disk gives to a program that groups nothing.
func rawRate(b *testing.B, k *bus.Book, n int) (perSecond float64, p50 time.Duration) {
	last, err := k.End(b.Context())
	ok(b, err)
	took := make([]time.Duration, n)
	page := make([]byte, 300)
	begin := time.Now()
	for i := range took {
		t := time.Now()
		if last, err = k.Append(b.Context(), last, page); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(t)
	}
	all := time.Since(begin)
	slices.Sort(took)
	return float64(n) / all.Seconds(), took[n/2]
}

// BenchmarkRawPublish is JetStream's own acknowledged publish of 300 bytes to
// a synced stream, one after the other.
func BenchmarkRawPublish(b *testing.B) {
	bs := created(b, 1)
	body := make([]byte, 300)
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		t := time.Now()
		if _, err := bs.JetStream().Publish(b.Context(), bus.BookSubject(0), body); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(t))
	}
	b.StopTimer()
	reportP50(b, took)
}

func BenchmarkAppend(b *testing.B) {
	for _, events := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			bs := created(b, 1)
			k := bs.Book(0)
			p := bus.Page{Epoch: 1, Time: time.Now().UnixNano(), CommandsRead: 1}
			for range events {
				p.Events = append(p.Events, benchEvent)
				p.Answers = append(p.Answers, bus.Answer{ID: bus.NewCommandID(), Events: 1})
			}
			var buf []byte
			var last uint64
			var err error
			took := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for range b.N {
				t := time.Now()
				if buf, err = bus.AppendPage(buf[:0], p); err != nil {
					b.Fatal(err)
				}
				if last, err = k.Append(b.Context(), last, buf); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(t))
			}
			b.StopTimer()
			reportP50(b, took)
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkSubmit is the whole way of a command: submit, take, one append for
// all that wait, reply. "x-raw" is its rate over that of synced single
// publishes, "p50-x-raw" the same of the medians, both in this run.
func BenchmarkSubmit(b *testing.B) {
	for _, clients := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			bs := created(b, 1)
			raw, rawP50 := rawRate(b, bs.Book(0), 1000)
			stop := startWriter(b, bs)
			s, err := bs.NewSubmitter(bus.SubmitterConfig{})
			ok(b, err)
			took := make([][]time.Duration, clients)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for i := range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						t := time.Now()
						_, err := s.Submit(b.Context(), bus.Command{ID: bus.NewCommandID(), Verb: "login", Body: benchCommand})
						if err != nil {
							b.Error(err)
							return
						}
						took[i] = append(took[i], time.Since(t))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			s.Close()
			pages := stop()
			p50 := reportP50(b, slices.Concat(took...))
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "commands/s")
			b.ReportMetric(rate/raw, "x-raw")
			b.ReportMetric(float64(p50)/float64(rawP50), "p50-x-raw")
			b.ReportMetric(float64(b.N)/float64(pages), "commands/page")
		})
	}
}

// startWriter runs the simplest writer of partition 0: no state, one event a
// command. stop ends it and tells how many pages it wrote.
func startWriter(t testing.TB, b *bus.Bus) (stop func() (pages uint64)) {
	t.Helper()
	k := b.Book(0)
	last, err := k.End(t.Context())
	ok(t, err)
	first := last
	in, err := b.Intake(t.Context(), 0, 1, 0, 0)
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer in.Close()
		var buf []byte
		for {
			commands, err := in.Take(ctx)
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			page := bus.Page{Epoch: 1, Incarnation: in.Incarnation(), CommandsRead: commands[len(commands)-1].Seq}
			for _, c := range commands {
				page.Answers = append(page.Answers, bus.Answer{ID: c.ID, Events: 1})
				page.Events = append(page.Events, benchEvent)
			}
			if buf, err = bus.AppendPage(buf[:0], page); err == nil {
				last, err = k.Append(ctx, last, buf)
			}
			if err != nil {
				t.Error(err)
				return
			}
			for i, c := range commands {
				if err := in.Reply(c, bus.Reply{Position: bus.Position{Page: last, Index: uint32(i)}, Body: c.ID[:]}); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(in.Flush(), in.Trim(page.CommandsRead)); err != nil {
				t.Error(err)
			}
		}
	}()
	return func() uint64 {
		cancel()
		<-done
		return last - first
	}
}

// BenchmarkFollow is the time from before an append to the page's arrival at a
// follower; "p50-x-raw" over the append's own median.
func BenchmarkFollow(b *testing.B) {
	bs := created(b, 1)
	_, rawP50 := rawRate(b, created(b, 1).Book(0), 500)
	k := bs.Book(0)
	arrived := make(chan uint64, 1)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		done <- k.Follow(ctx, 0, func(p bus.StoredPage) error { arrived <- p.Seq; return nil })
	}()
	took := make([]time.Duration, 0, b.N)
	page := make([]byte, 300)
	var last uint64
	b.ResetTimer()
	for range b.N {
		t := time.Now()
		var err error
		if last, err = k.Append(b.Context(), last, page); err != nil {
			b.Fatal(err)
		}
		if got := <-arrived; got != last {
			b.Fatalf("page %d arrived, %d was appended", got, last)
		}
		took = append(took, time.Since(t))
	}
	b.StopTimer()
	cancel()
	want(b, <-done, context.Canceled)
	p50 := reportP50(b, took)
	b.ReportMetric(float64(p50)/float64(rawP50), "p50-x-raw")
}

func BenchmarkRead(b *testing.B) {
	for _, events := range []int{1, 64} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			const pages = 4000
			bs := created(b, 1)
			k := bs.Book(0)
			p := bus.Page{Epoch: 1}
			for range events {
				p.Events = append(p.Events, benchEvent)
			}
			data, err := bus.EncodePage(p)
			ok(b, err)
			var last uint64
			for range pages {
				last, err = k.Append(b.Context(), last, data)
				ok(b, err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			for range b.N {
				ok(b, k.Read(b.Context(), 0, last, func(s bus.StoredPage) error {
					page, err := bus.DecodePage(s.Data)
					n += len(page.Events)
					return err
				}))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(b.N*pages)/b.Elapsed().Seconds(), "pages/s")
		})
	}
}

func reportP50(b *testing.B, took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(float64(p50.Microseconds()), "p50-us")
	b.ReportMetric(float64(p99.Microseconds()), "p99-us")
	return p50
}
