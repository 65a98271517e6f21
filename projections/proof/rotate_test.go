package proof_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// rotated is a book of which three keys in turn have signed a part, with a page of each partition between, and those keys
// together.
func rotated(t *testing.T) (*house, proof.Key) {
	t.Helper()
	h := newHouse(t, 2)
	write := func(key proof.Key) {
		cfg := h.config()
		cfg.Key, cfg.Verify = key, &proof.Live{Bus: h.bus}
		n, stop := h.notary(cfg)
		for range 3 {
			h.page(0, 2)
			h.page(1, 1)
			h.signed(n)
		}
		stop()
		if alarms := n.Alarms(); len(alarms) > 0 {
			t.Fatal(alarms[0])
		}
	}
	key := h.key
	write(key)
	for range 2 {
		var err error
		key, err = key.Successor()
		must(t, err)
		if key, err = proof.ParseKey(key.Text()); err != nil || !key.Handing() {
			t.Fatalf("%v", err)
		}
		write(key)
		if key, err = proof.ParseKey(key.Retire().Text()); err != nil || key.Handing() {
			t.Fatalf("%v", err)
		}
		write(key)
	}
	for p := range bus.Partition(2) {
		last, err := h.bus.LastCheckpoint(context.Background(), p)
		must(t, err)
		if over, err := key.Public().HandedOver(last); !over || err != nil {
			t.Errorf("partition %s: %v, %v", p, over, err)
		}
		if over, err := h.key.Public().HandedOver(last); over || !errors.Is(err, proof.ErrCheckpoint) {
			t.Errorf("partition %s, to the first key: %v, %v", p, over, err)
		}
	}
	return h, key
}

// TestRotation: a log whose keys have handed over verifies with all of them, in their order, and is a finding where one is
// missing or out of place; a witness goes along, and so do proofs.
func TestRotation(t *testing.T) {
	h, key := rotated(t)
	_, records := h.records(proof.ScanConfig{})
	vkeys := strings.Fields(key.Public().String())
	if len(vkeys) != 3 || vkeys[0] != h.key.Public().String() {
		t.Fatalf("%q", vkeys)
	}
	for _, c := range []struct {
		name  string
		vkeys []string
		want  uint64 // the first checkpoint of each partition that is a finding; 0: none
	}{
		{"all", vkeys, 0}, {"the first", vkeys[:1], 5}, {"the last", vkeys[2:], 1}, {"but for the last", vkeys[:2], 11},
		{"but for the first", vkeys[1:], 1}, {"the wrong way round", []string{vkeys[1], vkeys[0], vkeys[2]}, 1},
	} {
		public, err := proof.ParsePublicKey(strings.Join(c.vkeys, "\n"))
		must(t, err)
		var file bytes.Buffer
		w, err := proof.NewWriter(&file, public, h.partitions())
		must(t, err)
		for _, r := range records {
			must(t, w.Add(r))
		}
		must(t, w.Close())
		found, _, err := proof.VerifyExport(bytes.NewReader(file.Bytes()), proof.NewVerifier(public))
		must(t, err)
		switch {
		case c.want == 0 && len(found) > 0, c.want > 0 && (len(found) != 2 || found[0].Fault != proof.BadSignature || found[0].Checkpoint != c.want):
			t.Errorf("%s: %+v", c.name, found)
		}
		second := newSecondVerifier(t, signedHistory{key: h.key})
		second.args = []string{"export"}
		for _, vkey := range c.vkeys {
			second.args = append(second.args, "--vkey", vkey)
		}
		second.add(file.Bytes(), found)
		second.compare()

		w2, err := proof.NewWitness(public, nil)
		must(t, err)
		if err := h.bus.ReadCheckpoints(context.Background(), 0, w2.Add); (err == nil) != (c.want == 0) {
			t.Errorf("%s, a witness: %v", c.name, err)
		}
	}
	last, err := h.bus.LastCheckpoint(context.Background(), 0)
	must(t, err)
	list, err := proof.Prove(context.Background(), &proof.Live{Bus: h.bus}, key.Public(), last, func(page uint64, _ int, _ []byte) bool { return page == 2 })
	must(t, err)
	if _, err := list[0].Check(key.Public()); err != nil {
		t.Error(err)
	}
	if _, err := list[0].Check(h.key.Public()); !errors.Is(err, proof.ErrNotProven) {
		t.Errorf("with the first key alone: %v", err)
	}
	var bundle bytes.Buffer
	must(t, proof.WriteBundle(&bundle, key.Public(), list))
	path := filepath.Join(t.TempDir(), "bundle")
	must(t, os.WriteFile(path, bundle.Bytes(), 0o600))
	var said struct{ Good bool }
	must(t, json.Unmarshal(node(t, "proof", "--vkey", key.Public().String(), path), &said))
	if !said.Good {
		t.Error("the second verifier does not take the proof")
	}
}

