package bus_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/bus/clustertest"
)

// onCluster connects to a real cluster of three and creates a layout of n partitions there.
func onCluster(t *testing.T, n int) (*clustertest.Cluster, *bus.Bus) {
	t.Helper()
	c := clustertest.Start(t, 3)
	b, err := bus.Connect(soon(t), bus.ConnectConfig{URL: c.URL()})
	ok(t, err)
	t.Cleanup(func() { _ = b.Close() })
	ok(t, b.Create(t.Context(), bus.Layout{Partitions: n, Replicas: 3}))
	return c, b
}

// TestClusterLayout: what Create makes on a cluster is what Open wants to find.
func TestClusterLayout(t *testing.T) {
	_, b := onCluster(t, 2)
	want(t, b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 3}), bus.ErrExists)
	l, err := b.Open(t.Context())
	ok(t, err)
	if l != (bus.Layout{Partitions: 2, Replicas: 3}) {
		t.Errorf("the layout is %+v", l)
	}
	for _, name := range l.Streams() {
		s, err := b.JetStream().Stream(t.Context(), name)
		ok(t, err)
		if r := s.CachedInfo().Config.Replicas; r != 3 {
			t.Errorf("%s has %d replicas", name, r)
		}
	}
	b2, err := bus.Connect(soon(t), bus.ConnectConfig{URL: b.Conn().ConnectedUrl()})
	ok(t, err)
	defer b2.Close()
	_, err = b2.Open(t.Context())
	ok(t, err)
	appendPages(t, b2.Book(0), 0, 5)
	_, err = b2.Book(0).Append(t.Context(), 2, []byte("late"))
	want(t, err, bus.ErrConflict)
}

// TestClusterIntake: the commands of a partition come in order from a consumer with the epoch in its name and three
// replicas, acknowledged as they are done with; the next epoch goes on with a consumer of its own.
func TestClusterIntake(t *testing.T) {
	_, b := onCluster(t, 2)
	s, err := b.NewSubmitter(bus.SubmitterConfig{})
	ok(t, err)
	defer s.Close()
	offer := func(from, n int) {
		for i := range n {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			_, err := s.Submit(ctx, bus.Command{ID: bus.CommandID{byte(from + i)}, Verb: "login"})
			cancel()
			want(t, err, bus.ErrNoOutcome)
		}
	}
	offer(0, 6)
	in, err := b.Intake(soon(t), 0, 7, 0, 0)
	ok(t, err)
	got := takeN(t, in, 6)
	for i, c := range got {
		if c.ID != (bus.CommandID{byte(i)}) {
			t.Errorf("command %d is %s", i, c.ID)
		}
	}
	stream, err := b.JetStream().Stream(t.Context(), bus.StreamCommands)
	ok(t, err)
	consumer, err := stream.Consumer(t.Context(), "intake-0-7")
	ok(t, err)
	info, err := consumer.Info(t.Context())
	ok(t, err)
	if info.Config.Replicas != 3 || info.Config.Durable == "" || len(info.Cluster.Replicas) != 2 {
		t.Errorf("the consumer is %+v", info.Config)
	}
	for deadline := time.Now().Add(30 * time.Second); info.AckFloor.Stream < got[3].Seq; {
		if time.Now().After(deadline) {
			t.Fatalf("acknowledged through %d, not %d", info.AckFloor.Stream, got[3].Seq)
		}
		time.Sleep(20 * time.Millisecond)
		ok(t, in.Trim(got[3].Seq)) // acts once a second at the most
		info, err = consumer.Info(t.Context())
		ok(t, err)
	}

	next, err := b.Intake(soon(t), 0, 8, in.Incarnation(), got[3].Seq)
	ok(t, err)
	in.Close()
	offer(6, 2)
	for i, c := range takeN(t, next, 4) {
		if c.ID != (bus.CommandID{byte(4 + i)}) {
			t.Errorf("for the next epoch command %d is %s", i, c.ID)
		}
	}
	next.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		names := map[string]bool{}
		list := stream.ConsumerNames(t.Context())
		for name := range list.Name() {
			names[name] = true
		}
		if len(names) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the consumers %v stay behind", names)
		}
	}
}

// TestClusterLosesAServer: the server that leads COMMANDS stops and comes back while commands are submitted. Every one
// is answered, and the writer gets them in order.
func TestClusterLosesAServer(t *testing.T) {
	c, b := onCluster(t, 1)
	in, err := b.Intake(soon(t), 0, 1, 0, 0)
	ok(t, err)
	s, err := b.NewSubmitter(bus.SubmitterConfig{Retry: 200 * time.Millisecond})
	ok(t, err)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		defer in.Close()
		last := uint64(0)
		for {
			got, err := in.Take(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range got {
				if r.Seq <= last {
					t.Errorf("command %d came after %d", r.Seq, last)
				}
				last = r.Seq
				_ = in.Reply(r, bus.Reply{Body: []byte("done")}) // asked for again when it is lost
			}
			_ = in.Flush()
			_ = in.Trim(last)
		}
	})
	submit := func(n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		for i := range n {
			for {
				_, err := s.Submit(ctx, bus.Command{ID: bus.NewCommandID(), Verb: "login"})
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("command %d: %v", i, err)
				}
				time.Sleep(10 * time.Millisecond) // refused while nobody leads
			}
		}
	}
	submit(20)
	for range 2 {
		leader := c.LeaderOf(bus.StreamCommands)
		if leader < 0 {
			t.Fatal("nobody leads the commands")
		}
		c.Stop(leader)
		submit(20)
		c.Restart(leader)
		submit(20)
		// What is in memory is empty on a server that starts again, and its vote counts for nothing until it has
		// caught up: with two such servers at once nobody would lead until the third is back.
		healed(t, b)
	}
	cancel()
	writing.Wait()
}

// healed waits until each server has all of COMMANDS and of the intake's consumer.
func healed(t *testing.T, b *bus.Bus) {
	t.Helper()
	whole := func(c *jetstream.ClusterInfo) bool {
		return c != nil && c.Leader != "" && len(c.Replicas) == 2 &&
			!slices.ContainsFunc(c.Replicas, func(r *jetstream.PeerInfo) bool { return !r.Current || r.Offline })
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the cluster does not heal")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		stream, err := b.JetStream().Stream(ctx, bus.StreamCommands)
		var consumer jetstream.Consumer
		if err == nil {
			consumer, err = stream.Consumer(ctx, "intake-0-1")
		}
		cancel()
		if err == nil && whole(stream.CachedInfo().Cluster) && whole(consumer.CachedInfo().Cluster) {
			return
		}
	}
}
