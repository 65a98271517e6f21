package genesis

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what clients are answered, whatever the transport and the HTTP status, which is 200 for most refusals.
// It is a [prometheus.Collector]: the program registers it.
type Metrics struct{ replies *prometheus.CounterVec }

// What the label outcome says beside the venue's codes.
const (
	outcomeGood = "ACK"
	outcomeBusy = "BUSY" // a login turned away because too many wait; its client is told UNAVAILABLE
)

func newMetrics() *Metrics {
	return &Metrics{replies: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_replies_total",
		Help: "Replies by HTTP or socket, by venue, class of call and outcome: ACK, BUSY for a login turned away because " +
			"too many wait, or the venue's code of the refusal (UNAVAILABLE: the book is away).",
		ConstLabels: prometheus.Labels{"venue": "genesis"}}, []string{"call", "outcome"})}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { m.replies.Describe(ch) }

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) { m.replies.Collect(ch) }

// replied counts a reply; a nil fault is an acknowledgement. Both labels are bounded: classes are those of the table of
// calls, codes are written in this package.
func (m *Metrics) replied(class string, f *fault) {
	outcome := outcomeGood
	switch {
	case f != nil && f.busy:
		outcome = outcomeBusy
	case f != nil:
		outcome = f.code
	}
	m.replies.WithLabelValues(class, outcome).Inc()
}