// TestNobodyTakesOver: a checkpoint by the next key alone, and one by the key before after it has handed over, are findings,
// though both keys are known.
func TestNobodyTakesOver(t *testing.T) {
	h := newHouse(t, 1)
	h.fourSigned()
	both, err := h.key.Successor()
	must(t, err)
	next, err := proof.ParseKey(both.Retire().Text())
	must(t, err)
	_, records := h.records(proof.ScanConfig{})
	var at []int
	for i, r := range records {
		if r.Kind == proof.CheckpointRecord {
			at = append(at, i)
		}
	}
	// by is who signs each of the four: a the first key, b the next, c both.
	for by, want := range map[string]uint64{"aaaa": 0, "acbb": 0, "accb": 0, "cbbb": 0, "aabb": 3, "acab": 3, "baaa": 1, "bbbb": 1, "aacc": 0, "aaca": 4} {
		list := append([]proof.Record(nil), records...)
		for i, who := range by {
			c, err := h.key.Public().OpenAny(records[at[i]].Data)
			must(t, err)
			switch who {
			case 'a':
			case 'b':
				list[at[i]].Data, err = next.Sign(c)
			case 'c':
				list[at[i]].Data = bothSign(t, h.key, next, c)
			}
			must(t, err)
		}
		var file bytes.Buffer
		w, err := proof.NewWriter(&file, both.Public(), h.partitions())
		must(t, err)
		for _, r := range list {
			must(t, w.Add(r))
		}
		must(t, w.Close())
		found, _, err := proof.VerifyExport(bytes.NewReader(file.Bytes()), proof.NewVerifier(both.Public()))
		must(t, err)
		if want == 0 && len(found) > 0 || want > 0 && (len(found) != 1 || found[0].Fault != proof.BadSignature || found[0].Checkpoint != want) {
			t.Errorf("%s: %+v", by, found)
		}
		second := newSecondVerifier(t, signedHistory{key: h.key})
		second.args = []string{"export", "--vkey", both.Public().String()}
		second.add(file.Bytes(), found)
		second.compare()
	}
}

// bothSign joins the signatures of two keys below one text.
func bothSign(t *testing.T, a, b proof.Key, c proof.Checkpoint) []byte {
	t.Helper()
	one, err := a.Sign(c)
	must(t, err)
	two, err := b.Sign(c)
	must(t, err)
	_, signature, _ := bytes.Cut(two, []byte("\n\n"))
	return append(one, signature...)
}

// TestAKeyTooFew: a notary that has not the key that signed last, or not any more the one that has to hand over, stops, and
// signs nothing.
func TestAKeyTooFew(t *testing.T) {
	h := newHouse(t, 1)
	n, stop := h.notary(h.config())
	h.page(0, 1)
	h.signed(n)
	stop()
	both, err := h.key.Successor()
	must(t, err)
	refuses := func(key proof.Key, why string) {
		t.Helper()
		cfg := h.config()
		cfg.Key = key
		h.page(0, 1)
		n, stop := h.notary(cfg)
		until(t, "it stops", func() bool { return len(n.Alarms()) > 0 })
		stop()
		if text := n.Alarms()[0].Text; !strings.Contains(text, why) || n.Signed(0).Page == h.last[0] {
			t.Errorf("%s; signed %+v", text, n.Signed(0))
		}
	}
	refuses(both.Retire(), "a key has to hand over whose private half is gone")
	cfg := h.config()
	cfg.Key = both
	n, stop = h.notary(cfg)
	h.page(0, 1)
	h.signed(n)
	stop()
	refuses(h.key, "was handed over to a key that this notary does not have")
}

// TestKeyTexts: what is no row of keys of one name, each once, with a private one in the end, is none.
func TestKeyTexts(t *testing.T) {
	one, err := proof.NewKey("rollbook/test")
	must(t, err)
	other, err := proof.NewKey("rollbook/other")
	must(t, err)
	for _, text := range []string{"", "\n", one.Public().String(), one.Text() + "\n" + other.Text(), one.Text() + "\n" + one.Text(),
		one.Public().String() + "\n" + one.Text(), one.Text() + "\n" + other.Public().String(), one.Text() + "\nx"} {
		if _, err := proof.ParseKey(text); !errors.Is(err, proof.ErrKey) {
			t.Errorf("%d bytes are a key: %v", len(text), err)
		}
	}
	for _, text := range []string{"", one.Public().String() + " " + one.Public().String(), one.Public().String() + " " + other.Public().String(), one.Text()} {
		if _, err := proof.ParsePublicKey(text); !errors.Is(err, proof.ErrKey) {
			t.Errorf("%d bytes are a public key: %v", len(text), err)
		}
	}
}
