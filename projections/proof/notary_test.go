package proof_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// TestNotaryGoesOn: notaries that follow one another sign one history, and it verifies.
func TestNotaryGoesOn(t *testing.T) {
	h := newHouse(t, 2)
	for round := range 4 {
		cfg := h.config()
		cfg.Verify = &proof.Live{Bus: h.bus}
		n, stop := h.notary(cfg)
		for i := range 5 {
			h.page(0, i)
			h.page(1, round)
			h.signed(n)
		}
		stop()
		if alarms := n.Alarms(); len(alarms) > 0 {
			t.Fatal(alarms)
		}
	}
	findings, reached := h.verify()
	if len(findings) > 0 || len(reached) != 2 || reached[0].Page != 20 || reached[1].Page != 20 ||
		reached[0].Events != 40 || reached[1].Events != 30 || reached[0].Checkpoint < 20 || reached[0].Uncovered != 0 {
		t.Errorf("%v, %+v", findings, reached)
	}
	h.page(0, 3)
	if findings, reached = h.verify(); len(findings) > 0 || reached[0].Uncovered != 1 {
		t.Errorf("with a page that is not signed: %v, %+v", findings, reached)
	}
}

// TestTwoNotaries with one key sign one history.
func TestTwoNotaries(t *testing.T) {
	h := newHouse(t, 1)
	a, _ := h.notary(h.config())
	b, _ := h.notary(h.config())
	for range 30 {
		h.page(0, 2)
	}
	until(t, "all pages are signed", func() bool { return max(a.Signed(0).Page, b.Signed(0).Page) == h.last[0] })
	if findings, _ := h.verify(); len(findings) > 0 || len(a.Alarms())+len(b.Alarms()) > 0 {
		t.Error(findings, a.Alarms(), b.Alarms())
	}
}

// TestCheckpointIsStandard has the library that others use open a checkpoint and compute its root from all leaves.
func TestCheckpointIsStandard(t *testing.T) {
	h := newHouse(t, 1)
	n, _ := h.notary(h.config())
	for i := range 7 {
		h.page(0, i)
	}
	h.signed(n)
	stored, err := h.bus.LastCheckpoint(context.Background(), 0)
	must(t, err)
	vkey, err := note.NewVerifier(h.key.Public().OriginKey(0))
	must(t, err)
	if _, err := note.Open(stored.Data, note.VerifierList(vkey)); err != nil {
		t.Errorf("%v:\n%s", err, stored.Data)
	}
	c, err := h.key.Public().OpenAny(stored.Data)
	must(t, err)
	var hashes []tlog.Hash // as tlog stores them
	size := int64(0)
	reader := tlog.HashReaderFunc(func(at []int64) (list []tlog.Hash, err error) {
		for _, i := range at {
			list = append(list, hashes[i])
		}
		return list, nil
	})
	add := func(data []byte) {
		more, err := tlog.StoredHashes(size, data, reader)
		must(t, err)
		hashes = append(hashes, more...)
		size++
	}
	must(t, h.bus.Book(0).Read(context.Background(), 0, h.last[0], func(s bus.StoredPage) error {
		page, err := bus.DecodePage(s.Data)
		for i, event := range page.Events {
			add(proof.EventPreimage(0, s.Seq, i, event))
		}
		add(proof.PagePreimage(0, s.Seq, s.Data))
		return err
	}))
	root, err := tlog.TreeHash(size, reader)
	if err != nil || size != c.Size || root != c.Root || c.Page != h.last[0] {
		t.Errorf("%d leaves with the root %s, %v; signed is %+v", size, root, err, c)
	}
}

// lost is a store whose answers about checkpoints are lost, stored or not, now and then.
type lost struct {
	proof.Store
	n int
}

func (l *lost) AppendCheckpoint(ctx context.Context, last uint64, r bus.NotaryRecord) (uint64, error) {
	switch l.n++; l.n % 3 {
	case 1:
		_, err := l.Store.AppendCheckpoint(ctx, last, r)
		return 0, errors.Join(errors.New("the answer was lost"), err)
	case 2:
		return 0, errors.New("nothing was stored")
	}
	return l.Store.AppendCheckpoint(ctx, last, r)
}

// TestLostAnswers: whether a checkpoint was stored is read, and never guessed.
func TestLostAnswers(t *testing.T) {
	h := newHouse(t, 1)
	cfg := h.config()
	cfg.Store = &lost{Store: h.bus}
	n, _ := h.notary(cfg)
	for range 3 {
		h.page(0, 2)
		h.signed(n)
	}
	if findings, _ := h.verify(); len(findings) > 0 || len(n.Alarms()) > 0 {
		t.Error(findings, n.Alarms())
	}
}

