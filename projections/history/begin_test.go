package history

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestRangeIsTheScan: on random histories with snapshots anywhere, what happened in a time is what every page of the book
// gives, and what is taken out of the history of all; so are the counts.
func TestRangeIsTheScan(t *testing.T) {
	ended, began := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		lives := []*life{lifeOf(0, 2), lifeOf(1, 2)}
		last := base
		for _, l := range lives {
			for range rapid.IntRange(0, 25).Draw(t, "pages") {
				if l.step(t); rapid.IntRange(0, 4).Draw(t, "snapshot") == 0 {
					l.snapshot(t)
				}
			}
			last = max(last, l.now)
		}
		books := []Book{lives[0].book, lives[1].book}
		r, scan := readerOf(lives[0].book, lives[1].book), NewReader(ReaderConfig{Books: books, Scan: true, Log: quiet})
		all := walked(t, scan, Query{})
		for range 4 {
			q := Query{From: base + session.Instant(rapid.Int64Range(0, int64(last-base)+20).Draw(t, "from"))}
			if rapid.Bool().Draw(t, "bounded") {
				q.To = q.From + session.Instant(rapid.IntRange(1, 60).Draw(t, "long"))
			}
			if rapid.Bool().Draw(t, "at a venue") {
				q.Venue = session.Genesis
			}
			got := walked(t, r, q)
			if diff := cmp.Diff(walked(t, scan, q), got); diff != "" {
				t.Fatalf("from %d to %d is not the scan's:\n%s", q.From-base, q.To-base, diff)
			}
			n := 0
			for _, e := range all {
				if at := e.Event.When(); at >= q.From && (q.To == 0 || at < q.To) && (q.Venue == 0 || e.Venue == q.Venue ||
					e.ends(func(s *session.Session) bool { return s.Venue == q.Venue })) {
					n++
					ended += len(e.Ended)
				}
			}
			if n != len(got) {
				t.Fatalf("from %d to %d has %d entries, by hand %d", q.From-base, q.To-base, len(got), n)
			}
			what := Counted{Venue: q.Venue, From: q.From, To: q.To}
			counts, err := r.Count(t.Context(), what)
			byScan, failed := scan.Count(t.Context(), what)
			if err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			if diff := cmp.Diff(byScan, counts, cmpopts.IgnoreFields(Counts{}, "Events")); diff != "" {
				t.Fatalf("from %d to %d is not counted as the scan does:\n%s", q.From-base, q.To-base, diff)
			}
			if counts.Events < byScan.Events {
				began++
			}
		}
	})
	if ended == 0 || began == 0 {
		t.Errorf("%d sessions were ended by revocations, and a snapshot spared something %d times", ended, began)
	}
}

// TestRangeSparesTheBook: for a time, the pages of that time are read, and those since the newest snapshot before it.
func TestRangeSparesTheBook(t *testing.T) {
	l := lifeOf(0, 1)
	for n := range 1000 {
		if n == 900 {
			l.snapshot(t)
		}
		l.now += session.Instant(time.Second)
		l.book.append(t, l.now, &session.UserEnabled{Header: session.Header{At: l.now, User: "jane"}})
	}
	at := func(page int) session.Instant { return base.Add(time.Duration(page) * time.Second) }
	for _, c := range []struct {
		name     string
		q        Query
		events   int
		pages    int64 // that are wanted
		bisected int64 // the most that are looked at to find them
	}{
		{"late", Query{From: at(951)}, 50, 100, 10},
		{"late and short", Query{From: at(951), To: at(961)}, 10, 61, 20},
		{"early", Query{To: at(11)}, 10, 11, 10},
		{"before the snapshot", Query{From: at(100), To: at(110)}, 10, 110, 20},
		{"after the end", Query{From: at(2000)}, 0, 100, 10},
	} {
		l.book.full.Store(0)
		r := readerOf(l.book)
		if got := walked(t, r, c.q); len(got) != c.events {
			t.Errorf("%s: %d events, want %d", c.name, len(got), c.events)
		}
		if n := l.book.full.Load(); n > c.pages+c.bisected {
			t.Errorf("%s: %d pages were read", c.name, n)
		}
		if read, of := r.Progress(); int64(read) != c.pages || int64(of) != c.pages {
			t.Errorf("%s: the progress is %d of %d, want %d", c.name, read, of, c.pages)
		}
	}
}

// TestReach: how far books go, also where one is empty or begins with a page without events.
func TestReach(t *testing.T) {
	books := []*memory{newMemory(0), newMemory(1)}
	reach := func(user session.UserID) Reach {
		got, err := readerOf(books...).Reach(t.Context(), user)
		must(t, err)
		return got
	}
	if got := reach(""); got != (Reach{}) {
		t.Errorf("nothing is written: %v", got)
	}
	enabled := func(at session.Instant) session.Event {
		return &session.UserEnabled{Header: session.Header{At: at, User: "jane"}}
	}
	here := int(bus.PartitionOf("jane", 2))
	books[here].append(t, base+9, enabled(base+5), enabled(base+6))
	books[1-here].append(t, base+7)
	books[1-here].append(t, base+8)
	if got := reach(""); got != (Reach{base + 5, base + 9}) {
		t.Errorf("all go from %d to %d", got.First-base, got.Last-base)
	}
	books[1-here].append(t, base+20)
	if got := reach(""); got != (Reach{base + 5, base + 20}) {
		t.Errorf("all go from %d to %d", got.First-base, got.Last-base)
	}
	if got := reach("jane"); got != (Reach{base + 5, base + 9}) {
		t.Errorf("jane's goes from %d to %d", got.First-base, got.Last-base)
	}
	found, err := readerOf(books...).Any(t.Context(), Query{User: "jane"})
	if err != nil || !found {
		t.Errorf("jane is not found: %v", err)
	}
	found, err = readerOf(books...).Any(t.Context(), Query{User: "bob"})
	if err != nil || found {
		t.Errorf("bob is found: %v", err)
	}
}
