package subscribe_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/projections/feed/feedtest"
	"rollbook/projections/feed/subscribe"
)

// life is a bus with one life of a book: pages of two events, and what its feed's stream says of its restores.
func life(t *testing.T, pages int, restores ...string) *bus.Bus {
	t.Helper()
	b := bustest.Created(t, 1)
	if len(restores) > 0 {
		must(t, b.MarkFeed(t.Context(), restores))
	}
	feedtest.Publishing(t, feedtest.Source(b, 0))
	s := feedtest.Write(t, b, 0)
	for range pages {
		s.Page(2)
	}
	s.CaughtUp(b)
	return b
}

// endOf is the cursor of who has read all of a life.
func endOf(t *testing.T, b *bus.Bus) subscribe.Cursor {
	t.Helper()
	_, s := read(t, subscribe.Config{Conn: b.Conn(), From: subscribe.Beginning()})
	c, err := subscribe.ParseCursor(s.Cursor().String())
	must(t, err)
	return c
}

// TestRestoredBook: whoever has seen more than a backup had is told so by the book that was restored from it, also when that
// has grown past all that was seen; from where the two part on everything comes. Whoever has seen no more goes on.
func TestRestoredBook(t *testing.T) {
	old := life(t, 6)
	seen := endOf(t, old)
	now := life(t, 9, "0/3/aaaa")
	cfg := subscribe.Config{Conn: now.Conn(), From: subscribe.At(seen)}
	err := subscribe.New(cfg).ReadAll(t.Context(), func(e subscribe.Event) error { return fmt.Errorf("%s is given", e.Position) })
	var parted *subscribe.RestoredError
	if !errors.As(err, &parted) || !errors.Is(err, subscribe.ErrRestored) || parted.Page != 3 || parted.Seen.String() != "0/6.1" {
		t.Fatalf("%v", err)
	}
	again, err := subscribe.ParseCursor(parted.Cursor.String())
	must(t, err)
	list, _ := read(t, subscribe.Config{Conn: now.Conn(), From: subscribe.At(again)})
	if len(list) != 12 || list[0].Position.String() != "0/4.0" {
		t.Errorf("behind the parting there are %v", positions(list))
	}
	file := subscribe.NewFile(filepath.Join(t.TempDir(), "cursor"))
	must(t, file.Save(seen))
	cfg.File = file
	if err := subscribe.New(cfg).ReadAll(t.Context(), nil); !errors.Is(err, subscribe.ErrRestored) {
		t.Errorf("with a file: %v", err)
	}
	if kept, ok, err := file.Load(); err != nil || !ok || kept.String() != seen.String() {
		t.Errorf("the file has %s, %v", kept, err)
	}

	early := seen
	early.Positions = map[uint16]subscribe.Position{0: {Page: 3, Index: 0}}
	list, s := read(t, subscribe.Config{Conn: now.Conn(), From: subscribe.At(early)})
	if len(list) != 13 || list[0].Position.String() != "0/3.1" {
		t.Errorf("behind the page that was restored last there are %v", positions(list))
	}
	if c := s.Cursor(); len(c.Restored) != 1 || c.Restored[0].String() != "0/3/aaaa" {
		t.Errorf("the cursor is %s", c)
	}
}

// TestAStartThatFails leaves the file as it is: who begins anew for want of it sees everything twice.
func TestAStartThatFails(t *testing.T) {
	b := life(t, 3)
	seen := endOf(t, b)
	file := subscribe.NewFile(filepath.Join(t.TempDir(), "cursor"))
	must(t, file.Save(seen))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := subscribe.New(subscribe.Config{Conn: b.Conn(), File: file}).Run(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if kept, ok, err := file.Load(); err != nil || !ok || kept.String() != seen.String() {
		t.Errorf("the file has %s, %v; it had %s", kept, err, seen)
	}
}

// TestPasts compares the pasts of a book that a cursor and a feed can have, each with the page that the two part behind.
func TestPasts(t *testing.T) {
	const none = "goes on"
	for _, c := range []struct{ seen, feed, want string }{
		{"0/9.1", "", none},
		{"0/9.1", "0/5/a", "5"},
		{"0/5.1", "0/5/a", none},
		{"0/1.0", "0/0/a", "0"},
		{"0/9.1 0/5/a", "0/5/a", none},
		{"0/9.1 0/5/a", "0/5/b", "5"}, // one backup, restored twice
		{"0/9.1 0/5/a", "0/7/b", "5"},
		{"0/9.1 0/5/a", "0/3/b", "3"},
		{"0/9.1 0/5/a", "0/5/a 0/7/b", "7"},
		{"0/9.1 0/5/a", "0/5/a 0/9/b", none},
		{"0/9.1 0/5/a 0/7/b", "0/5/a", "7"},
		{"0/9.1 0/5/a", "", "5"},
		{"0/4.1 0/5/a", "", none},
		{"0/9.1 0/5/a", "0/5/a 1/2/b", none}, // of a partition that was not seen
	} {
		words := []string{}
		if c.feed != "" {
			words = append(words, c.feed)
		}
		b := life(t, 1, words...)
		from, err := subscribe.ParseCursor("1 9 " + c.seen)
		must(t, err)
		err = subscribe.New(subscribe.Config{Conn: b.Conn(), From: subscribe.At(from)}).ReadAll(t.Context(), func(subscribe.Event) error { return nil })
		got := none
		var parted *subscribe.RestoredError
		if errors.As(err, &parted) {
			got = fmt.Sprint(parted.Page)
			cut := parted.Cursor.Positions[0]
			if cut.Page != parted.Page || !slices.Equal(words, restoresText(parted.Cursor)) {
				t.Errorf("seen %q, the feed of %q: go on at %s", c.seen, c.feed, parted.Cursor)
			}
		} else if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("seen %q, the feed of %q: %s, want %s", c.seen, c.feed, got, c.want)
		}
	}
}

func restoresText(c subscribe.Cursor) []string {
	list := []string{}
	text := ""
	for _, r := range c.Restored {
		if text != "" {
			text += " "
		}
		text += r.String()
	}
	if text != "" {
		list = append(list, text)
	}
	return list
}

// TestSameStream: the feed of one stream is of one life, whatever an older program's cursor says of restores.
func TestSameStream(t *testing.T) {
	b := life(t, 4, "0/2/a")
	c := endOf(t, b)
	c.Restored = nil
	ctx, cancel := context.WithTimeout(t.Context(), feedtest.Patience)
	defer cancel()
	if err := subscribe.New(subscribe.Config{Conn: b.Conn(), From: subscribe.At(c)}).ReadAll(ctx, func(subscribe.Event) error { return nil }); err != nil {
		t.Error(err)
	}
}
