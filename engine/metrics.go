package engine

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Metrics is what the writers of a process count. It is a [prometheus.Collector]: the program registers it.
type Metrics struct {
	commands   *prometheus.CounterVec
	events     *prometheus.CounterVec
	appends    *prometheus.HistogramVec
	pageEvents prometheus.Histogram
	pageBytes  prometheus.Histogram
	sessions   *prometheus.GaugeVec
	roles      *prometheus.GaugeVec
	recoveries prometheus.Counter
	terms      *prometheus.CounterVec
	ignored    prometheus.Counter

	snapshotEvents  *prometheus.GaugeVec
	snapshotSeconds *prometheus.GaugeVec
	snapshotTook    *prometheus.GaugeVec
	snapshotBytes   *prometheus.GaugeVec
	snapshotErrors  *prometheus.CounterVec
}

// NewMetrics makes the metrics of a process's writers.
func NewMetrics() *Metrics {
	return &Metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_commands_total",
			Help: "Commands answered, by verb and outcome (accepted, or the code of the refusal)."}, []string{"verb", "outcome"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_events_total",
			Help: "Events decided, by type."}, []string{"type"}),
		appends: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rollbook_append_seconds",
			Help:    "Time from handing a page to the bus to knowing its outcome, by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)}, []string{"outcome"}),
		pageEvents: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rollbook_page_events",
			Help: "Events in a stored page.", Buckets: prometheus.ExponentialBuckets(1, 2, 13)}),
		pageBytes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "rollbook_page_bytes",
			Help: "Bytes of a stored page.", Buckets: prometheus.ExponentialBuckets(128, 2, 13)}),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_live_sessions",
			Help: "Sessions that have not ended, by partition, as its writer counts them; no other process tells."}, []string{"partition"}),
		roles: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_writer_role",
			Help: "What the writer of a partition does in this process: 0 reading the book, 1 standing by, 2 writing, 3 failing to write."}, []string{"partition"}),
		recoveries: prometheus.NewCounter(prometheus.CounterOpts{Name: "rollbook_writer_recoveries_total",
			Help: "Times the state was rebuilt because a page was not stored as expected."}),
		terms: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_writer_changes_total",
			Help: "Changes of office of this process's writers: taken_over, resigned, or deposed by another process."}, []string{"change"}),
		ignored: prometheus.NewCounter(prometheus.CounterOpts{Name: "rollbook_stale_commands_total",
			Help: "Commands that reached the writer after their sender had given up."}),
		snapshotEvents:  snapshotGauge("age_events", "Events since the newest snapshot: what a start reads beside it. All events, while there is none."),
		snapshotSeconds: snapshotGauge("age_seconds", "Seconds since the newest snapshot was written; -1: there is none."),
		snapshotTook:    snapshotGauge("duration_seconds", "How long this process took to write the newest snapshot."),
		snapshotBytes:   snapshotGauge("bytes", "Size of the newest snapshot."),
		snapshotErrors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_snapshot_failures_total",
			Help: "Snapshots that were due and could not be written."}, []string{"partition"}),
	}
}

// snapshotGauge is one of the figures of a partition's newest snapshot, while its writer is in this process.
func snapshotGauge(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_snapshot_" + name, Help: help}, []string{"partition"})
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.commands, m.events, m.appends, m.pageEvents, m.pageBytes, m.sessions, m.roles, m.recoveries, m.terms, m.ignored,
		m.snapshotEvents, m.snapshotSeconds, m.snapshotTook, m.snapshotBytes, m.snapshotErrors}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) answered(verb session.Verb, refusal session.Refusal) {
	m.commands.WithLabelValues(string(verb), refusal.String()).Inc()
}

func (m *Metrics) event(t session.EventType) { m.events.WithLabelValues(string(t)).Inc() }

func (m *Metrics) appended(took time.Duration, err error) {
	outcome := "unknown"
	switch {
	case err == nil:
		outcome = "applied"
	case errors.Is(err, bus.ErrConflict):
		outcome = "conflict"
	case errors.Is(err, bus.ErrInFlight):
		outcome = "in_flight"
	case errors.Is(err, bus.ErrNotStored):
		outcome = "refused"
	}
	m.appends.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *Metrics) stored(p bus.Partition, events, bytes, sessions int) {
	m.pageEvents.Observe(float64(events))
	m.pageBytes.Observe(float64(bytes))
	m.live(p, sessions)
}

func (m *Metrics) live(p bus.Partition, sessions int) {
	m.sessions.WithLabelValues(strconv.Itoa(int(p))).Set(float64(sessions))
}

func (m *Metrics) role(p bus.Partition, role int32) {
	m.roles.WithLabelValues(strconv.Itoa(int(p))).Set(float64(role))
	if role != Writing && role != Failing {
		m.sessions.DeleteLabelValues(strconv.Itoa(int(p))) // another process's to tell
	}
}

func (m *Metrics) recovered() { m.recoveries.Inc() }
func (m *Metrics) tookOver()  { m.terms.WithLabelValues("taken_over").Inc() }
func (m *Metrics) resigned()  { m.terms.WithLabelValues("resigned").Inc() }
func (m *Metrics) deposed()   { m.terms.WithLabelValues("deposed").Inc() }
func (m *Metrics) stale()     { m.ignored.Inc() }

func (m *Metrics) snapshotAge(p bus.Partition, events uint64, last bus.Snapshot, now time.Time) {
	seconds := -1.0
	if last.Page > 0 {
		seconds = now.Sub(last.Written).Seconds()
	}
	m.snapshotEvents.WithLabelValues(p.String()).Set(float64(events))
	m.snapshotSeconds.WithLabelValues(p.String()).Set(seconds)
	m.snapshotBytes.WithLabelValues(p.String()).Set(float64(last.Bytes))
}

func (m *Metrics) snapshotWritten(p bus.Partition, s bus.Snapshot, took time.Duration) {
	m.snapshotTook.WithLabelValues(p.String()).Set(took.Seconds())
	m.snapshotBytes.WithLabelValues(p.String()).Set(float64(s.Bytes))
}

func (m *Metrics) snapshotFailed(p bus.Partition) { m.snapshotErrors.WithLabelValues(p.String()).Inc() }

// snapshotGone takes back what another process's writer is asked for now.
func (m *Metrics) snapshotGone(p bus.Partition) {
	for _, gauge := range []*prometheus.GaugeVec{m.snapshotEvents, m.snapshotSeconds, m.snapshotTook, m.snapshotBytes} {
		gauge.DeleteLabelValues(p.String())
	}
}
