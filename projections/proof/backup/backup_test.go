package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine/session"
	"rollbook/projections/proof"
)

// backupOf writes a backup of a site.
func backupOf(t testing.TB, s *site) []byte {
	t.Helper()
	var file bytes.Buffer
	_, err := Write(soon(t), WriteConfig{Bus: s.bus, Layout: bus.Layout{Partitions: len(s.last), Replicas: 1}, Program: "test", Now: s.now.Time()}, &file)
	ok(t, err)
	return file.Bytes()
}

// restored puts a backup onto a bus.
func restored(t testing.TB, onto *bus.Bus, file []byte, with func(*RestoreConfig)) (Restored, error) {
	t.Helper()
	s, err := Verify(bytes.NewReader(file))
	ok(t, err)
	cfg := RestoreConfig{Bus: onto, Summary: s, Now: func() time.Time { return time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC) }}
	if with != nil {
		with(&cfg)
	}
	return Restore(soon(t), cfg, bytes.NewReader(file))
}

// comparePages holds that a restored partition begins with the pages of another, byte for byte, and gives the rest.
func comparePages(t testing.TB, was []bus.StoredPage, onto *bus.Bus, p bus.Partition) (beyond []bus.StoredPage) {
	t.Helper()
	now := book(t, onto, p)
	if len(now) < len(was) {
		t.Fatalf("partition %s has %d pages, and had %d", p, len(now), len(was))
	}
	for i, page := range was {
		if now[i].Seq != page.Seq || !bytes.Equal(now[i].Data, page.Data) {
			t.Fatalf("page %d of partition %s differs", page.Seq, p)
		}
	}
	return now[len(was):]
}

// TestRoundTrip: what is restored is the book byte for byte, the directory, and how far webhooks had come; it says that
// it was restored, and nobody is logged in. A session that ended after the backup stays dead.
func TestRoundTrip(t *testing.T) {
	s := newSite(t, 3)
	s.furnish(4)
	was := [][]bus.StoredPage{book(t, s.bus, 0), book(t, s.bus, 1), book(t, s.bus, 2)}
	file, made := backupOf(t, s), s.now
	s.write(0, &session.SessionEnded{Header: s.at("user-0-0"), Session: session.SessionID{2, 1}, Reason: session.LoggedOut})

	onto := bustest.Empty(t)
	done, err := restored(t, onto, file, nil)
	ok(t, err)
	if done.Ended != 12 || done.Used != 12 || done.Resumed {
		t.Errorf("%+v", done)
	}
	layout, err := onto.Open(t.Context())
	ok(t, err)
	if layout != (bus.Layout{Partitions: 3, Replicas: 1}) {
		t.Errorf("the layout is %+v", layout)
	}
	for p := range bus.Partition(3) {
		beyond := comparePages(t, was[p], onto, p)
		events := eventsOf(t, beyond[0])
		mark, is := events[0].(*session.BookRestored)
		if !is || mark.Page != uint64(len(was[p])) || mark.Made != made || mark.Kept || mark.At < made {
			t.Errorf("partition %s goes on with %+v", p, events[0])
		}
		if state := folded(t, onto, p); state.Sessions() != 0 || len(state.Retire(state.Clock())) != 0 {
			t.Errorf("%d sessions are alive, and what may be presented is %v", state.Sessions(), state.Retire(state.Clock()))
		}
		if folded(t, s.bus, p).Sessions() == 0 {
			t.Error("nobody was logged in before: the test shows nothing")
		}
	}
	first, last := bus.TruthsBeside()
	for _, stream := range []string{first[0], last[0]} {
		if got := entries(t, onto, stream); !maps.Equal(got, entries(t, s.bus, stream)) || len(got) == 0 {
			t.Errorf("%s holds %v", stream, got)
		}
	}
}

