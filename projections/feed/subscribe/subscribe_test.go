package subscribe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/bus/clustertest"
	"rollbook/engine/session"
	"rollbook/projections/feed/feedtest"
	"rollbook/projections/feed/subscribe"
)

// killed names the bus to the process that TestKilledAtAnyTime kills.
const killed = "ROLLBOOK_TEST_KILLED"

func TestMain(m *testing.M) {
	if url := os.Getenv(killed); url != "" {
		consume(url, os.Args[1])
	}
	bustest.Main(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read is what a subscription gives up to the end of the feed.
func read(t *testing.T, cfg subscribe.Config) (list []subscribe.Event, s *subscribe.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), feedtest.Patience)
	defer cancel()
	s = subscribe.New(cfg)
	must(t, s.ReadAll(ctx, func(e subscribe.Event) error {
		list = append(list, e)
		return nil
	}))
	return list, s
}

func positions(list []subscribe.Event) (at []string) {
	for _, e := range list {
		at = append(at, e.Position.String())
	}
	return at
}

// TestFilters compares what each filter gives with what it should of all.
func TestFilters(t *testing.T) {
	b := bustest.Created(t, 2)
	_, stop := feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
	defer stop()
	for p := range bus.Partition(2) {
		s := feedtest.Write(t, b, p)
		s.Page(30)
		s.Page(1200)
		s.CaughtUp(b)
	}
	all, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	if len(all) != 2*1230 {
		t.Fatalf("the feed has %d events", len(all))
	}
	venue := func(e subscribe.Event) session.Venue {
		started, ok := e.Event.(*session.SessionStarted)
		if !ok {
			return 0
		}
		return started.Venue
	}
	for name, c := range map[string]struct {
		filter subscribe.Filter
		wants  func(subscribe.Event) bool
	}{
		"user":      {subscribe.Filter{User: "u-3"}, func(e subscribe.Event) bool { return e.User == "u-3" }},
		"nobody":    {subscribe.Filter{User: "u-99"}, func(e subscribe.Event) bool { return false }},
		"type":      {subscribe.Filter{Types: []session.EventType{"SessionTouched"}}, func(e subscribe.Event) bool { return e.Type == "SessionTouched" }},
		"two types": {subscribe.Filter{Types: []session.EventType{"SessionTouched", "SessionEnded"}}, func(e subscribe.Event) bool { return e.Type != "SessionStarted" }},
		"venue":     {subscribe.Filter{Venue: session.Zenith}, func(e subscribe.Event) bool { return venue(e) == session.Zenith }},
		"all three": {subscribe.Filter{User: "u-1", Venue: session.Genesis, Types: []session.EventType{"SessionStarted"}},
			func(e subscribe.Event) bool { return e.User == "u-1" && venue(e) == session.Genesis }},
	} {
		var want []string
		for _, e := range all {
			if c.wants(e) {
				want = append(want, e.Position.String())
			}
		}
		if name != "nobody" && len(want) < 3 {
			t.Fatalf("%s: only %d events are wanted", name, len(want))
		}
		got, _ := read(t, subscribe.Config{Conn: b.Conn(), Filter: c.filter, From: subscribe.Beginning()})
		if !slices.Equal(positions(got), want) {
			t.Errorf("%s gives %d events, not %d", name, len(got), len(want))
		}
	}
}

// TestStarts begins in each way, and goes on from each cursor.
func TestStarts(t *testing.T) {
	b := bustest.Created(t, 1)
	feedtest.Publishing(t, feedtest.Source(b, 0))
	s := feedtest.Write(t, b, 0)
	for range 6 {
		s.Page(7)
		s.CaughtUp(b)
	}
	all, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	if len(all) != 42 {
		t.Fatalf("the feed has %d events", len(all))
	}
	if got, _ := read(t, subscribe.Config{Conn: b.Conn()}); len(got) != 0 {
		t.Errorf("from now on there are %d events already", len(got))
	}
	for i, e := range all {
		rest := positions(all[i+1:])
		if got, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Behind(e.Position)}); !slices.Equal(positions(got), rest) {
			t.Errorf("behind %s there are %v", e.Position, positions(got))
		}
		if got, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Since(e.Time)}); !slices.Equal(positions(got), positions(all[i:])) {
			t.Errorf("since %s, the time of %s, there are %v", e.Time, e.Position, positions(got))
		}
		stop, cut := errors.New("stop"), subscribe.Cursor{}
		err := subscribe.New(subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()}).ReadAll(t.Context(), func(at subscribe.Event) error {
			if at.Position != e.Position {
				return nil
			}
			cut = at.Cursor()
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatalf("the function's error came back as %v", err)
		}
		again, err := subscribe.ParseCursor(cut.String())
		must(t, err)
		if got, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.At(again)}); !slices.Equal(positions(got), rest) {
			t.Errorf("at %s there are %v", cut, positions(got))
		}
	}
}

