package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/projections/feed/feedtest"
	"rollbook/projections/proof"
	"rollbook/projections/webhooks"
)

// sickbed is a book on a bus elsewhere that the test has somebody look at, as one role, one thing at a time.
type sickbed struct {
	t   *testing.T
	ctx context.Context
	at  *examination
}

func newSickbed(t *testing.T, dir, url, role string) *sickbed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	e := &examination{bus: connectAs(t, dir, url, role), upgrade: "the command", patience: 300 * time.Millisecond}
	var err error
	if e.layout, err = e.bus.Inspect(ctx); err != nil && !errors.Is(err, bus.ErrNoCommands) {
		t.Fatal(err)
	}
	return &sickbed{t: t, ctx: ctx, at: e}
}

// finds looks until there is such a finding.
func (s *sickbed) finds(look func(context.Context), sev severity, check string, parts ...string) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s.at.findings = nil
		look(s.ctx)
		if has(s.at.findings, sev, check, parts...) || time.Now().After(end) {
			expect(s.t, s.at.findings, sev, check, parts...)
			return
		}
	}
}

// TestDoctorBesideTheWriters: what an older program did not make, a feed that nobody publishes, a notary that does not sign,
// endpoints that nobody serves and what was parked, each as the role that may see it.
func TestDoctorBesideTheWriters(t *testing.T) {
	dir, url := printed(t, 1)
	createBook(t, dir, url, 1)
	owner := connectAs(t, dir, url, "owner")
	if _, err := owner.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	asAnOlderProgramLeftIt(t, owner)
	operator := newSickbed(t, dir, url, "operator")
	operator.finds(operator.at.missing, warning, "layout", "lacks CHECKPOINTS, EVENTS, KV_WEBHOOKS, HISTORY")
	for _, look := range []func(context.Context){operator.at.feed, operator.at.webhooks, operator.at.notary} {
		operator.at.findings = nil
		if look(operator.ctx); len(operator.at.findings) != 0 {
			t.Errorf("what is missing is told again: %+v", operator.at.findings)
		}
	}
	if _, err := owner.AddMissing(operator.ctx); err != nil {
		t.Fatal(err)
	}
	operator.at.findings = nil
	if operator.at.missing(operator.ctx); len(operator.at.findings) != 0 {
		t.Errorf("nothing is missing, and told is %+v", operator.at.findings)
	}

	engine := connectAs(t, dir, url, "engine")
	book := feedtest.Write(t, engine, 1)
	book.Page(5)
	book.Page(5)
	operator.finds(operator.at.feed, warning, "feed", "nobody publishes the feed: partition 1 up to page 0 of 2")
	_, stop := feedtest.Publishing(t, feedtest.Source(engine, 1))
	operator.finds(operator.at.feed, fine, "feed")
	stop()
	book.Page(1)
	operator.finds(operator.at.feed, warning, "feed", "partition 1 up to page 2 of 3")
	operator.at.alone = true
	operator.finds(operator.at.feed, note, "feed", "partition 1 up to page 2 of 3")
	operator.at.alone = false

	looksAtTheNotary(t, dir, url, newSickbed(t, dir, url, "auditor"), book)
	looksAtWebhooks(t, connectAs(t, dir, url, "webhooks"), operator)
	adapter := newSickbed(t, dir, url, "adapter")
	for _, look := range []func(context.Context){adapter.at.missing, adapter.at.feed, adapter.at.webhooks} {
		if look(adapter.ctx); len(adapter.at.findings) != 0 {
			t.Errorf("an adapter, which may not look, is told %+v", adapter.at.findings)
		}
	}
}

func looksAtTheNotary(t *testing.T, dir, url string, auditor *sickbed, book *feedtest.Script) {
	t.Helper()
	auditor.finds(auditor.at.notary, note, "notary", "nobody has signed")
	key, err := proof.NewKey("rollbook/test")
	if err != nil {
		t.Fatal(err)
	}
	b := connectAs(t, dir, url, "notary")
	n := proof.NewNotary(proof.NotaryConfig{Books: []proof.Book{b.Book(0), b.Book(1)}, Store: b, Key: key, Interval: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	auditor.finds(auditor.at.notary, fine, "notary", "all that is in the book is signed")
	cancel()
	<-ended
	book.Page(1)
	auditor.finds(auditor.at.notary, warning, "notary", "does not sign it", "partition 1 up to page 3 of 4")
	auditor.at.alone = true
	auditor.finds(auditor.at.notary, fine, "notary", "the rest is signed at the next start")
}

func looksAtWebhooks(t *testing.T, courier *bus.Bus, operator *sickbed) {
	t.Helper()
	kv, err := courier.Webhooks(operator.ctx)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.Put(operator.ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	operator.at.findings = nil
	if operator.at.webhooks(operator.ctx); len(operator.at.findings) != 0 {
		t.Errorf("without an endpoint, told is %+v", operator.at.findings)
	}
	put("at.risk.0", `{"page":0,"saved":"2026-11-22T14:00:00Z"}`)
	put("at.risk.1", `{"page":1,"saved":"2026-11-22T14:00:00Z"}`)
	put("lease.risk.0", `{"holder":"0123456789abcdef","n":1,"ms":3600000}`)
	operator.finds(operator.at.webhooks, warning, "webhooks", "nobody serves the endpoint risk in partition 1")
	put("lease.risk.1", `{"holder":"0123456789abcdef","n":1,"ms":3600000}`)
	operator.finds(operator.at.webhooks, fine, "webhooks", "nothing is parked, of 1 endpoints")
	put("parked.risk.1.1.0", `{"type":"SessionEnded","attempts":40,"error":"the answer was 500","since":"2026-11-22T14:00:00Z"}`)
	put("parked.risk.1.1.1", `{"type":"SessionEnded","attempts":40,"error":"the answer was 500","since":"2026-11-22T13:00:00Z"}`)
	oldest := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	operator.finds(operator.at.webhooks, warning, "webhooks", "the endpoint risk", "2 are parked, the oldest since "+moment(&oldest))
}

// TestDoctorJudgesBeside is about what a test cannot bring about at a moment that it chooses.
func TestDoctorJudgesBeside(t *testing.T) {
	list := feedFindings([]feedLag{{0, 3, 9}, {1, 4, 9}, {2, 5, 9}}, []feedLag{{0, 3, 9}, {1, 6, 9}})
	expect(t, list, warning, "feed", "nobody publishes the feed: partition 0 up to page 3 of 9")
	expect(t, list, warning, "feed", "moves: partition 1 up to page 6 of 9")
	if has(list, fine, "feed") || strings.Contains(fmt.Sprint(list), "partition 2") {
		t.Errorf("%+v", list)
	}
	now := time.Now()
	killed := []webhooks.Standing{{Endpoint: "a", Holder: "x", Renewed: now.Add(-10 * time.Second), Lease: 10 * time.Second}}
	expect(t, webhookFindings(killed, nil, now, false), warning, "webhooks", "nobody serves the endpoint a in partition 0")
	expect(t, webhookFindings(killed, nil, now.Add(-time.Second), false), fine, "webhooks")
	expect(t, webhookFindings(killed, nil, now, true), fine, "webhooks") // that nothing runs was said
	if list := notaryFindings([]signedUpTo{{partition: 0}}, false); len(list) != 0 {
		t.Errorf("an empty book: %+v", list)
	}
	if list := webhookFindings(nil, nil, now, false); len(list) != 0 {
		t.Errorf("no endpoint: %+v", list)
	}
}
