package feed

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
)

// Lag is how far the feed of one partition is behind the book. It is known where the partition is written.
type Lag struct {
	Partition int    `json:"partition"`
	Working   bool   `json:"working"`  // this process publishes the partition
	Position  string `json:"position"` // of the last event published
	Pages     uint64 `json:"pages"`    // known to be stored and not yet read
	Events    uint64 `json:"events"`   // read and not yet published
	// Seconds is the age of the oldest event that was read and not yet published; 0 when there is none.
	Seconds   float64 `json:"seconds"`
	Published uint64  `json:"published"` // events, since the start of the process, as far as it has learned
	Failures  uint64  `json:"failures"`  // since the start of the process
	Failing   bool    `json:"failing"`   // nothing was published since the last failure
}

// progress is what is known of one partition's publishing.
type progress struct {
	mu        sync.Mutex
	working   bool
	at        bus.Position
	end       uint64 // the last page of the book as heard
	seen      uint64 // the last page read
	ahead     uint64 // events read and not yet published
	oldest    []mark // of them
	done      uint64 // events published
	unsure    string // a batch whose outcome was not learned
	inDoubt   int    // its events
	failures  uint64
	isFailing bool
}

// mark is the time of the first event of a page that was read.
type mark struct {
	page uint64
	time time.Time
}

// begun is told of the marker that publishing goes on from. When that is the end of the batch in doubt, it was stored.
func (p *progress) begun(from bus.FeedMarker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working, p.at, p.ahead, p.oldest = true, from.At, 0, nil
	p.seen = from.At.Page
	if p.unsure != "" && from.Batch == p.unsure {
		p.done += uint64(p.inDoubt)
		p.unsure, p.inDoubt = "", 0
	}
}

// doubt is told that a batch failed. Unless it certainly was not stored, a later marker says.
func (p *progress) doubt(s *storing, err error) {
	for _, certain := range []error{bus.ErrConflict, bus.ErrNotStored, bus.ErrFeedBatch, bus.ErrNotCreated} {
		if errors.Is(err, certain) {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure, p.inDoubt = s.batch.ID(), s.events
}

func (p *progress) idle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.working, p.ahead, p.oldest, p.isFailing = false, 0, nil, false
}

func (p *progress) announced(end uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = max(p.end, end)
}

func (p *progress) read(page uint64, events []bus.FeedEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.end = page, max(p.end, page)
	p.ahead += uint64(len(events))
	if len(events) > 0 {
		p.oldest = append(p.oldest, mark{page, events[0].Time})
	}
}

func (p *progress) published(at bus.Position, events int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.isFailing, p.unsure = at, false, ""
	p.done += uint64(events)
	p.ahead -= min(uint64(events), p.ahead)
	for len(p.oldest) > 0 && (p.oldest[0].page < at.Page || p.ahead == 0) {
		p.oldest = p.oldest[1:]
	}
}

func (p *progress) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	p.isFailing = true
}

func (p *progress) count() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *progress) position() bus.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *progress) lag(now time.Time) Lag {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := Lag{Partition: int(p.at.Partition), Working: p.working, Position: p.at.String(), Events: p.ahead, Published: p.done,
		Failures: p.failures, Failing: p.isFailing}
	if p.working && p.end > p.seen {
		l.Pages = p.end - p.seen
	}
	if len(p.oldest) > 0 {
		l.Seconds = max(now.Sub(p.oldest[0].time).Seconds(), 0)
	}
	return l
}

// Lags gives the lag of each partition.
func (p *Publisher) Lags() []Lag {
	now := p.cfg.Now()
	lags := make([]Lag, 0, len(p.parts))
	for _, part := range p.parts {
		l := part.progress.lag(now)
		l.Partition = int(part.Book.Partition())
		lags = append(lags, l)
	}
	return lags
}

var (
	descWorking   = desc("publishing", "1 when this process publishes the partition's feed.")
	descPages     = desc("lag_pages", "Pages known to be stored and not yet read for the feed.")
	descEvents    = desc("lag_events", "Events read and not yet published.")
	descSeconds   = desc("lag_seconds", "Age of the oldest event that was read and not yet published; 0 when there is none.")
	descPublished = desc("published_events_total", "Events published since the start.")
	descFailures  = desc("failures_total", "Times that publishing had to begin again from the marker since the start.")
	descFailing   = desc("failing", "1 when nothing was published since the last failure.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("rollbook_feed_"+name, help, []string{"partition"}, nil)
}

// Describe implements [prometheus.Collector].
func (p *Publisher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descWorking, descPages, descEvents, descSeconds, descPublished, descFailures, descFailing} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (p *Publisher) Collect(ch chan<- prometheus.Metric) {
	number := map[bool]float64{true: 1}
	for _, l := range p.Lags() {
		tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, strconv.Itoa(l.Partition))
		}
		tell(descWorking, prometheus.GaugeValue, number[l.Working])
		tell(descPages, prometheus.GaugeValue, float64(l.Pages))
		tell(descEvents, prometheus.GaugeValue, float64(l.Events))
		tell(descSeconds, prometheus.GaugeValue, l.Seconds)
		tell(descPublished, prometheus.CounterValue, float64(l.Published))
		tell(descFailures, prometheus.CounterValue, float64(l.Failures))
		tell(descFailing, prometheus.GaugeValue, number[l.Failing])
	}
}