// TestKeepSessions: on demand the sessions live on, and the book says that.
func TestKeepSessions(t *testing.T) {
	s := newSite(t, 1)
	s.furnish(2)
	onto := bustest.Empty(t)
	_, err := restored(t, onto, backupOf(t, s), func(c *RestoreConfig) { c.KeepSessions = true })
	ok(t, err)
	if n := folded(t, onto, 0).Sessions(); n != 2 {
		t.Errorf("%d sessions are alive", n)
	}
	pages := book(t, onto, 0)
	if mark, is := eventsOf(t, pages[len(pages)-1])[0].(*session.BookRestored); !is || !mark.Kept {
		t.Errorf("the last page says %+v", mark)
	}
}

// TestAnEmptyBook can be backed up and restored too.
func TestAnEmptyBook(t *testing.T) {
	s, onto := newSite(t, 2), bustest.Empty(t)
	_, err := restored(t, onto, backupOf(t, s), nil)
	ok(t, err)
	if n := len(book(t, onto, 1)); n != 1 {
		t.Errorf("%d pages", n)
	}
}

// TestOnlyIntoAnEmptyPlace: a book, one in the making, and a directory with users are left as they are.
func TestOnlyIntoAnEmptyPlace(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(1)
	file := backupOf(t, s)
	before := book(t, s.bus, 0)
	_, err := restored(t, s.bus, file, nil)
	want(t, err, bus.ErrExists)
	if len(book(t, s.bus, 0)) != len(before) {
		t.Error("a restore onto a book has written to it")
	}
	other := newSite(t, 1) // another layout
	_, err = restored(t, other.bus, file, nil)
	want(t, err, bus.ErrExists)
	if n := len(book(t, other.bus, 0)); n != 0 {
		t.Errorf("a restore onto another book has written %d pages", n)
	}
}

// TestACutRestoreGoesOn: however far a restore came, nobody opens what it left, and the same restore completes it.
func TestACutRestoreGoesOn(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(3)
	was := [][]bus.StoredPage{book(t, s.bus, 0), book(t, s.bus, 1)}
	file := backupOf(t, s)
	steps := uint64(len(was[0])+len(was[1])) * 2
	onto := bustest.Empty(t)
	for stop := uint64(1); stop <= steps; stop += 5 { // each attempt goes on from the one before
		ctx, cancel := context.WithCancel(soon(t))
		sum, err := Verify(bytes.NewReader(file))
		ok(t, err)
		_, err = Restore(ctx, RestoreConfig{Bus: onto, Summary: sum, Now: time.Now, Progress: func(done, of uint64) {
			if of != steps {
				t.Errorf("%d steps are announced, not %d", of, steps)
			}
			if done == stop {
				cancel()
			}
		}}, bytes.NewReader(file))
		if err == nil && stop < steps-1 {
			t.Fatalf("it was cut at step %d and is done", stop)
		}
		if err == nil {
			break
		}
		_, err = onto.Open(t.Context())
		want(t, err, bus.ErrRestoring)
		want(t, onto.Create(t.Context(), bus.Layout{Partitions: 2, Replicas: 1}), bus.ErrExists)
	}
	if _, err := onto.Open(t.Context()); err != nil {
		want(t, err, bus.ErrRestoring)
		done, err := restored(t, onto, file, nil)
		ok(t, err)
		if !done.Resumed {
			t.Error("it began anew")
		}
		_, err = onto.Open(t.Context())
		ok(t, err)
	}
	for p := range bus.Partition(2) {
		beyond := comparePages(t, was[p], onto, p)
		marks := 0
		for _, page := range beyond {
			for _, e := range eventsOf(t, page) {
				if _, is := e.(*session.BookRestored); is {
					marks++
				}
			}
		}
		if n := len(strings.Fields(restoresOf(t, onto))); n != 2 {
			t.Errorf("the feed names %d restores", n)
		}
		if marks != 1 || folded(t, onto, p).Sessions() != 0 {
			t.Errorf("partition %s has %d marks and %d sessions", p, marks, folded(t, onto, p).Sessions())
		}
	}
	_, err := restored(t, onto, file, nil)
	want(t, err, bus.ErrExists)
}

