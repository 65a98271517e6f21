package proof

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descSigned  = notaryDesc("position", "The last page that a stored checkpoint covers.")
	descLeaves  = notaryDesc("leaves", "Leaves of the tree that the last stored checkpoint signs.")
	descLag     = notaryDesc("lag_pages", "Pages that were read and are not signed yet.")
	descAge     = notaryDesc("age_seconds", "Seconds since the oldest page that is not signed was read; 0: all are.")
	descCount   = notaryDesc("checkpoints_total", "Checkpoints signed since the start.")
	descErrors  = notaryDesc("errors_total", "Attempts to sign that failed since the start.")
	descAlarm   = notaryDesc("alarm", "1 when the book is not what was signed, and the notary has stopped.")
	descDiverge = prometheus.NewDesc("rollbook_divergence", "1 when this process has read another book than the notary has signed.", []string{"partition"}, nil)
	descAgreed  = prometheus.NewDesc("rollbook_roots_agreed_position", "The last page up to which this process has read what the notary has signed.", []string{"partition"}, nil)
	descRefused = prometheus.NewDesc("rollbook_checkpoints_refused_total", "Checkpoints that the notary's key has not signed.", []string{"partition"}, nil)
)

func notaryDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("rollbook_notary_"+name, help, []string{"partition"}, nil)
}

// Describe implements [prometheus.Collector].
func (n *Notary) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSigned, descLeaves, descLag, descAge, descCount, descErrors, descAlarm} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (n *Notary) Collect(ch chan<- prometheus.Metric) {
	for _, w := range n.parts {
		w.mu.Lock()
		lag, age, alarm := w.page-w.signed.Page, 0.0, 0.0
		if !w.since.IsZero() {
			age = time.Since(w.since).Seconds()
		}
		if w.alarm != nil {
			alarm = 1
		}
		partition := strconv.Itoa(int(w.book.Partition()))
		put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, partition)
		}
		put(descSigned, prometheus.GaugeValue, float64(w.signed.Page))
		put(descLeaves, prometheus.GaugeValue, float64(w.signed.Size))
		put(descLag, prometheus.GaugeValue, float64(lag))
		put(descAge, prometheus.GaugeValue, age)
		put(descCount, prometheus.CounterValue, float64(w.count))
		put(descErrors, prometheus.CounterValue, float64(w.errors))
		put(descAlarm, prometheus.GaugeValue, alarm)
		w.mu.Unlock()
	}
}

// Describe implements [prometheus.Collector].
func (w *Watch) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDiverge, descAgreed, descRefused} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (w *Watch) Collect(ch chan<- prometheus.Metric) {
	for _, part := range w.parts {
		part.mu.Lock()
		diverged := 0.0
		if part.diverged != nil {
			diverged = 1
		}
		partition := part.p.String()
		ch <- prometheus.MustNewConstMetric(descDiverge, prometheus.GaugeValue, diverged, partition)
		ch <- prometheus.MustNewConstMetric(descAgreed, prometheus.GaugeValue, float64(part.agreed), partition)
		ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(part.refused), partition)
		part.mu.Unlock()
	}
}
