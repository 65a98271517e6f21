package bus

import (
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestLateBatch: the answer to a batch that was given up comes in the middle of the next one. None of that one is lost, as
// it would be if both had to find room in one channel.
func TestLateBatch(t *testing.T) {
	ctx := t.Context()
	e, err := StartEmbedded(EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Shutdown)
	b, err := e.Connect(ctx, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	const stream = "NOBODYS" // the test stands in for its leader, who is slow
	requests := make(chan *nats.Msg, 8)
	sub, err := b.nc.ChanSubscribe(apiDirectGet+stream, requests)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	g, err := b.newBatches()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { g.close() }()
	if _, err := g.ask(ctx, stream, nil, nil); !errors.Is(err, errNoAnswer) {
		t.Fatal(err)
	}
	given := (<-requests).Reply

	send := func(to string, n int) {
		m := nats.NewMsg(to)
		m.Data = strconv.AppendInt(nil, int64(n), 10)
		if err := b.nc.PublishMsg(m); err != nil {
			t.Error(err)
		}
	}
	began, flooded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(flooded)
		to := ""
		for waits := true; waits; {
			select {
			case r := <-requests: // again when a busy machine was too slow for the one before
				to = r.Reply
				send(to, 0)
			case <-began:
				waits = false
			}
		}
		for n := range batchPages {
			send(given, n)
		}
		for n := 1; n < batchPages; n++ {
			send(to, n)
		}
		end := nats.NewMsg(to)
		end.Header.Set(headerStatus, statusEndOfBatch)
		if err := b.nc.PublishMsg(end); err != nil {
			t.Error(err)
		}
		if err := b.nc.FlushTimeout(time.Minute); err != nil { // all is in the channels, or dropped
			t.Error(err)
		}
	}()
	next, err := 0, errNoAnswer
	for next == 0 && errors.Is(err, errNoAnswer) {
		_, err = g.ask(ctx, stream, nil, func(m *nats.Msg) error {
			if string(m.Data) != strconv.Itoa(next) {
				t.Errorf("message %s, want %d", m.Data, next)
			}
			if next++; next == 1 { // the reader is kept from reading
				close(began)
				<-flooded
			}
			return nil
		})
	}
	if err != nil || next != batchPages {
		t.Errorf("%d messages of %d: %v", next, batchPages, err)
	}
}