// TestAnotherBackup does not go on where one was cut short.
func TestAnotherBackup(t *testing.T) {
	one, two, onto := newSite(t, 1), newSite(t, 1), bustest.Empty(t)
	one.furnish(2)
	two.now++
	two.furnish(2)
	file := backupOf(t, one)
	sum, err := Verify(bytes.NewReader(file))
	ok(t, err)
	ctx, cancel := context.WithCancel(soon(t))
	_, err = Restore(ctx, RestoreConfig{Bus: onto, Summary: sum, Now: time.Now, Progress: func(done, _ uint64) {
		if done == 3 {
			cancel()
		}
	}}, bytes.NewReader(file))
	want(t, err, context.Canceled)
	_, err = restored(t, onto, backupOf(t, two), nil)
	want(t, err, ErrOtherRestore)
	_, err = onto.Open(t.Context())
	want(t, err, bus.ErrRestoring)
}

// TestDamageIsRefused: a backup with a byte changed, missing or added, at any place, is refused before anything is written.
func TestDamageIsRefused(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(2)
	file := backupOf(t, s)
	seed := uint64(20261122)
	random := rand.New(rand.NewPCG(seed, 1))
	refused := func(name string, damaged []byte) {
		t.Helper()
		if bytes.Equal(damaged, file) {
			return
		}
		if _, err := Verify(bytes.NewReader(damaged)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2000 {
		at := random.IntN(len(file))
		flipped := bytes.Clone(file)
		flipped[at] ^= byte(1 + random.IntN(255))
		refused(fmt.Sprintf("byte %d changed", at), flipped)
		refused(fmt.Sprintf("cut at %d", at), file[:at])
		to := at + random.IntN(len(file)-at)
		refused(fmt.Sprintf("%d to %d taken out", at, to+1), append(bytes.Clone(file[:at]), file[min(to+1, len(file)):]...))
		refused(fmt.Sprintf("%d to %d repeated", at, to), append(bytes.Clone(file[:to]), file[at:]...))
	}
	refused("something follows", append(bytes.Clone(file), 0))
	refused("empty", nil)
}

// TestTheSummaryIsHeld: a file that is not the verified one any more is not restored to the end.
func TestTheSummaryIsHeld(t *testing.T) {
	s := newSite(t, 1)
	s.furnish(1)
	file := backupOf(t, s)
	sum, err := Verify(bytes.NewReader(file))
	ok(t, err)
	s.furnish(1)
	later, onto := backupOf(t, s), bustest.Empty(t)
	_, err = Restore(soon(t), RestoreConfig{Bus: onto, Summary: sum, Now: time.Now}, bytes.NewReader(later))
	want(t, err, ErrDamaged)
	_, err = onto.Open(t.Context())
	want(t, err, bus.ErrRestoring)
}

// TestKnown: a shorter history, and another one, are told apart from what is known, in both directions.
func TestKnown(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(2)
	early := backupOf(t, s)
	s.write(1, s.login("user-1-0"))
	late := backupOf(t, s)
	other := newSite(t, 2)
	other.now += 5
	other.furnish(2)
	other.write(1, other.login("user-1-0"))
	check := func(file, known []byte) error {
		t.Helper()
		k, err := Verify(bytes.NewReader(known))
		ok(t, err)
		by := KnownBy(k)
		sum, err := Verify(bytes.NewReader(file), by)
		ok(t, err)
		return by.Check(sum)
	}
	ok(t, check(late, early))
	ok(t, check(late, late))
	want(t, check(early, late), ErrShorter)
	want(t, check(backupOf(t, other), early), ErrOtherHistory)
	want(t, check(backupOf(t, other), late), ErrOtherHistory)
	want(t, check(late, backupOf(t, newSite(t, 1))), ErrOtherHistory)
	ok(t, check(late, backupOf(t, newSite(t, 2))))
}

// hashes reads the stored hashes of a tree that is kept whole.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, h[i])
	}
	return list, nil
}

