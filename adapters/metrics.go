package adapters

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollbook/engine/session"
)

// OutcomeUnknown is the outcome of a command that nobody knows the outcome of.
const OutcomeUnknown Outcome = "unknown"

// Metrics is what a pod's gate measures. It is a [prometheus.Collector]: the program registers it.
type Metrics struct{ commands *prometheus.HistogramVec }

// NewMetrics makes the metrics of a gate.
func NewMetrics() *Metrics {
	return &Metrics{commands: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "rollbook_command_seconds",
		Help: "Time from submitting a command to having seen its outcome in this process's view of the book, by verb and outcome " +
			"(accepted, the code of the refusal, or unknown). A password's hash is not in it.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"verb", "outcome"})}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { m.commands.Describe(ch) }

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) { m.commands.Collect(ch) }

func (m *Metrics) asked(verb session.Verb, outcome Outcome, took time.Duration) {
	m.commands.WithLabelValues(string(verb), string(outcome)).Observe(took.Seconds())
}
