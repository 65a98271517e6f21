package proof_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/proof"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a real embedded bus with a book, on which a test plays the writer, and a notary.
type house struct {
	t    testing.TB
	bus  *bus.Bus
	key  proof.Key
	last []uint64
	n    int
}

func newHouse(t testing.TB, partitions int) *house {
	t.Helper()
	server, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: t.TempDir()})
	must(t, err)
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(context.Background(), "test", slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { b.Close() })
	must(t, b.Create(context.Background(), bus.Layout{Partitions: partitions, Replicas: 1}))
	key, err := proof.NewKey("rollbook/test")
	must(t, err)
	return &house{t: t, bus: b, key: key, last: make([]uint64, partitions)}
}

func (h *house) partitions() (list []bus.Partition) {
	for p := range h.last {
		list = append(list, bus.Partition(p))
	}
	return list
}

// page appends a page with so many events.
func (h *house) page(p bus.Partition, events int) {
	h.t.Helper()
	page := bus.Page{Epoch: 1, Time: int64(h.n), CommandsRead: uint64(h.n)}
	for range events {
		h.n++
		user := session.UserID(fmt.Sprint("user-", h.n))
		page.Events = append(page.Events, session.AppendEvent(nil, &session.UserRegistered{Header: session.Header{At: 1, User: user}, Credential: 1}))
	}
	data, err := bus.EncodePage(page)
	must(h.t, err)
	h.store(p, data)
}

func (h *house) store(p bus.Partition, data []byte) {
	h.t.Helper()
	book := h.bus.Book(p)
	for { // a busy machine may not say whether it was stored: the book does
		seq, err := book.Append(context.Background(), h.last[p], data)
		if err == nil {
			h.last[p] = seq
			return
		}
		end, err := book.End(context.Background())
		must(h.t, err)
		if end > h.last[p] {
			h.last[p] = end
			return
		}
	}
}

func (h *house) config() proof.NotaryConfig {
	cfg := proof.NotaryConfig{Store: h.bus, Key: h.key, Interval: 2 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	for _, p := range h.partitions() {
		cfg.Books = append(cfg.Books, h.bus.Book(p))
	}
	return cfg
}

// notary runs a notary until stop is called or the test ends.
func (h *house) notary(cfg proof.NotaryConfig) (n *proof.Notary, stop func()) {
	n = proof.NewNotary(cfg)
	return n, running(h.t, n.Run)
}

// running runs something until stop is called or the test ends.
func running(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// until waits for something that happens soon.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen: " + what)
		}
	}
}

// signed waits until everything in the books is signed.
func (h *house) signed(n *proof.Notary) {
	h.t.Helper()
	until(h.t, "all pages are signed", func() bool {
		for _, p := range h.partitions() {
			if n.Signed(p).Page != h.last[p] {
				return false
			}
		}
		return true
	})
}

// fourSigned writes four pages into the first book, each signed by itself, and gives the notary, which has stopped.
func (h *house) fourSigned() *proof.Notary {
	h.t.Helper()
	n, stop := h.notary(h.config())
	for range 4 {
		h.page(0, 2)
		h.signed(n)
	}
	stop()
	return n
}

// verify verifies what the bus has.
func (h *house) verify(known ...proof.Checkpoint) ([]proof.Finding, []proof.Verified) {
	h.t.Helper()
	findings, reached, err := proof.VerifyLive(context.Background(), &proof.Live{Bus: h.bus}, proof.ScanConfig{Partitions: h.partitions()},
		proof.NewVerifier(h.key.Public(), known...))
	must(h.t, err)
	return findings, reached
}

// records are what the bus has, in order.
func (h *house) records(cfg proof.ScanConfig) (base, list []proof.Record) {
	h.t.Helper()
	cfg.Partitions = h.partitions()
	must(h.t, proof.Scan(context.Background(), &proof.Live{Bus: h.bus}, cfg,
		func(r proof.Record) error { base = append(base, r); return nil },
		func(r proof.Record) error { list = append(list, r); return nil }))
	return base, list
}
