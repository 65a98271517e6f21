package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// BenchmarkSnapshotBeside is the rate of commands of 64 clients while no snapshot is written and while one is, in turns
// within one run, among so many live sessions.
func BenchmarkSnapshotBeside(b *testing.B) {
	for _, sessions := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			r := newRig(b, b.TempDir())
			defer r.close()
			fillBook(b, r.bus.Book(0), sessions)
			w := r.reign()
			defer w.stop()
			snapshots := r.snapshotter(w.writer, 0, 0, nil)
			must(b, snapshots.Take(context.Background()))
			load := &load{rig: r}
			var plain, beside pace
			for b.Loop() {
				plain.add(load.during(func() { time.Sleep(2 * time.Second) }))
				beside.add(load.during(func() { must(b, snapshots.Take(context.Background())) }))
			}
			b.ReportMetric(plain.rate(), "commands/s")
			b.ReportMetric(beside.rate(), "beside/s")
			b.ReportMetric(beside.rate()/plain.rate(), "ratio")
			b.ReportMetric(beside.took.Seconds()/float64(b.N), "s/snapshot")
		})
	}
}

// pace is how many commands were answered in what time.
type pace struct {
	commands int
	took     time.Duration
}

func (p *pace) add(commands int, took time.Duration) { p.commands += commands; p.took += took }
func (p *pace) rate() float64                        { return float64(p.commands) / p.took.Seconds() }

// load is 64 clients who log in, refresh and log out.
type load struct {
	rig *rig
	n   atomic.Int64
}

// during drives the clients while fn runs, and gives how many commands were answered.
func (l *load) during(fn func()) (commands int, took time.Duration) {
	var answered atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	start := time.Now()
	for c := range 64 {
		working.Go(func() {
			user := benchUser(c)
			for ctx.Err() == nil {
				n := int(l.n.Add(1))
				for _, cmd := range []session.Command{login(user, n), refresh(user, n, 2), logout(user, n)} {
					if got := l.rig.do(cmd); got.Refusal != session.Accepted {
						l.rig.t.Errorf("%s: %s", cmd.Verb(), got.Refusal)
					}
					answered.Add(1)
				}
			}
		})
	}
	fn()
	took = time.Since(start)
	commands = int(answered.Load())
	cancel()
	working.Wait()
	return commands, took
}

// fillBook appends users with a live session each.
func fillBook(t testing.TB, book *bus.Book, sessions int) {
	t.Helper()
	at := session.At(time.Now())
	seq, page := uint64(0), bus.Page{Epoch: 1, Time: int64(at)}
	for n := range sessions {
		head := session.Header{At: at, User: benchUser(n)}
		id := session.HashToken(fmt.Sprint(n))
		for _, e := range []session.Event{&session.UserRegistered{Header: head, Credential: 1},
			&session.SessionStarted{Header: head, Session: session.SessionID(id[:16]), Venue: session.Genesis, Client: "desk", Credential: 1,
				Until: at.Add(720 * time.Hour), Idle: 120 * time.Hour, Access: id, Refresh: session.HashToken(fmt.Sprint("r", n))}} {
			page.Events = append(page.Events, session.AppendEvent(nil, e))
		}
		if n%500 == 499 || n == sessions-1 {
			data, err := bus.EncodePage(page)
			must(t, err)
			seq, err = book.Append(context.Background(), seq, data)
			must(t, err)
			page.Events = page.Events[:0]
		}
	}
}
