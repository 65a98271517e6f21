package proof_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// signedHistory is what the real thing has left of two partitions.
type signedHistory struct {
	key     proof.Key
	records []proof.Record
	known   []proof.Checkpoint // the last of each partition
}

func newHistory(t *testing.T) signedHistory {
	h := newHouse(t, 2)
	n, stop := h.notary(h.config())
	for round := range 5 {
		for i := range 4 {
			h.page(bus.Partition(i%2), (round+3*i)%6)
		}
		h.signed(n)
	}
	stop()
	_, records := h.records(proof.ScanConfig{})
	return signedHistory{h.key, records, []proof.Checkpoint{n.Signed(0), n.Signed(1)}}
}

// export writes records as a file.
func (h signedHistory) export(t *testing.T, records []proof.Record) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := proof.NewWriter(&file, h.key.Public(), []bus.Partition{0, 1})
	must(t, err)
	for _, r := range records {
		must(t, w.Add(r))
	}
	must(t, w.Close())
	return file.Bytes()
}

func (h signedHistory) verifyFile(t *testing.T, file []byte) []proof.Finding {
	t.Helper()
	findings, _, err := proof.VerifyExport(bytes.NewReader(file), proof.NewVerifier(h.key.Public(), h.known...))
	must(t, err)
	return findings
}

func (h signedHistory) verifyStored(t *testing.T, records []proof.Record) []proof.Finding {
	t.Helper()
	findings, _, err := proof.VerifyLive(context.Background(), stored(records), proof.ScanConfig{Partitions: []bus.Partition{0, 1}},
		proof.NewVerifier(h.key.Public(), h.known...))
	must(t, err)
	return findings
}

// stored plays the bus that holds the records.
type stored []proof.Record

