package chaostest

import (
	"context"
	"testing"
	"time"
)

// TestRollingRestart stops every process in order, one after the other, and starts it again, while clients work, as
// deploy/kubernetes does: a pod is taken from the balancer, and told to stop a little later, while clients still have
// connections to it. Each request is answered. (That it is answered "unavailable" is another matter: a machine that is busy
// enough makes it so, without anybody stopping.)
func TestRollingRestart(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("starts a cluster, without the race detector")
	}
	cfg := Config{Servers: 3, Engines: 2, Pods: 3, Partitions: 4, Users: 6, Dir: t.TempDir()}
	cfg.Rollbook, cfg.NATS = programs(t)
	site := Start(t, cfg)
	history := NewHistory()
	ctx, stop := context.WithCancel(t.Context())
	load := site.Load(ctx, history, *seed)
	for _, n := range append(append([]*node{}, site.pods...), site.engines...) {
		time.Sleep(time.Second)
		n.away.Store(true)
		time.Sleep(250 * time.Millisecond)
		begun := time.Now()
		if err := n.stop(time.Minute); err != nil {
			t.Error(err)
		}
		stopped := time.Since(begun)
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		if err := site.ready(time.Minute); err != nil {
			t.Fatalf("%v\n%s", err, site.tails())
		}
		n.away.Store(false)
		t.Logf("%s stopped in %s, and all was well again after %s", n.name, stopped.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
	stop()
	load.Wait()
	load.Ask(context.Background())
	report := Report{Config: cfg}
	report.judge(t, site, history)
	dropped, unavailable := 0, 0
	for _, op := range history.Ops() {
		switch {
		case op.Outcome == Unknown && op.Text == noAnswer:
			dropped++
			t.Logf("%s %s at %s, from %s to %s: not answered", op.Venue, op.Kind, op.Pod, op.Begin, op.End)
		case op.Outcome == Unknown:
			unavailable++
		}
	}
	t.Logf("%d calls, %d of them without an answer, %d unavailable", report.Verdict.Ops, dropped, unavailable)
	if dropped > 0 || !report.Clean() {
		t.Errorf("%d of %d calls were dropped; %v %v %v", dropped, report.Verdict.Ops, report.Verdict.Violations, report.Audited.Wrong, report.Compared)
	}
	if report.Verdict.Ops < 200 {
		t.Errorf("%d calls prove nothing", report.Verdict.Ops)
	}
}
