package history

import (
	"github.com/prometheus/client_golang/prometheus"

	"rollbook/bus"
)

// Metrics are those of the indexers of a process, by partition. The work of answering is the asker's, and not counted here.
type Metrics struct {
	position *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
	errors   *prometheus.CounterVec
}

// NewMetrics makes them; whoever runs the indexers registers them.
func NewMetrics() *Metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_history_" + name, Help: help}, []string{"partition"})
	}
	return &Metrics{
		position: gauge("position", "The last page that the history index covers."),
		lag:      gauge("lag_pages", "Pages that the history index does not cover yet: a question by user reads them."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_history_errors_total",
			Help: "Attempts to extend the history index that failed."}, []string{"partition"}),
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.position.Describe(ch)
	m.lag.Describe(ch)
	m.errors.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.position.Collect(ch)
	m.lag.Collect(ch)
	m.errors.Collect(ch)
}

func (m *Metrics) at(p bus.Partition, covered, end uint64) {
	m.position.WithLabelValues(p.String()).Set(float64(covered))
	m.lag.WithLabelValues(p.String()).Set(float64(end - covered))
}

func (m *Metrics) failed(p bus.Partition) { m.errors.WithLabelValues(p.String()).Inc() }
