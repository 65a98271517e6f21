package adapters_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"rollbook/adapters"
	"rollbook/adapters/repliestest"
	"rollbook/engine/session"
)

// The counters of all venues stand in one registry under one name.
func TestReplies(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, venue := range []session.Venue{session.Genesis, session.TraderEvolution, session.AdvAuth, session.Zenith, session.Nebula} {
		replies := adapters.NewReplies(venue)
		replies.Count("login", adapters.OutcomeGood)
		replies.Count("login", adapters.OutcomeGood)
		replies.Count("login", adapters.OutcomeUnavailable)
		repliestest.Same(t, repliestest.Counts(t, venue.String(), replies), map[string]float64{"login ok": 2, "login UNAVAILABLE": 1})
		if err := registry.Register(replies); err != nil {
			t.Errorf("%s: %v", venue, err)
		}
	}
	if families, err := registry.Gather(); err != nil || len(families) != 1 || len(families[0].GetMetric()) != 10 {
		t.Errorf("%v, %v", families, err)
	}
}

// An outage is logged once, not once a call. A login that is turned away is none.
func TestOutageIsLoggedSeldom(t *testing.T) {
	var out bytes.Buffer
	o := adapters.NewOutage(slog.New(slog.NewTextHandler(&out, nil)))
	o.Often = rate.Sometimes{First: 1}
	if !o.Note("a login", fmt.Errorf("wrapped: %w", adapters.ErrBusy)) || out.Len() != 0 {
		t.Errorf("too many logins are an outage: %s", &out)
	}
	for range 100 {
		if o.Note("a login", errors.Join(adapters.ErrUnavailable)) {
			t.Error("an outage is taken for too many logins")
		}
	}
	if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.Contains(out.String(), `msg="calls cannot be answered" call="a login"`) {
		t.Errorf("%d lines: %s", lines, &out)
	}
}
