package webhooks

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the couriers count. Endpoints are labelled by their names, which the operator has given.
type metrics struct {
	delivered, failed, parked *prometheus.CounterVec
	lag, waiting              *prometheus.GaugeVec
}

func newMetrics() *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollbook_webhook_" + name, Help: help}, []string{"endpoint"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollbook_webhook_" + name, Help: help}, []string{"endpoint", "partition"})
	}
	return &metrics{
		delivered: counter("delivered_total", "Events that the endpoint has taken."),
		failed:    counter("failed_total", "Attempts that failed."),
		parked:    counter("parked_total", "Events that were given up after the last attempt, and parked."),
		lag:       gauge("lag_seconds", "Age of the oldest event that is neither delivered nor parked, by the book's clock; 0: none is known, or another process delivers."),
		waiting:   gauge("waiting", "Events read from the book that are neither delivered nor parked."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.delivered, m.failed, m.parked, m.lag, m.waiting}
}

// Describe implements [prometheus.Collector].
func (w *Couriers) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range w.metrics.all() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (w *Couriers) Collect(ch chan<- prometheus.Metric) {
	for _, c := range w.metrics.all() {
		c.Collect(ch)
	}
}

func (c *courier) labels() []string {
	return []string{c.endpoint.Name, strconv.Itoa(int(c.book.Partition()))}
}