// TestFileGoesOn reads the feed in parts; a filter's cursor moves over what does not match too.
func TestFileGoesOn(t *testing.T) {
	b := bustest.Created(t, 1)
	feedtest.Publishing(t, feedtest.Source(b, 0))
	s := feedtest.Write(t, b, 0)
	file := subscribe.NewFile(filepath.Join(t.TempDir(), "cursor"))
	var got []string
	for round := range 5 {
		s.Page(21)
		s.CaughtUp(b)
		list, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning(), File: file, Filter: subscribe.Filter{User: "u-2"}})
		if len(list) != 3 {
			t.Errorf("round %d gives %v", round, positions(list))
		}
		got = append(got, positions(list)...)
	}
	if len(slices.Compact(slices.Clone(got))) != 15 {
		t.Errorf("in all: %v", got)
	}
	c, ok, err := file.Load()
	if m, err2 := b.Feed(0).Marker(t.Context()); !ok || err != nil || err2 != nil || c.Sequence != m.Seq {
		t.Errorf("the file has %s, %v, and the feed ends with %+v", c, err, m)
	}
}

// TestGap: what retention takes before it is read is an error, with a filter too, and begins nothing by itself.
func TestGap(t *testing.T) {
	b := bustest.Created(t, 1)
	feedtest.Publishing(t, feedtest.Source(b, 0))
	s := feedtest.Write(t, b, 0)
	s.Page(50)
	s.CaughtUp(b)
	filter := subscribe.Filter{User: "u-2"}
	_, whole := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	_, some := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning(), Filter: filter})
	s.Page(50)
	s.CaughtUp(b)
	stream, err := b.JetStream().Stream(t.Context(), bus.StreamFeed)
	must(t, err)
	// Those who had read to here have missed nothing yet.
	for _, c := range []subscribe.Cursor{whole.Cursor(), some.Cursor()} {
		if got, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.At(c)}); len(got) != 50 {
			t.Errorf("%d events come next", len(got))
		}
	}
	m, err := b.Feed(0).Marker(t.Context())
	must(t, err)
	for _, left := range []uint64{m.Seq - 10, m.Seq + 1} { // some of what is missing; all of it
		must(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(left)))
		for _, c := range []subscribe.Config{{From: subscribe.At(whole.Cursor())}, {From: subscribe.At(some.Cursor()), Filter: filter},
			{From: subscribe.Behind(subscribe.Position{Page: 1, Index: 3})}} {
			c.Conn = b.Conn()
			err := subscribe.New(c).ReadAll(t.Context(), func(subscribe.Event) error { return nil })
			if !errors.Is(err, subscribe.ErrGap) {
				t.Errorf("up to %d removed: %v", left, err)
			}
		}
	}
	if got, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()}); len(got) != 0 {
		t.Errorf("an empty feed has %d events", len(got))
	}
}

// TestFeedMadeAnew: the sequences begin again, and what was seen is not seen again.
func TestFeedMadeAnew(t *testing.T) {
	b := bustest.Created(t, 1)
	_, stop := feedtest.Publishing(t, feedtest.Source(b, 0))
	s := feedtest.Write(t, b, 0)
	s.Page(30)
	s.CaughtUp(b)
	seen, sub := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	stop()
	must(t, b.JetStream().DeleteStream(t.Context(), bus.StreamFeed))
	_, err := b.Open(t.Context()) // makes it, as at a start
	must(t, err)
	feedtest.Publishing(t, feedtest.Source(b, 0))
	s.Page(60)
	s.CaughtUp(b)
	more, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.At(sub.Cursor())})
	all, _ := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	if want := positions(all); len(want) != 90 || !slices.Equal(append(positions(seen), positions(more)...), want) {
		t.Errorf("%d and %d events of %d", len(seen), len(more), len(want))
	}
}

