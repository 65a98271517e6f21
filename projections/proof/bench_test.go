package proof_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/proof"
)

// benchPage is a page of events such as logins make.
func benchPage(b *testing.B, n uint64, events int) (data []byte, page bus.Page) {
	b.Helper()
	p := bus.Page{Epoch: 1, Time: int64(n)}
	for i := range events {
		started := &session.SessionStarted{Header: session.Header{At: session.Instant(n) + 1<<60, User: session.UserID(fmt.Sprintf("u-%026d", i))},
			Venue: 1, Client: "web", Until: 1 << 60, Idle: 1 << 40, AccessUntil: 1 << 60, RefreshUntil: 1 << 60, Origin: make([]byte, 60)}
		for _, id := range [][]byte{started.Session[:], started.Access[:], started.Refresh[:], started.Nonce[:]} {
			rand.Read(id)
		}
		p.Events = append(p.Events, session.AppendEvent(nil, started))
	}
	data, err := bus.EncodePage(p)
	must(b, err)
	page, err = bus.DecodePage(data)
	must(b, err)
	return data, page
}

// BenchmarkFold is what a pod pays for an event: leaf hashes and the tree.
func BenchmarkFold(b *testing.B) {
	for _, events := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			data, page := benchPage(b, 1, events)
			w := proof.NewWatch(proof.WatchConfig{Partitions: 1})
			b.ReportAllocs()
			for n := range b.N {
				must(b, w.Apply(projections.Page{Seq: uint64(n) + 1, Raw: data, RawEvents: page.Events}))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
			b.ReportMetric(float64(len(data))/float64(events), "bytes/event")
		})
	}
}

// BenchmarkVerify verifies a signed history: of pages in memory, and of an export.
func BenchmarkVerify(b *testing.B) {
	h := newHouse(b, 1)
	n, stop := h.notary(h.config())
	const pages, events = 400, 100
	for i := range uint64(pages) {
		data, _ := benchPage(b, i+1, events)
		h.store(0, data)
	}
	h.signed(n)
	stop()
	_, records := h.records(proof.ScanConfig{})
	var file bytes.Buffer
	w, err := proof.NewWriter(&file, h.key.Public(), h.partitions())
	must(b, err)
	for _, r := range records {
		must(b, w.Add(r))
	}
	must(b, w.Close())
	rate := func(b *testing.B, verify func() ([]proof.Finding, []proof.Verified, error)) {
		for b.Loop() {
			findings, reached, err := verify()
			if err != nil || len(findings) > 0 || reached[0].Events != pages*events {
				b.Fatal(findings, reached, err)
			}
		}
		b.ReportMetric(float64(b.N*pages*events)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("memory", func(b *testing.B) {
		rate(b, func() ([]proof.Finding, []proof.Verified, error) {
			return proof.VerifyLive(context.Background(), stored(records), proof.ScanConfig{Partitions: h.partitions()}, proof.NewVerifier(h.key.Public()))
		})
	})
	b.Run("live", func(b *testing.B) {
		rate(b, func() ([]proof.Finding, []proof.Verified, error) {
			return proof.VerifyLive(context.Background(), &proof.Live{Bus: h.bus}, proof.ScanConfig{Partitions: h.partitions()}, proof.NewVerifier(h.key.Public()))
		})
	})
	b.Run("export", func(b *testing.B) {
		rate(b, func() ([]proof.Finding, []proof.Verified, error) {
			return proof.VerifyExport(bytes.NewReader(file.Bytes()), proof.NewVerifier(h.key.Public()))
		})
	})
}

// BenchmarkCheckpoint signs and opens a checkpoint.
func BenchmarkCheckpoint(b *testing.B) {
	key, err := proof.NewKey("rollbook/bench")
	must(b, err)
	for n := range b.N {
		signed, err := key.Sign(proof.Checkpoint{Size: int64(n), Number: 1, Page: 1})
		must(b, err)
		if _, err := key.Public().OpenAny(signed); err != nil {
			b.Fatal(err)
		}
	}
}