func (s stored) Pages(_ context.Context, p bus.Partition, after, through uint64, fn func(uint64, []byte) error) error {
	for _, r := range s {
		if r.Kind == proof.PageRecord && r.Partition == p && r.Page > after && r.Page <= through {
			if err := fn(r.Page, r.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s stored) End(_ context.Context, p bus.Partition) (end uint64, err error) {
	for _, r := range s {
		if r.Kind == proof.PageRecord && r.Partition == p {
			end = max(end, r.Page)
		}
	}
	return end, nil
}

func (s stored) Checkpoints(_ context.Context, fn func(bus.NotaryRecord) error) error {
	for _, r := range s {
		if r.Kind == proof.PageRecord {
			continue
		}
		if err := fn(bus.NotaryRecord{Partition: r.Partition, Seq: r.Seq, Leaves: r.Kind == proof.LeavesRecord, From: r.From, Page: r.Page, Edge: r.Edge, Data: r.Data}); err != nil {
			return err
		}
	}
	return nil
}

// tampering is one attack: what it does to the records, and what is to be found.
type tampering struct {
	name string
	do   func(a *attack)
}

// attack is a copy of the records to be tampered with, and what that is to be found as.
type attack struct {
	rng     *rand.Rand
	h       signedHistory
	p       bus.Partition
	records []proof.Record
	want    proof.Finding // Fault "" : any
}

// of gives the places of the records of one kind in the partition.
func (a *attack) of(kind proof.Kind) (at []int) {
	for i, r := range a.records {
		if r.Kind == kind && r.Partition == a.p {
			at = append(at, i)
		}
	}
	return at
}

func (a *attack) pick(list []int) int { return list[a.rng.IntN(len(list))] }

// page gives the place of a page at random.
func (a *attack) page() int { return a.pick(a.of(proof.PageRecord)) }

func (a *attack) wantPage(fault proof.Fault, page uint64, index int) {
	a.want = proof.Finding{Fault: fault, Partition: a.p, Page: page, Index: index}
}

func (a *attack) wantCheckpoint(fault proof.Fault, number uint64) {
	a.want = proof.Finding{Fault: fault, Partition: a.p, Index: -1, Checkpoint: number}
}

// number is which checkpoint of the partition stands at a place.
func (a *attack) number(at int) uint64 {
	return uint64(slices.Index(a.of(proof.CheckpointRecord), at)) + 1
}

func flipped(rng *rand.Rand, data []byte) []byte {
	data = slices.Clone(data)
	data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
	return data
}

// rewrite changes a page so that it is a page again.
func rewrite(data []byte, change func(*bus.Page)) []byte {
	page, err := bus.DecodePage(data)
	if err == nil {
		for i := range page.Events {
			page.Events[i] = slices.Clone(page.Events[i])
		}
		change(&page)
		data, err = bus.EncodePage(page)
	}
	if err != nil {
		panic(err)
	}
	return data
}

// tamperings are the ways in which stored pages and checkpoints are changed.
var tamperings = []tampering{
	{"bytes of a page", func(a *attack) {
		r := &a.records[a.page()]
		r.Data = flipped(a.rng, r.Data)
		a.wantPage(proof.PageDamaged, r.Page, -1)
	}},
	{"an event, so that the page is one", func(a *attack) {
		for {
			r := &a.records[a.page()]
			page, _ := bus.DecodePage(r.Data)
			if len(page.Events) == 0 {
				continue
			}
			i := a.rng.IntN(len(page.Events))
			r.Data = rewrite(r.Data, func(p *bus.Page) { p.Events[i] = flipped(a.rng, p.Events[i]) })
			a.wantPage(proof.PageChanged, r.Page, i)
			return
		}
	}},
	{"an event is taken out", func(a *attack) {
		for {
			r := &a.records[a.page()]
			page, _ := bus.DecodePage(r.Data)
			if len(page.Events) == 0 {
				continue
			}
			i := a.rng.IntN(len(page.Events))
			r.Data = rewrite(r.Data, func(p *bus.Page) { p.Events = slices.Delete(p.Events, i, i+1) })
			a.wantPage("", r.Page, i)
			if i == len(page.Events)-1 {
				a.want.Index = -1 // the page's own leaf stands where the event's did
			}
			return
		}
	}},
	{"an event is put in", func(a *attack) {
		r := &a.records[a.page()]
		i := 0
		r.Data = rewrite(r.Data, func(p *bus.Page) {
			i = a.rng.IntN(len(p.Events) + 1)
			p.Events = slices.Insert(p.Events, i, []byte("another event"))
		})
		a.wantPage(proof.PageChanged, r.Page, i)
	}},
	{"the clock of a page", func(a *attack) {
		r := &a.records[a.page()]
		r.Data = rewrite(r.Data, func(p *bus.Page) { p.Time++ })
		a.wantPage(proof.PageChanged, r.Page, -1)
	}},
	{"a page is taken out", func(a *attack) {
		at := a.page()
		a.wantPage(proof.PageMissing, a.records[at].Page, -1)
		a.records = slices.Delete(a.records, at, at+1)
	}},
	{"a page is taken out, the others close up", func(a *attack) {
		pages := a.of(proof.PageRecord)
		n := a.rng.IntN(len(pages))
		a.wantPage("", a.records[pages[n]].Page, -2)
		for i := n; i+1 < len(pages); i++ {
			a.records[pages[i]].Data = a.records[pages[i+1]].Data
		}
		last := pages[len(pages)-1]
		a.records = slices.Delete(a.records, last, last+1)
	}},
	{"a page is put in, the others move up", func(a *attack) {
		pages := a.of(proof.PageRecord)
		n := a.rng.IntN(len(pages))
		a.wantPage("", a.records[pages[n]].Page, -2)
		last := a.records[pages[len(pages)-1]]
		for i := len(pages) - 1; i > n; i-- {
			a.records[pages[i]].Data = a.records[pages[i-1]].Data
		}
		a.records[pages[n]].Data = rewrite(last.Data, func(p *bus.Page) { p.Events = append(p.Events, []byte("never happened")) })
		last.Page++
		a.records = append(a.records, last)
	}},
	{"a page twice", func(a *attack) {
		at := a.page()
		a.records = slices.Insert(a.records, at, a.records[at])
		a.wantPage(proof.PageMissing, a.records[at].Page+1, -1)
	}},
	{"two pages change places", func(a *attack) {
		i, j := a.page(), a.page()
		for i == j || bytes.Equal(a.records[i].Data, a.records[j].Data) {
			j = a.page()
		}
		a.wantPage("", min(a.records[i].Page, a.records[j].Page), -2)
		a.records[i].Data, a.records[j].Data = a.records[j].Data, a.records[i].Data
	}},
	{"the book is cut", func(a *attack) {
		from := a.records[a.page()].Page
		a.wantPage(proof.PageMissing, from, -1)
		a.records = slices.DeleteFunc(a.records, func(r proof.Record) bool {
			return r.Kind == proof.PageRecord && r.Partition == a.p && r.Page >= from
		})
	}},
	{"everything is rolled back", func(a *attack) {
		checkpoints := a.of(proof.CheckpointRecord)
		at := a.pick(checkpoints[:len(checkpoints)-1])
		a.wantPage(proof.RolledBack, a.records[at].Page+1, -1)
		i := -1
		a.records = slices.DeleteFunc(a.records, func(r proof.Record) bool { i++; return r.Partition == a.p && i > at })
	}},
	{"a checkpoint's text", func(a *attack) {
		at := a.pick(a.of(proof.CheckpointRecord))
		a.wantCheckpoint(proof.BadSignature, a.number(at))
		a.records[at].Data = flipped(a.rng, a.records[at].Data)
	}},
	{"a checkpoint by another key", func(a *attack) {
		at := a.pick(a.of(proof.CheckpointRecord))
		a.wantCheckpoint(proof.BadSignature, a.number(at))
		c, err := a.h.key.Public().OpenAny(a.records[at].Data)
		if err == nil {
			var other proof.Key
			if other, err = proof.NewKey(a.h.key.Public().Name()); err == nil {
				a.records[at].Data, err = other.Sign(c)
			}
		}
		if err != nil {
			panic(err)
		}
	}},
	{"the page beside a checkpoint", func(a *attack) {
		at := a.pick(a.of(proof.CheckpointRecord))
		a.wantCheckpoint(proof.BadHeader, a.number(at))
		a.records[at].Page += uint64(1 + a.rng.IntN(3))
	}},
	{"the edge beside a checkpoint", func(a *attack) {
		at := a.pick(a.of(proof.CheckpointRecord))
		a.wantCheckpoint(proof.BadHeader, a.number(at))
		edge := []byte(a.records[at].Edge)
		edge[a.rng.IntN(len(edge))] ^= 1
		a.records[at].Edge = string(edge)
	}},
	{"a checkpoint is taken out", func(a *attack) {
		checkpoints := a.of(proof.CheckpointRecord)
		n := a.rng.IntN(len(checkpoints) - 1) // that of the last is a roll-back
		a.wantCheckpoint(proof.NumberMissing, uint64(n)+1)
		a.records = slices.Delete(a.records, checkpoints[n], checkpoints[n]+1)
	}},
	{"two checkpoints change places", func(a *attack) {
		i, j := a.pick(a.of(proof.CheckpointRecord)), a.pick(a.of(proof.CheckpointRecord))
		for i == j {
			j = a.pick(a.of(proof.CheckpointRecord))
		}
		a.wantCheckpoint(proof.NumberMissing, a.number(min(i, j)))
		a.records[i], a.records[j] = a.records[j], a.records[i]
	}},
	{"a checkpoint twice", func(a *attack) {
		checkpoints := a.of(proof.CheckpointRecord)
		i, j := a.rng.IntN(len(checkpoints)), a.rng.IntN(len(checkpoints))
		for j == i+1 {
			j = a.rng.IntN(len(checkpoints))
		}
		a.wantCheckpoint(proof.NumberMissing, uint64(i)+2) // in the place after i stands j again
		a.records = slices.Insert(a.records, checkpoints[i]+1, a.records[checkpoints[j]])
	}},
	{"leaf hashes", func(a *attack) {
		r := &a.records[a.pick(a.of(proof.LeavesRecord))]
		a.wantCheckpoint(proof.BadLeaves, uint64(slices.IndexFunc(a.of(proof.LeavesRecord), func(i int) bool { return &a.records[i] == r }))+1)
		r.Data = flipped(a.rng, r.Data)
	}},
	{"other leaf hashes beside the right ones", func(a *attack) {
		leaves := a.of(proof.LeavesRecord)
		n := a.rng.IntN(len(leaves))
		a.wantCheckpoint(proof.BadLeaves, uint64(n)+1)
		other := a.records[leaves[n]]
		other.Data = flipped(a.rng, other.Data)
		a.records = slices.Insert(a.records, leaves[n]+a.rng.IntN(2), other)
	}},
	{"leaf hashes are taken out", func(a *attack) {
		leaves := a.of(proof.LeavesRecord)
		n := a.rng.IntN(len(leaves))
		a.wantCheckpoint(proof.BadLeaves, uint64(n)+1)
		a.records = slices.Delete(a.records, leaves[n], leaves[n]+1)
	}},
}

// wrong says how findings differ from the one that is wanted.
func (a *attack) wrong(found []proof.Finding) string {
	if len(found) != 1 {
		return fmt.Sprintf("found %+v", found)
	}
	f := found[0]
	if a.want.Fault != "" && f.Fault != a.want.Fault || f.Partition != a.want.Partition || f.Page != a.want.Page || f.Checkpoint != a.want.Checkpoint ||
		a.want.Index != -2 && f.Index != a.want.Index {
		return fmt.Sprintf("found %+v, and it is %+v", f, a.want)
	}
	return ""
}

// TestTamperings changes stored pages and checkpoints 1,056 times in 22 ways, in an export and in what the bus gives out:
// each time it is found, and the first bad position named. The verifier in JavaScript says the same of a fifth of the
// exports.
func TestTamperings(t *testing.T) {
	h := newHistory(t)
	good := h.export(t, h.records)
	if findings := h.verifyFile(t, good); len(findings) > 0 {
		t.Fatalf("nothing was changed, and %+v is found", findings)
	}
	if findings := h.verifyStored(t, h.records); len(findings) > 0 {
		t.Fatalf("nothing was changed, and %+v is found in what is stored", findings)
	}
	second := newSecondVerifier(t, h)
	second.add(good, nil)
	for seed := range 1056 {
		way := tamperings[seed%len(tamperings)]
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		a := &attack{rng: rng, h: h, p: bus.Partition(rng.IntN(2)), records: slices.Clone(h.records)}
		way.do(a)
		file := h.export(t, a.records)
		found := h.verifyFile(t, file)
		if wrong := a.wrong(found); wrong != "" {
			t.Errorf("seed %d, %s, in an export: %s", seed, way.name, wrong)
		}
		if wrong := a.wrong(h.verifyStored(t, a.records)); wrong != "" {
			t.Errorf("seed %d, %s, in what is stored: %s", seed, way.name, wrong)
		}
		if seed/len(tamperings)%5 == 0 {
			second.add(file, found)
		}
	}
	second.compare()
}

// TestFilesCutAndJoined: an export that was cut anywhere, or to which something was added, is no whole one.
func TestFilesCutAndJoined(t *testing.T) {
	h := newHistory(t)
	file := h.export(t, h.records)
	rng := rand.New(rand.NewPCG(1, 2))
	second := newSecondVerifier(t, h)
	for range 60 {
		cut := file[:rng.IntN(len(file)-1)]
		found := h.verifyFile(t, cut)
		if len(found) == 0 || found[len(found)-1].Fault != proof.BadFile {
			t.Fatalf("a file of %d bytes, cut after %d: %+v", len(file), len(cut), found)
		}
		second.add(cut, found)
	}
	lines := bytes.SplitAfter(file, []byte("\n"))
	lines = lines[:len(lines)-1]
	for range 30 {
		at := 1 + rng.IntN(len(lines)-2)
		without := bytes.Join(slices.Delete(slices.Clone(lines), at, at+1), nil)
		if found := h.verifyFile(t, without); len(found) == 0 {
			t.Errorf("without line %d nothing is found", at+1)
		} else {
			second.add(without, found)
		}
	}
	more := append(slices.Clone(file), '\n')
	if found := h.verifyFile(t, more); len(found) != 1 || found[0].Fault != proof.BadFile {
		t.Errorf("with something after the end: %+v", found)
	}
	empty := fmt.Appendf(nil, `{"format":"rollbook-export/v1","name":%q,"vkey":%q,"partitions":[]}`+"\n"+`{"type":"end","lines":1}`+"\n",
		h.key.Public().Name(), h.key.Public().String())
	if found := h.verifyFile(t, empty); len(found) == 0 || found[len(found)-1].Fault != proof.BadFile {
		t.Errorf("of no partition at all: %+v", found)
	} else {
		second.add(empty, found)
	}
	second.compare()
}

// TestNothingProved: what no checkpoint speaks of is not verified, whatever else it holds. One partition without a checkpoint
// beside another that has some is told apart by the count.
func TestNothingProved(t *testing.T) {
	h := newHistory(t)
	h.known = nil
	second := newSecondVerifier(t, h)
	keep := func(keep func(proof.Record) bool) (list []proof.Record) {
		for _, r := range h.records {
			if keep(r) {
				list = append(list, r)
			}
		}
		return list
	}
	for name, records := range map[string][]proof.Record{
		"no record":          nil,
		"pages alone":        keep(func(r proof.Record) bool { return r.Kind == proof.PageRecord }),
		"no checkpoint":      keep(func(r proof.Record) bool { return r.Kind != proof.CheckpointRecord }),
		"leaf hashes, alone": keep(func(r proof.Record) bool { return r.Kind == proof.LeavesRecord }),
	} {
		file := h.export(t, records)
		found := h.verifyFile(t, file)
		if len(found) != 1 || found[0].Fault != proof.NothingProved || found[0].String() != found[0].Text {
			t.Errorf("%s: %+v", name, found)
		}
		second.add(file, found)
	}
	last := slices.IndexFunc(h.records, func(r proof.Record) bool { return r.Kind == proof.CheckpointRecord && r.Partition == 0 })
	var based bytes.Buffer
	w, err := proof.NewWriter(&based, h.key.Public(), []bus.Partition{0, 1})
	must(t, err)
	must(t, w.Begin(h.records[last]))
	must(t, w.Close())
	found := h.verifyFile(t, based.Bytes())
	if len(found) != 1 || found[0].Fault != proof.NothingProved {
		t.Errorf("a checkpoint to begin after and nothing more: %+v", found)
	}
	second.add(based.Bytes(), found)

	one := h.export(t, keep(func(r proof.Record) bool { return r.Partition == 1 }))
	found, reached, err := proof.VerifyExport(bytes.NewReader(one), proof.NewVerifier(h.key.Public()))
	must(t, err)
	if len(found) > 0 || len(reached) != 2 || reached[0].Checkpoints != 0 || reached[1].Checkpoints == 0 {
		t.Errorf("one of two partitions: %+v, %+v", found, reached)
	}
	second.add(one, found)
	second.compare()
}

// secondVerifier is testdata/verify/verify.mjs, run once for many files.
type secondVerifier struct {
	t     *testing.T
	dir   string
	args  []string
	files []string
	want  [][]proof.Finding
	h     signedHistory
}

func newSecondVerifier(t *testing.T, h signedHistory) *secondVerifier {
	s := &secondVerifier{t: t, dir: t.TempDir(), h: h}
	s.args = []string{"export", "--vkey", h.key.Public().String()}
	for i, c := range h.known {
		signed, err := h.key.Sign(c)
		must(t, err)
		path := filepath.Join(s.dir, fmt.Sprint("known-", i))
		must(t, os.WriteFile(path, signed, 0o600))
		s.args = append(s.args, "--known", path)
	}
	return s
}

func (s *secondVerifier) add(file []byte, want []proof.Finding) {
	path := filepath.Join(s.dir, fmt.Sprintf("%d.jsonl", len(s.files)))
	must(s.t, os.WriteFile(path, file, 0o600))
	s.files = append(s.files, path)
	s.want = append(s.want, want)
}

// node runs the verifier in JavaScript, and gives what it prints.
func node(t *testing.T, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed: the second verifier cannot be run")
	}
	cmd := exec.Command("node", append([]string{filepath.Join("..", "..", "testdata", "verify", "verify.mjs")}, args...)...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 1) || failed.Len() > 0 {
		t.Fatalf("%v: %s", err, failed.String())
	}
	return out
}

// compare has the second verifier look at all files, and compares.
func (s *secondVerifier) compare() {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(string(node(s.t, append(s.args, s.files...)...))), "\n")
	if len(lines) != len(s.files) {
		s.t.Fatalf("it says %d things about %d files", len(lines), len(s.files))
	}
	for i, line := range lines {
		var said struct{ Findings []proof.Finding }
		must(s.t, json.Unmarshal([]byte(line), &said))
		if got, want := places(said.Findings), places(s.want[i]); got != want {
			s.t.Errorf("file %d: the second verifier finds %s, the first %s", i, got, want)
		}
	}
}

// places are findings without their texts.
func places(list []proof.Finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "[%s partition %d page %d index %d checkpoint %d line %d]", f.Fault, f.Partition, f.Page, f.Index, f.Checkpoint, f.Line)
	}
	return b.String()
}
