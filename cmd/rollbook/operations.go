package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rollbook/engine"
	"rollbook/projections"
	"rollbook/projections/directory"
	"rollbook/projections/proof"
)

// status is what the operations server asks of the parts.
type status struct {
	writers   []*engine.Writer
	alone     bool                  // no other process writes: standing by is no role here
	follower  *projections.Follower // nil in a process of writers alone
	directory *directory.Directory  // the same
	notary    *proof.Notary         // nil when this process signs nothing

	phase atomic.Int32
}

// The phases of the service.
const (
	phaseStarting int32 = iota
	phaseServing
	phaseStopping
)

// part is one line of a report: what it does, and whether that is enough to serve.
type part struct {
	State string `json:"state"`
	OK    bool   `json:"ok"`
}

// report is the body of /healthz and /readyz.
type report struct {
	OK    bool            `json:"ok"`
	Parts map[string]part `json:"parts"`
}

// ready says of each part whether the service can do without waiting for it.
func (s *status) ready() report {
	r := report{OK: true, Parts: map[string]part{}}
	for i := range s.writers {
		state, ok := s.role(i)
		r.add("writer "+strconv.Itoa(i), state, ok)
	}
	s.sayNotary(&r)
	phase := s.phase.Load()
	if s.follower == nil {
		r.add("process", [...]string{"waiting for the writers", "at work", "stopping"}[phase], phase == phaseServing)
		return r
	}
	if err := s.follower.Fresh(); err != nil {
		r.add("view of the book", err.Error(), false)
	} else {
		r.add("view of the book", "fresh", true)
	}
	switch lost := s.directory.Lost(); {
	case !s.directory.Ready():
		r.add("directory", "being read", false)
	case lost > 0: // whom it has is served, here as in any other process
		r.add("directory", strconv.Itoa(lost)+" entries cannot be read", true)
	default:
		r.add("directory", "read", true)
	}
	r.add("listeners", [...]string{"waiting for the parts", "serving", "stopping"}[phase], phase == phaseServing)
	return r
}

// sayNotary says whether the notary signs. Its alarm is for people: the service does not wait for it, unless it is a notary
// and nothing else.
func (s *status) sayNotary(r *report) {
	if s.notary == nil {
		return
	}
	state := "signing"
	alarms := s.notary.Alarms()
	if len(alarms) > 0 {
		state = "stopped: the book is not what was signed: " + alarms[0].Error()
	}
	r.add("notary", state, len(alarms) == 0 || s.follower != nil)
}

// role is what the writer of a partition does, and whether commands are done meanwhile: by it, or by another process's.
func (s *status) role(partition int) (state string, ok bool) {
	role := s.writers[partition].Role()
	ok = role == engine.Writing || role == engine.StandingBy && !s.alone
	return [...]string{engine.Starting: "reading the book", engine.StandingBy: "standing by", engine.Writing: "writing", engine.Failing: "cannot write"}[role], ok
}

// alive is about what only a new process mends. A part that ended takes the process with it, so what is left to see
// here is a view that cannot go on.
func (s *status) alive() report {
	r := report{OK: true, Parts: map[string]part{}}
	if s.follower == nil {
		r.add("process", "running", true)
		return r
	}
	for _, lag := range s.follower.Lags() {
		state := "following"
		if lag.Stuck {
			state = "stuck at page " + strconv.FormatUint(lag.Position, 10)
		}
		r.add("view of partition "+strconv.Itoa(lag.Partition), state, !lag.Stuck)
	}
	return r
}

func (r *report) add(name, state string, ok bool) {
	r.Parts[name] = part{state, ok}
	r.OK = r.OK && ok
}

// ServeHTTP writes the report: 200 when all is well, else 503.
func (r report) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.OK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // an error means that the asker has gone
}

// newOperations serves health, readiness and metrics.
func newOperations(s *status, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.alive().ServeHTTP(w, r) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { s.ready().ServeHTTP(w, r) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

// register puts what the parts count into the registry.
func (h *house) register() {
	h.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollbook_ready",
			Help: "1 when the service is ready, as /readyz says."}, func() float64 {
			if h.status.ready().OK {
				return 1
			}
			return 0
		}),
	)
	if !h.roles.venues {
		return
	}
	h.registry.MustRegister(h.traffic.collectors()...)
	for _, d := range h.doors {
		h.registry.MustRegister(d.handler.Metrics())
	}
	h.registry.MustRegister(
		h.follower, h.asked,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollbook_known_sessions",
			Help: "Live sessions in this process's view of the book."}, func() float64 { return float64(h.sessions.Len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollbook_directory_users",
			Help: "Users in this process's view of the directory."}, func() float64 {
			users, _ := h.directory.Counts()
			return float64(users)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "rollbook_directory_unreadable",
			Help: "Records and names in the directory that cannot be read: their users' logins fail until they are mended."}, func() float64 {
			_, unreadable := h.directory.Counts()
			return float64(unreadable + h.directory.Lost())
		}),
	)
}