// TestAlarms: a notary signs nothing after a checkpoint that is not of this book, or not its own.
func TestAlarms(t *testing.T) {
	forge := map[string]func(h *house, c proof.Checkpoint, last bus.NotaryRecord) bus.NotaryRecord{
		"past the end": func(h *house, c proof.Checkpoint, last bus.NotaryRecord) bus.NotaryRecord {
			c.Page, c.Number = 1000, c.Number+1
			signed, err := h.key.Sign(c)
			must(h.t, err)
			return bus.NotaryRecord{Page: c.Page, Edge: last.Edge, Data: signed}
		},
		"another edge": func(h *house, c proof.Checkpoint, last bus.NotaryRecord) bus.NotaryRecord {
			return bus.NotaryRecord{Page: c.Page, Edge: "0", Data: last.Data}
		},
		"another key": func(h *house, c proof.Checkpoint, last bus.NotaryRecord) bus.NotaryRecord {
			key, err := proof.NewKey(h.key.Public().Name())
			must(h.t, err)
			signed, err := key.Sign(c)
			must(h.t, err)
			return bus.NotaryRecord{Page: c.Page, Edge: last.Edge, Data: signed}
		},
	}
	for name, forged := range forge {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 1)
			n, stop := h.notary(h.config())
			h.page(0, 3)
			h.signed(n)
			stop()
			last, err := h.bus.LastCheckpoint(context.Background(), 0)
			must(t, err)
			seq, err := h.bus.AppendCheckpoint(context.Background(), last.Seq, forged(h, n.Signed(0), last))
			must(t, err)
			h.page(0, 1)
			n, _ = h.notary(h.config())
			until(t, "the alarm", func() bool { return len(n.Alarms()) == 1 })
			if last, err = h.bus.LastCheckpoint(context.Background(), 0); err != nil || last.Seq != seq {
				t.Errorf("something was signed after it: %+v, %v", last, err)
			}
		})
	}
}

// otherBook is a source that has one page changed.
type otherBook struct {
	proof.Source
	change uint64
}

func (o *otherBook) Pages(ctx context.Context, p bus.Partition, after, through uint64, fn func(uint64, []byte) error) error {
	return o.Source.Pages(ctx, p, after, through, func(page uint64, data []byte) error {
		if page == o.change {
			data = slices.Clone(data)
			data[len(data)/2] ^= 1
		}
		return fn(page, data)
	})
}

// TestOldPagesAreReadAgain: a page that was changed after it was signed raises the alarm at the next start.
func TestOldPagesAreReadAgain(t *testing.T) {
	h := newHouse(t, 1)
	n, stop := h.notary(h.config())
	for range 6 {
		h.page(0, 3)
	}
	h.signed(n)
	stop()
	cfg := h.config()
	cfg.Verify = &otherBook{&proof.Live{Bus: h.bus}, 4}
	n, _ = h.notary(cfg)
	until(t, "the alarm", func() bool { return len(n.Alarms()) == 1 })
}

// memory is a notary's, with nothing lost.
type memory map[bus.Partition][]byte

func (m memory) Load(p bus.Partition) ([]byte, error)      { return m[p], nil }
func (m memory) Save(p bus.Partition, signed []byte) error { m[p] = signed; return nil }

// TestNotaryRemembers: what a notary signed before, and the bus does not have, binds it all the same.
func TestNotaryRemembers(t *testing.T) {
	h := newHouse(t, 1)
	m := memory{}
	cfg := h.config()
	cfg.Memory = m
	n, stop := h.notary(cfg)
	for range 3 {
		h.page(0, 2)
		h.signed(n)
	}
	stop()
	other := newHouse(t, 1) // what a bus is like that was set back: the same first pages, and no checkpoint
	other.key = h.key
	cfg = other.config()
	var pages [][]byte
	must(t, h.bus.Book(0).Read(context.Background(), 0, 3, func(s bus.StoredPage) error { pages = append(pages, s.Data); return nil }))
	for _, page := range pages[:2] {
		other.store(0, page)
	}
	cfg.Memory = m
	n, stop = other.notary(cfg)
	alarmed := func(text string) func() bool {
		return func() bool { return len(n.Alarms()) == 1 && strings.Contains(n.Alarms()[0].Text, text) }
	}
	until(t, "the alarm about the page that is gone", alarmed("pages were lost"))
	stop()
	other.page(0, 1)
	n, stop = other.notary(cfg)
	until(t, "the alarm about the other page", alarmed("signed another page 3"))
	stop()
	if last, err := other.bus.LastCheckpoint(context.Background(), 0); err != nil || last.Seq != 0 {
		t.Errorf("a second history was signed: %+v, %v", last, err)
	}
	same := newHouse(t, 1)
	same.key = h.key
	cfg = same.config()
	cfg.Memory = m
	for _, page := range pages {
		same.store(0, page)
	}
	n, _ = same.notary(cfg)
	same.page(0, 1)
	same.signed(n)
	if findings, _ := same.verify(); len(findings) > 0 {
		t.Error(findings)
	}
}
