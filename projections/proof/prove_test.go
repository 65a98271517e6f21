package proof_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// TestProofs proves every event of a book, alone, and has both verifiers check; a proof that was changed anywhere proves nothing.
func TestProofs(t *testing.T) {
	h := newHouse(t, 2)
	n, _ := h.notary(h.config())
	for i := range 9 {
		h.page(1, i%5)
	}
	h.signed(n)
	last, err := h.bus.LastCheckpoint(context.Background(), 1)
	must(t, err)
	all := func(uint64, int, []byte) bool { return true }
	list, err := proof.Prove(context.Background(), &proof.Live{Bus: h.bus}, h.key.Public(), last, all)
	must(t, err)
	if len(list) != 16 {
		t.Fatalf("%d events are proved", len(list))
	}
	var file bytes.Buffer
	must(t, proof.WriteBundle(&file, h.key.Public(), list))
	read, err := proof.ReadBundle(bytes.NewReader(file.Bytes()))
	must(t, err)
	for _, e := range read {
		if c, err := e.Check(h.key.Public()); err != nil || c.Page != 9 {
			t.Errorf("event %d of page %d: %+v, %v", e.Index, e.Page, c, err)
		}
	}
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "good")}
	must(t, os.WriteFile(files[0], file.Bytes(), 0o600))
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 80 {
		bad := slices.Clone(list)
		e := &bad[rng.IntN(len(bad))]
		switch i % 5 {
		case 0:
			e.Event = flipped(rng, e.Event)
		case 1:
			e.Index++
		case 2:
			e.Page++
		case 3:
			e.Partition = 0
		case 4:
			e.Proof = string(flipped(rng, []byte(e.Proof)))
		}
		if _, err := e.Check(h.key.Public()); !errors.Is(err, proof.ErrNotProven) {
			t.Errorf("changed in the way %d: %v\n%s", i%5, err, e.Proof)
		}
		file.Reset()
		must(t, proof.WriteBundle(&file, h.key.Public(), bad))
		files = append(files, filepath.Join(dir, string(rune('a'+i/10))+string(rune('0'+i%10))))
		must(t, os.WriteFile(files[len(files)-1], file.Bytes(), 0o600))
	}
	file.Reset()
	must(t, proof.WriteBundle(&file, h.key.Public(), append(slices.Clone(list), list[3])))
	files = append(files, filepath.Join(dir, "double"))
	must(t, os.WriteFile(files[len(files)-1], file.Bytes(), 0o600))
	double := bus.Position{Partition: 1, Page: list[3].Page, Index: uint32(list[3].Index)}.String()
	if _, err := proof.ReadBundle(&file); !errors.Is(err, proof.ErrNotProven) || !strings.Contains(err.Error(), double) {
		t.Errorf("one proof twice: %v", err)
	}
	file.Reset()
	must(t, proof.WriteBundle(&file, h.key.Public(), nil))
	files = append(files, filepath.Join(dir, "none"))
	must(t, os.WriteFile(files[len(files)-1], file.Bytes(), 0o600))
	if _, err := proof.ReadBundle(&file); !errors.Is(err, proof.ErrNotProven) {
		t.Errorf("no proof at all: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(node(t, append([]string{"proof", "--vkey", h.key.Public().String()}, files...)...))), "\n")
	if len(lines) != len(files) {
		t.Fatalf("the second verifier says %d things about %d files", len(lines), len(files))
	}
	for i, line := range lines {
		var said struct{ Good bool }
		must(t, json.Unmarshal([]byte(line), &said))
		if said.Good != (i == 0) {
			t.Errorf("the second verifier says of file %d: %s", i, line)
		}
		if filepath.Base(files[i]) == "double" && !strings.Contains(line, double) {
			t.Errorf("the second verifier does not name %s: %s", double, line)
		}
	}
}

// TestNothingIsProvedOfAnotherBook: of a book that is not what was signed there are no proofs.
func TestNothingIsProvedOfAnotherBook(t *testing.T) {
	h := newHouse(t, 1)
	n, _ := h.notary(h.config())
	for range 5 {
		h.page(0, 2)
	}
	h.signed(n)
	_, records := h.records(proof.ScanConfig{})
	for i, r := range records {
		if r.Kind == proof.PageRecord && r.Page == 2 {
			records[i].Data = rewrite(r.Data, func(p *bus.Page) { p.Time++ })
		}
	}
	last, err := h.bus.LastCheckpoint(context.Background(), 0)
	must(t, err)
	_, err = proof.Prove(context.Background(), stored(records), h.key.Public(), last, func(page uint64, _ int, _ []byte) bool { return page == 4 })
	if !errors.Is(err, proof.ErrNotSigned) {
		t.Error(err)
	}
}

// TestRangeExport: an export of some pages verifies alone, and one of them that was changed is named.
func TestRangeExport(t *testing.T) {
	h := newHouse(t, 1)
	n, _ := h.notary(h.config())
	for range 12 {
		h.page(0, 3)
		h.signed(n)
	}
	base, records := h.records(proof.ScanConfig{From: 5, Through: 8})
	export := func() []byte {
		var file bytes.Buffer
		w, err := proof.NewWriter(&file, h.key.Public(), []bus.Partition{0})
		must(t, err)
		must(t, w.Begin(base[0]))
		for _, r := range records {
			must(t, w.Add(r))
		}
		must(t, w.Close())
		return file.Bytes()
	}
	verify := func(known ...proof.Checkpoint) ([]proof.Finding, []proof.Verified) {
		findings, reached, err := proof.VerifyExport(bytes.NewReader(export()), proof.NewVerifier(h.key.Public(), known...))
		must(t, err)
		return findings, reached
	}
	second := newSecondVerifier(t, signedHistory{key: h.key})
	findings, reached := verify()
	if len(findings) > 0 || reached[0].Page != 8 || reached[0].Events != 12 {
		t.Fatalf("%v, %+v", findings, reached)
	}
	second.add(export(), findings)
	early, err := h.key.Public().OpenAny(base[0].Data)
	must(t, err)
	if findings, _ = verify(early); len(findings) > 0 {
		t.Errorf("with the checkpoint before it: %v", findings)
	}
	if early.Size--; true {
		if findings, _ = verify(early); len(findings) != 1 || findings[0].Fault != proof.SplitView {
			t.Errorf("with a checkpoint that cannot be compared: %v", findings)
		}
	}
	for i, r := range records {
		if r.Kind == proof.PageRecord && r.Page == 7 {
			records[i].Data = rewrite(r.Data, func(p *bus.Page) { p.Events[1] = []byte("another") })
		}
	}
	findings, _ = verify()
	if len(findings) != 1 || findings[0].Page != 7 || findings[0].Index != 1 {
		t.Errorf("%+v", findings)
	}
	second.add(export(), findings)
	second.compare()
}

// TestSplitView: a notary's key that has signed two histories is found out by whoever kept a checkpoint of the other.
func TestSplitView(t *testing.T) {
	h := newHouse(t, 1)
	n := h.fourSigned()
	other := n.Signed(0)
	other.Root[3] ^= 1 // a history that somebody else was shown
	findings, _ := h.verify(other)
	if len(findings) != 1 || findings[0].Fault != proof.SplitView || findings[0].Page == 0 {
		t.Errorf("%+v", findings)
	}
}

// TestWitness: a witness cosigns what goes on from what it saw, and nothing else.
func TestWitness(t *testing.T) {
	h := newHouse(t, 2)
	n, stop := h.notary(h.config())
	own, err := proof.NewKey("witness.example")
	must(t, err)
	ctx := context.Background()
	var seen []proof.Seen
	look := func(change func(*bus.NotaryRecord), end uint64) error {
		w, err := proof.NewWitness(h.key.Public(), seen)
		must(t, err)
		last := uint64(0)
		err = h.bus.ReadCheckpoints(ctx, 0, func(r bus.NotaryRecord) error {
			if last = r.Seq; change != nil {
				change(&r)
			}
			return w.Add(r)
		})
		if err != nil {
			return err
		}
		if end > 0 {
			last = end
		}
		now, err := w.Seen(last)
		if err == nil {
			seen = now
		}
		return err
	}
	for range 3 {
		h.page(0, 2)
		h.page(1, 3)
		h.signed(n)
		must(t, look(nil, 0))
	}
	if len(seen) != 2 {
		t.Fatalf("%+v", seen)
	}
	at := time.Unix(1_800_000_000, 0)
	signed, err := own.Cosign(h.key.Public(), seen[1], at)
	must(t, err)
	if c, err := h.key.Public().OpenAny(signed); err != nil || c != n.Signed(1) {
		t.Errorf("cosigned, the notary's signature: %+v, %v", c, err)
	}
	public, err := proof.ParseWitnessKey(own.Witness().String())
	must(t, err)
	if when, err := public.Cosigned(signed); err != nil || !when.Equal(at) {
		t.Errorf("cosigned at %s, %v", when, err)
	}
	if _, err := public.Cosigned([]byte(seen[1].Note)); !errors.Is(err, proof.ErrCheckpoint) {
		t.Errorf("what was not cosigned: %v", err)
	}
	stop()
	if err := look(nil, 2); !errors.Is(err, proof.ErrInconsistent) {
		t.Errorf("a stream that was rolled back: %v", err)
	}
	h.page(0, 2)
	n, _ = h.notary(h.config())
	h.signed(n)
	before := seen
	err = look(func(r *bus.NotaryRecord) {
		if r.Leaves {
			r.Data = append([]byte{r.Data[0] ^ 1}, r.Data[1:]...)
		}
	}, 0)
	if !errors.Is(err, proof.ErrInconsistent) || len(seen) != len(before) {
		t.Errorf("leaves that were changed: %v", err)
	}
	must(t, look(nil, 0))
}

// TestKept: what is signed goes through every checkpoint that was kept, or is refused: one of more, one of another history,
// in its end and within, one of a partition of which nothing is signed.
func TestKept(t *testing.T) {
	h := newHouse(t, 2)
	n, stop := h.notary(h.config())
	var kept []proof.Checkpoint
	for range 3 {
		h.page(0, 2)
		h.signed(n)
		kept = append(kept, n.Signed(0))
	}
	stop()
	look := func(c proof.Checkpoint) error {
		w, err := proof.NewWitness(h.key.Public(), nil)
		must(t, err)
		must(t, w.Expect(c)) // nothing has been seen yet that it could part from
		end := uint64(0)
		if err := h.bus.ReadCheckpoints(context.Background(), 0, func(r bus.NotaryRecord) error { end = r.Seq; return w.Add(r) }); err != nil {
			return err
		}
		_, err = w.Seen(end)
		return err
	}
	for i, c := range kept {
		if err := look(c); err != nil {
			t.Errorf("checkpoint %d: %v", i+1, err)
		}
		other := c
		other.Root[0] ^= 1
		if err := look(other); !errors.Is(err, proof.ErrInconsistent) {
			t.Errorf("another checkpoint %d: %v", i+1, err)
		}
	}
	within, beyond, elsewhere := kept[1], kept[2], kept[0]
	within.Size--
	beyond.Size++
	elsewhere.Partition = 1
	for _, c := range []proof.Checkpoint{within, beyond, elsewhere} {
		if err := look(c); !errors.Is(err, proof.ErrInconsistent) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	w, err := proof.NewWitness(h.key.Public(), nil)
	must(t, err)
	must(t, h.bus.ReadCheckpoints(context.Background(), 0, w.Add))
	must(t, w.Expect(kept[2]))
	kept[2].Root[0] ^= 1
	if err := w.Expect(kept[2]); !errors.Is(err, proof.ErrInconsistent) {
		t.Errorf("another one than what was seen last: %v", err)
	}
}
