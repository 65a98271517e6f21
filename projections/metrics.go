package projections

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Lag is how far one partition's view is behind.
type Lag struct {
	Partition int    `json:"partition"`
	Position  uint64 `json:"position"` // the last page applied
	Pages     uint64 `json:"pages"`    // pages known to be stored and not yet applied
	// Seconds since the moment up to which nothing is missing; negative: nothing has been heard yet.
	Seconds float64 `json:"seconds"`
	Events  uint64  `json:"events"` // applied since the start
	Stuck   bool    `json:"stuck"`  // a page could not be applied
}

// Lags gives the lag of each partition.
func (f *Follower) Lags() []Lag {
	now := f.cfg.Now()
	lags := make([]Lag, 0, len(f.parts))
	for _, p := range f.parts {
		p.mu.Lock()
		l := Lag{Partition: int(p.book.Partition()), Position: p.applied, Events: p.events, Stuck: p.failed, Seconds: -1}
		if p.announced > p.applied {
			l.Pages = p.announced - p.applied
		}
		if !p.current.IsZero() {
			l.Seconds = now.Sub(p.current).Seconds()
		}
		p.mu.Unlock()
		lags = append(lags, l)
	}
	return lags
}

var (
	descPosition = desc("position", "The last page applied.")
	descPages    = desc("lag_pages", "Pages known to be stored and not yet applied.")
	descSeconds  = desc("age_seconds", "Seconds since the moment up to which nothing is missing; -1: nothing heard yet.")
	descEvents   = desc("events_total", "Events applied since the start.")
	descStuck    = desc("stuck", "1 when a page could not be applied and the projection has stopped.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("rollbook_projection_"+name, help, []string{"partition"}, nil)
}

// Describe implements [prometheus.Collector].
func (f *Follower) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPosition, descPages, descSeconds, descEvents, descStuck} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	for _, l := range f.Lags() {
		gauge := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, strconv.Itoa(l.Partition))
		}
		stuck := 0.0
		if l.Stuck {
			stuck = 1
		}
		gauge(descPosition, prometheus.GaugeValue, float64(l.Position))
		gauge(descPages, prometheus.GaugeValue, float64(l.Pages))
		gauge(descSeconds, prometheus.GaugeValue, l.Seconds)
		gauge(descEvents, prometheus.CounterValue, float64(l.Events))
		gauge(descStuck, prometheus.GaugeValue, stuck)
	}
}
