package adapters

import (
	"github.com/prometheus/client_golang/prometheus"

	"rollbook/engine/session"
)

// CallClass is one of a venue's few classes of calls, and Outcome what a client is told. Both are labels of a metric, so
// both are words that stand in the venue's code; nothing of what a client sends ever becomes one.
type (
	CallClass string
	Outcome   string
)

// The outcomes that mean the same at every venue. The others are a venue's own codes.
const (
	OutcomeGood        Outcome = "ok"
	OutcomeBusy        Outcome = "BUSY"        // a login turned away because too many wait; its client is told "unavailable"
	OutcomeUnavailable Outcome = "UNAVAILABLE" // the book is away, or there is no room
)

// Replies counts what a venue's clients are told, whatever the transport and the HTTP status. It is a
// [prometheus.Collector]: the program registers that of every venue.
type Replies struct{ counts *prometheus.CounterVec }

// NewReplies makes the counter of a venue.
func NewReplies(venue session.Venue) *Replies {
	return &Replies{counts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_replies_total",
		Help: "Replies by HTTP or socket, by venue, class of call and outcome: ok (Genesis: ACK), BUSY for a login turned away " +
			"because too many wait, UNAVAILABLE when the book is away, or the venue's code of the refusal.",
		ConstLabels: prometheus.Labels{"venue": venue.String()}}, []string{"call", "outcome"})}
}

// Count counts a reply.
func (r *Replies) Count(call CallClass, outcome Outcome) {
	r.counts.WithLabelValues(string(call), string(outcome)).Inc()
}

// Describe implements [prometheus.Collector].
func (r *Replies) Describe(ch chan<- *prometheus.Desc) { r.counts.Describe(ch) }

// Collect implements [prometheus.Collector].
func (r *Replies) Collect(ch chan<- prometheus.Metric) { r.counts.Collect(ch) }
