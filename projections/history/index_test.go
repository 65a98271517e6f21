package history

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestIndexIsTheScan: on random books, whatever writes an indexer was killed between, whatever was lost, damaged or left
// by another index, a user's history by the lists is the one that every page of the book gives.
func TestIndexIsTheScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, rolled := lifeOf(0, 1), false
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 12).Draw(t, "pages") {
				l.step(t)
			}
			what := []string{"index", "index", "index", "kill", "kill", "roll back"}
			if !rolled { // a lost list and one that a lost future has left in its place: that is two faults
				what = append(what, "lose", "damage")
			}
			switch rapid.SampledFrom(what).Draw(t, "what") {
			case "index":
				l.index(t)
			case "kill":
				l.book.puts = rapid.IntRange(0, 3*bus.HistoryBuckets).Draw(t, "writes before it is killed")
				l.index(t)
				l.book.puts = -1
			case "lose":
				bucket := keyOf(rapid.SampledFrom(append(l.users, "")).Draw(t, "whose")).bucket()
				if n := len(l.book.lists[bucket]); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(t, "which")
					l.book.lists[bucket] = slices.Delete(l.book.lists[bucket], i, i+1)
				}
			case "damage":
				bucket := keyOf(rapid.SampledFrom(append(l.users, "")).Draw(t, "whose")).bucket()
				for i, list := range l.book.lists[bucket] {
					list = bytes.Clone(list)
					list[rapid.IntRange(0, len(list)-1).Draw(t, "where")] ^= 0x40
					l.book.lists[bucket][i] = list
				}
			case "roll back": // the book was restored to an earlier state and goes on differently, beside the same lists
				rolled = true
				l.book.pages = l.book.pages[:rapid.IntRange(0, len(l.book.pages)).Draw(t, "to")]
			}
			l.compare(t)
		}
	})
}

// index runs an indexer of a process's own until it is done or killed.
func (l *life) index(t *rapid.T) {
	x := NewIndexer(IndexerConfig{Book: l.book, Every: rapid.IntRange(1, 30).Draw(t, "every"), Log: quiet})
	if err := x.Extend(context.Background()); err != nil && !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
}

func (l *life) compare(t *rapid.T) {
	byLists, byScan := readerOf(l.book), NewReader(ReaderConfig{Books: []Book{l.book}, Scan: true, Log: quiet})
	for _, user := range append(l.users, "stranger") {
		q := Query{User: user}
		got, want := walked(t, byLists, q), walked(t, byScan, q)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the history of %s by the lists is not the scan's:\n%s", user, diff)
		}
	}
	// And the scan's is what a look at each event finds.
	all := walked(t, byScan, Query{})
	for _, user := range l.users {
		n := 0
		for _, e := range all {
			if e.User() == user || e.ends(func(s *session.Session) bool { return s.User == user }) {
				n++
			}
		}
		if got := len(walked(t, byScan, Query{User: user})); got != n {
			t.Fatalf("%s has %d entries, and %d in the history of all", user, got, n)
		}
	}
}

// TestListsSpareTheBook: with lists, a user who is on few pages costs few.
func TestListsSpareTheBook(t *testing.T) {
	book := newMemory(0)
	for n := range 500 {
		user := session.UserID("many")
		if n%100 == 50 {
			user = "rare"
		}
		book.append(t, base+session.Instant(n), &session.UserEnabled{Header: session.Header{At: base + session.Instant(n), User: user}})
	}
	must(t, NewIndexer(IndexerConfig{Book: book, Every: 64, Log: quiet}).Extend(t.Context()))
	book.full.Store(0)
	r := readerOf(book)
	if got := walked(t, r, Query{User: "rare"}); len(got) != 5 {
		t.Errorf("%d events of 5", len(got))
	}
	if n := book.full.Load(); n > 6 { // the five, and the one that says which book the lists are of
		t.Errorf("%d pages were read", n)
	}
	if read, of := r.Progress(); read != 5 || of != 5 {
		t.Errorf("the progress is %d of %d", read, of)
	}
}

// TestListRoundTrip: a list and a mark come back as they were; a changed or cut one is refused.
func TestListRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := list{gen: generation{1, 2}, run: span{after: rapid.Uint64Range(0, 1<<40).Draw(t, "after")}, pages: map[userKey][]uint64{}}
		l.run.through = l.run.after + rapid.Uint64Range(1, 1000).Draw(t, "run")
		var keys []userKey
		for _, name := range rapid.SliceOfDistinct(rapid.StringN(0, 4, -1), rapid.ID).Draw(t, "users") {
			key := keyOf(session.UserID(name))
			pages := rapid.SliceOfNDistinct(rapid.Uint64Range(l.run.after+1, l.run.through), 1, int(min(5, l.run.through-l.run.after)), rapid.ID).Draw(t, "pages")
			slices.Sort(pages)
			l.pages[key], keys = pages, append(keys, key)
		}
		data := l.encode()
		got, err := decodeList(data, keys...)
		if err != nil || got.gen != l.gen || got.run != l.run || !cmp.Equal(got.pages, l.pages) {
			t.Fatalf("%+v, %v\nwant %+v", got, err, l)
		}
		if others, err := decodeList(data); err != nil || len(others.pages) > 0 {
			t.Fatalf("nobody was asked for: %+v, %v", others, err)
		}
		data[rapid.IntRange(0, len(data)-1).Draw(t, "where")] ^= 1
		if _, err := decodeList(data, keys...); !errors.Is(err, errDamagedList) {
			t.Fatalf("damaged: %v", err)
		}
		m := mark{generation{7}, rapid.Uint64().Draw(t, "through"), [32]byte{9}}
		if got, err := decodeMark(m.encode()); err != nil || got != m {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

// FuzzLists: bytes with a good checksum and any content are a list that encodes to the same facts, or are refused.
func FuzzLists(f *testing.F) {
	f.Add([]byte{listVersion})
	f.Fuzz(func(t *testing.T, data []byte) {
		key := keyOf("u1")
		if _, err := decodeMark(sealed(bytes.Clone(data))); err != nil && !errors.Is(err, errDamagedList) {
			t.Fatal(err)
		}
		l, err := decodeList(sealed(bytes.Clone(data)), key)
		if err != nil {
			if !errors.Is(err, errDamagedList) {
				t.Fatal(err)
			}
			return
		}
		for _, page := range l.pages[key] {
			if page < l.run.after || page > l.run.through {
				t.Fatalf("page %d is not of the run %v", page, l.run)
			}
		}
	})
}

// TestUncovered: what no run covers, against each page looked at by itself.
func TestUncovered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.Uint64Range(0, 30).Draw(t, "end")
		var runs []span
		for range rapid.IntRange(0, 5).Draw(t, "runs") {
			after := rapid.Uint64Range(0, 30).Draw(t, "after")
			runs = append(runs, span{after, after + rapid.Uint64Range(0, 10).Draw(t, "long")})
		}
		gaps := uncovered(slices.Clone(runs), end)
		in := func(spans []span, page uint64) bool {
			return slices.ContainsFunc(spans, func(s span) bool { return s.after < page && page <= s.through })
		}
		for page := uint64(1); page <= 45; page++ {
			if want := page <= end && !in(runs, page); in(gaps, page) != want {
				t.Fatalf("page %d of %d with %v: %v", page, end, runs, gaps)
			}
		}
	})
}
