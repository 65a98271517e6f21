package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rollbook/bus"
	"rollbook/projections/webhooks"
)

// besidePatience is how long the doctor waits for what follows the book to come as far as the book was at its first look:
// the feed is milliseconds behind, the notary a second.
const besidePatience = 3 * time.Second

// beside is about what works beside the writers. What this credential may not see is passed over.
func (e *examination) beside(ctx context.Context) {
	e.missing(ctx)
	e.feed(ctx)
	e.webhooks(ctx)
	e.notary(ctx)
}

// missing is about the streams that an older program did not make.
func (e *examination) missing(ctx context.Context) {
	missing, err := e.bus.Missing(ctx)
	if err != nil || len(missing) == 0 {
		return // what does not answer is said where it matters
	}
	e.add(finding{warning, "layout", "the book is of an older program and lacks " + strings.Join(missing, ", "),
		"what they are for is done without: the feed, webhooks, what the notary signs, quick histories, quick starts", "add them with: " + e.upgrade})
}

// feed is about how far the feed is behind the book. Something is always on its way: what the first look finds is given
// time to arrive.
func (e *examination) feed(ctx context.Context) {
	first, err := feedLags(ctx, e.bus, e.layout.Partitions)
	if err != nil {
		if !errors.Is(err, bus.ErrNotPermitted) && !errors.Is(err, bus.ErrNotCreated) {
			e.add(finding{warning, "feed", "how far the feed has come: " + sentence(err), "its stream or the book's does not answer", "see which servers are down"})
		}
		return
	}
	if e.alone {
		if len(first) > 0 {
			e.add(finding{note, "feed", "the feed is behind the book: " + some(lagTexts(first)), "nothing runs here that publishes it; rollbook serve does", ""})
		}
		return
	}
	left := first
	for end := time.Now().Add(e.patience); len(left) > 0 && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if left, err = stillBehind(ctx, e.bus, first); err != nil {
			return
		}
	}
	for _, f := range feedFindings(first, left) {
		e.add(f)
	}
}

// stillBehind gives those of the lags that the feed has not made up for, as they are now.
func stillBehind(ctx context.Context, b *bus.Bus, first []feedLag) (left []feedLag, err error) {
	for _, l := range first {
		marker, err := b.Feed(l.partition).Marker(ctx)
		if err != nil {
			return nil, err
		}
		behind, err := eventAfter(ctx, b.Book(l.partition), marker, l.end)
		if err != nil {
			return nil, err
		}
		if behind {
			left = append(left, feedLag{l.partition, marker.At.Page, l.end})
		}
	}
	return left, nil
}

func feedFindings(first, left []feedLag) (list []finding) {
	before := map[bus.Partition]uint64{}
	for _, l := range first {
		before[l.partition] = l.page
	}
	var standing, moving []feedLag
	for _, l := range left {
		if l.page > before[l.partition] {
			moving = append(moving, l)
		} else {
			standing = append(standing, l)
		}
	}
	if len(standing) > 0 {
		list = append(list, finding{warning, "feed", "nobody publishes the feed: " + some(lagTexts(standing)), "those who read it are not told what happens; the book has it all",
			"the process that writes the partition publishes its feed: see its log for \"the feed does not go on\""})
	}
	if len(moving) > 0 {
		list = append(list, finding{warning, "feed", "the feed is behind the book and moves: " + some(lagTexts(moving)), "those who read it are told late",
			"look again; if it falls further behind, see rollbook_feed_lag_seconds, and what else the bus is busy with"})
	}
	if len(left) == 0 {
		list = append(list, finding{Severity: fine, Check: "feed", What: "the feed has what the book has"})
	}
	return list
}

// webhooks is about who is served, and what was given up.
func (e *examination) webhooks(ctx context.Context) {
	kv, err := e.bus.Webhooks(ctx)
	if err != nil {
		return // not this credential's, or missing, which was said
	}
	standings, parked, err := webhooks.Look(ctx, kv)
	if err != nil {
		e.add(finding{warning, "webhooks", "how far webhooks have come: " + sentence(err), "their bucket does not answer", "see which servers are down"})
		return
	}
	ahead, _, err := e.bus.Skew(ctx)
	if err != nil {
		return
	}
	for _, f := range webhookFindings(standings, parked, time.Now().Add(ahead), e.alone) {
		e.add(f)
	}
}

