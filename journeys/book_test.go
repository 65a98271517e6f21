package journeys

import (
	"context"
	"log/slog"
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
)

// stoppedBus starts the bus of a stopped instance, without the instance. It ends with the test, or with stop.
func stoppedBus(t *testing.T, data string) (b *bus.Bus, stop func()) {
	t.Helper()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	if b, err = server.Connect(t.Context(), "test", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return b, server.Shutdown
}

// readBook hands every page of a book as of now to fn, with its events. It returns how many pages there are.
func readBook(t *testing.T, ctx context.Context, book *bus.Book, fn func(seq uint64, page bus.Page, events []session.Event)) (pages uint64) {
	t.Helper()
	end, err := book.End(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = book.Read(ctx, 0, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		if err != nil {
			return err
		}
		events := make([]session.Event, len(page.Events))
		for i, data := range page.Events {
			if events[i], err = session.DecodeEvent(data); err != nil {
				return err
			}
		}
		fn(stored.Seq, page, events)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// oncePerCommand notes the commands that a page answers, and finds those that an earlier one answered.
type oncePerCommand map[bus.CommandID]bool

func (seen oncePerCommand) note(t *testing.T, page bus.Page) {
	t.Helper()
	for _, a := range page.Answers {
		if seen[a.ID] {
			t.Error("a command was answered by two pages")
		}
		seen[a.ID] = true
	}
}