// TestTheRootIsTheNotarys: it is that of a whole tree, kept by the library, with a leaf an event and a leaf a page. A
// signed checkpoint of that root is known of the backup, and one of another root is not.
func TestTheRootIsTheNotarys(t *testing.T) {
	s := newSite(t, 2)
	s.furnish(3)
	sum, err := Verify(bytes.NewReader(backupOf(t, s)))
	ok(t, err)
	var whole hashes
	n := int64(0)
	leaf := func(data []byte) {
		more, err := tlog.StoredHashes(n, data, whole)
		ok(t, err)
		whole, n = append(whole, more...), n+1
	}
	for _, stored := range book(t, s.bus, 1) {
		page, err := bus.DecodePage(stored.Data)
		ok(t, err)
		for i, e := range page.Events {
			leaf(proof.EventPreimage(1, stored.Seq, i, e))
		}
		leaf(proof.PagePreimage(1, stored.Seq, stored.Data))
	}
	root, err := tlog.TreeHash(n, whole)
	ok(t, err)
	if sum.Parts[1].Root != [32]byte(root) {
		t.Error("the root is not that of the whole tree")
	}
	check := func(c proof.Checkpoint) error {
		k := KnownSigned(c)
		sum, err := Verify(bytes.NewReader(backupOf(t, s)), k)
		ok(t, err)
		return k.Check(sum)
	}
	end := sum.Parts[1].Pages
	ok(t, check(proof.Checkpoint{Partition: 1, Page: end, Root: root}))
	want(t, check(proof.Checkpoint{Partition: 1, Page: end - 1, Root: root}), ErrOtherHistory)
	want(t, check(proof.Checkpoint{Partition: 1, Page: end + 1, Root: root}), ErrShorter)
	want(t, check(proof.Checkpoint{Partition: 2, Page: end, Root: root}), ErrOtherHistory)
}

// restoresOf is what the feed's stream says of the restores in the past of its book.
func restoresOf(t testing.TB, b *bus.Bus) string {
	t.Helper()
	s, err := b.JetStream().Stream(t.Context(), bus.StreamFeed)
	ok(t, err)
	return s.CachedInfo().Config.Metadata["rollbook-restored"]
}

// TestRestoresAreNamed: the feed of a restored book names its restore, and those that were in the backup; two restores of one
// backup have different names.
func TestRestoresAreNamed(t *testing.T) {
	s, first, second, again := newSite(t, 2), bustest.Empty(t), bustest.Empty(t), bustest.Empty(t)
	s.furnish(1)
	file := backupOf(t, s)
	_, err := restored(t, first, file, nil)
	ok(t, err)
	one := strings.Fields(restoresOf(t, first))
	if len(one) != 2 || !strings.HasPrefix(one[0], "0/3/") || !strings.HasPrefix(one[1], "1/3/") {
		t.Fatalf("%q", one)
	}
	for p, word := range one {
		pages := book(t, first, bus.Partition(p))
		page, err := bus.DecodePage(pages[3].Data)
		ok(t, err)
		if want := restoreWord(bus.Partition(p), 3, page.Events[0]); word != want {
			t.Errorf("%s, and the book has %s", word, want)
		}
	}
	_, err = restored(t, again, file, func(c *RestoreConfig) { c.Now = time.Now })
	ok(t, err)
	if other := restoresOf(t, again); other == restoresOf(t, first) || !strings.HasPrefix(other, "0/3/") {
		t.Errorf("restored again: %q", other)
	}
	var copied bytes.Buffer
	_, err = Write(soon(t), WriteConfig{Bus: first, Layout: bus.Layout{Partitions: 2, Replicas: 1}, Program: "test", Now: time.Now()}, &copied)
	ok(t, err)
	_, err = restored(t, second, copied.Bytes(), nil)
	ok(t, err)
	two := strings.Fields(restoresOf(t, second))
	if len(two) != 4 || two[0] != one[0] || two[2] != one[1] || !strings.HasPrefix(two[1], "0/4/") || !strings.HasPrefix(two[3], "1/4/") {
		t.Errorf("%q, and before %q", two, one)
	}
}