// webhookFindings judges at a moment of the bus's clock. Where nothing runs nobody can be served, and that was said.
func webhookFindings(standings []webhooks.Standing, parked []webhooks.ParkedEvent, now time.Time, alone bool) (list []finding) {
	var endpoints []string // in the order of their names
	unserved, given := map[string][]string{}, map[string]int{}
	oldest := map[string]time.Time{}
	for _, s := range standings {
		if len(endpoints) == 0 || endpoints[len(endpoints)-1] != s.Endpoint {
			endpoints = append(endpoints, s.Endpoint)
		}
		if !alone && !s.Served(now) {
			unserved[s.Endpoint] = append(unserved[s.Endpoint], s.Partition.String())
		}
	}
	for _, p := range parked {
		if given[p.Endpoint]++; oldest[p.Endpoint].IsZero() || p.Since.Before(oldest[p.Endpoint]) {
			oldest[p.Endpoint] = p.Since
		}
	}
	for _, name := range endpoints {
		if partitions := unserved[name]; len(partitions) > 0 {
			list = append(list, finding{warning, "webhooks", fmt.Sprintf("nobody serves the endpoint %s in partition %s", name, some(partitions)),
				"its events wait in the book; none is lost", "start rollbook webhooks, or rollbook serve with --webhooks, with the endpoint in the file; of one that was taken out of the file, rollbook webhook forget " + name})
		}
		if n := given[name]; n > 0 {
			since := oldest[name]
			list = append(list, finding{warning, "webhooks", fmt.Sprintf("events that the endpoint %s was not given: %d are parked, the oldest since %s", name, n, moment(&since)),
				"it does not know of them, and their users' later events went on without them",
				fmt.Sprintf("see why with rollbook webhook parked %[1]s, mend the endpoint, then rollbook webhook retry %[1]s", name)})
		}
	}
	if len(list) == 0 && len(endpoints) > 0 {
		list = append(list, finding{Severity: fine, Check: "webhooks", What: fmt.Sprintf("nothing is parked, of %d endpoints", len(endpoints))})
	}
	return list
}

// signedUpTo is how far a partition's book is signed.
type signedUpTo struct {
	partition bus.Partition
	page, end uint64
	at        time.Time // of the last checkpoint, by the bus's clock; zero: there is none
}

func (s signedUpTo) String() string {
	return fmt.Sprintf("partition %s up to page %d of %d", s.partition, s.page, s.end)
}

// notary is about what was signed last. The notary signs once a second when the book has grown: it is given longer.
func (e *examination) notary(ctx context.Context) {
	var parts []signedUpTo
	for p := range bus.Partition(e.layout.Partitions) {
		end, err := e.bus.Book(p).End(ctx)
		if err != nil {
			return // the writers' check says so
		}
		parts = append(parts, signedUpTo{partition: p, end: end})
	}
	for end := time.Now().Add(e.patience); ; time.Sleep(100 * time.Millisecond) {
		behind, ever := false, e.unbounded // with a data directory's service there is a notary
		for i := range parts {
			last, err := e.bus.LastCheckpoint(ctx, parts[i].partition)
			if err != nil {
				return // not this credential's, or missing, which was said
			}
			parts[i].page, parts[i].at = last.Page, last.Stored
			behind, ever = behind || last.Page < parts[i].end, ever || last.Seq > 0
		}
		if !behind || !ever || e.alone || time.Now().After(end) || ctx.Err() != nil {
			break
		}
	}
	for _, f := range notaryFindings(parts, e.alone) {
		e.add(f)
	}
}

// notaryFindings judges what was signed after the notary has had its time. Where nothing runs a few pages are left: those
// that the writers end with come after its last checkpoint.
func notaryFindings(parts []signedUpTo, alone bool) []finding {
	var behind []string
	var newest time.Time
	pages := uint64(0)
	for _, s := range parts {
		pages += s.end
		if s.at.After(newest) {
			newest = s.at
		}
		if s.page < s.end {
			behind = append(behind, s.String())
		}
	}
	switch {
	case pages == 0:
		return nil
	case newest.IsZero():
		return []finding{{note, "notary", "nobody has signed what is in the book", "who can write to the servers' disks could change it unseen",
			"run rollbook notary if the book is to be proof against that: docs/audit.md"}}
	case len(behind) > 0 && alone:
		return []finding{{Severity: fine, Check: "notary", What: "signed is " + some(behind) + "; the rest is signed at the next start"}}
	case len(behind) > 0:
		return []finding{{warning, "notary", fmt.Sprintf("the book has grown and the notary does not sign it, last at %s: %s", moment(&newest), some(behind)),
			"what has happened since could be changed unseen", "start rollbook notary, or see its log and rollbook_notary_alarm: it stops for good when the book is not what it signed"}}
	}
	return []finding{{Severity: fine, Check: "notary", What: "all that is in the book is signed, last at " + moment(&newest)}}
}