// TestFollows: what is published is given at once, over a batch that comes to nothing and a lost connection.
func TestFollows(t *testing.T) {
	c := clustertest.Start(t, 1)
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: c.URL()})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	must(t, b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}))
	feedtest.Publishing(t, feedtest.Source(b, 0))
	nc, err := subscribe.Connect(c.URL(), "")
	must(t, err)
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), feedtest.Patience)
	defer cancel()
	got, done := make(chan subscribe.Event, 1000), make(chan error, 1)
	go func() {
		done <- subscribe.New(subscribe.Config{Conn: nc, From: subscribe.Beginning()}).Run(ctx, func(e subscribe.Event) error {
			got <- e
			return nil
		})
	}()
	s := feedtest.Write(t, b, 0)
	n := uint32(0)
	for page := range uint64(6) {
		if page == 2 {
			lost, err := b.Feed(0).Begin([]bus.FeedEvent{{User: "u-1", Type: "SessionEnded", At: bus.Position{Page: 9}, Data: []byte{0x90}}}, bus.Position{Page: 9})
			must(t, err)
			_, err = lost.Commit(t.Context(), bus.FeedMarker{Seq: 1})
			if !errors.Is(err, bus.ErrConflict) {
				t.Fatalf("a batch after the wrong marker: %v", err)
			}
		}
		if page == 4 {
			must(t, nc.ForceReconnect())
		}
		s.Page(3)
		for i := range uint32(3) {
			select {
			case e := <-got:
				if want := (subscribe.Position{Page: page + 1, Index: i}); e.Position != want {
					t.Fatalf("%s came, not %s", e.Position, want)
				}
				n++
			case <-ctx.Done():
				t.Fatalf("only %d events came", n)
			}
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// consume is a consumer that keeps the position with what the event caused: one line of a file is both.
func consume(url, path string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	nc, err := subscribe.Connect(url, "")
	fail(err)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	fail(err)
	from, whole := subscribe.Beginning(), int64(0)
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadString('\n')
		if err != nil { // the rest is half a line, of an event that has not happened yet
			break
		}
		whole += int64(len(line))
		_, cursor, _ := strings.Cut(line, " ")
		c, err := subscribe.ParseCursor(cursor)
		fail(err)
		from = subscribe.At(c)
	}
	fail(file.Truncate(whole))
	_, err = file.Seek(whole, 0)
	fail(err)
	fail(subscribe.New(subscribe.Config{Conn: nc, From: from}).Run(context.Background(), func(e subscribe.Event) error {
		_, err := fmt.Fprintf(file, "%s %s\n", e.Position, e.Cursor())
		return err
	}))
}

// TestKilledAtAnyTime kills a consumer in the middle of its work, again and again: in the end it has seen every event once.
func TestKilledAtAnyTime(t *testing.T) {
	c := clustertest.Start(t, 1)
	b, err := bus.Connect(t.Context(), bus.ConnectConfig{URL: c.URL()})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	must(t, b.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}))
	feedtest.Publishing(t, feedtest.Source(b, 0), feedtest.Source(b, 1))
	books := []*feedtest.Script{feedtest.Write(t, b, 0), feedtest.Write(t, b, 1)}
	path := filepath.Join(t.TempDir(), "seen")
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	self, err := os.Executable()
	must(t, err)
	kills := 0
	for round := range 12 {
		for _, s := range books {
			s.Page(40 + rand.IntN(900))
			s.Page(1 + rand.IntN(40))
		}
		cmd := exec.CommandContext(t.Context(), self, path)
		cmd.Env = append(os.Environ(), killed+"="+c.URL())
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		before := size()
		last := round == 11
		if last {
			for _, s := range books {
				s.CaughtUp(b)
			}
		}
		want := before + rand.Int64N(30_000)
		for end := time.Now().Add(feedtest.Patience); ; time.Sleep(time.Millisecond) {
			if !last && size() > want || last && len(seen(t, path)) >= books[0].Len()+books[1].Len() || time.Now().After(end) {
				break
			}
			if !last && size() > before && rand.IntN(40) == 0 {
				break
			}
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		kills++
	}
	at := map[bus.Partition][]bus.Position{}
	for _, line := range seen(t, path) {
		p, err := bus.ParsePosition(line)
		must(t, err)
		at[p.Partition] = append(at[p.Partition], p)
	}
	for i, s := range books {
		want, _ := s.Events()
		if !slices.Equal(at[bus.Partition(i)], want) {
			t.Errorf("after %d kills %d events of partition %d were seen, and the book has %d", kills, len(at[bus.Partition(i)]), i, len(want))
		}
	}
}

// seen are the positions of the whole lines.
func seen(t *testing.T, path string) (at []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "\n") {
			position, _, _ := strings.Cut(line, " ")
			at = append(at, position)
		}
	}
	return at
}

// TestSpeaksTheBus: the names and forms that this package has of its own are the bus's.
func TestSpeaksTheBus(t *testing.T) {
	for _, user := range []string{"", "-", "--", "u-abc", "a.b", "*", "é", "x y", strings.Repeat("y", 70)} {
		subscribe.SameSubjects(t, user, bus.FeedSubject(3, user, "SessionEnded"), bus.FeedBellSubject(3), bus.StreamFeed)
	}
	for _, p := range []bus.Position{{}, {Partition: 63, Page: 1 << 60, Index: 1<<32 - 1}} {
		got, err := subscribe.ParsePosition(p.String())
		if err != nil || got.String() != p.String() || got.Page != p.Page {
			t.Errorf("%s is read as %s, %v", p, got, err)
		}
	}
	if _, err := subscribe.ParsePosition("0/1"); err == nil {
		t.Error("0/1 is a position")
	}
	for _, bad := range []string{"", "1", "1 x", "1 2 3", "1 2 0/1"} {
		if _, err := subscribe.ParseCursor(bad); err == nil {
			t.Errorf("%q is a cursor", bad)
		}
	}
}
