// Package repliestest reads what a venue's handler has counted.
//
// [Ask] and [Talk] call the handler, over HTTP and over a socket; [Counts] gathers rollbook_replies_total as the program's
// registry would; [Same] compares it, and [Bounded] holds its labels to a venue's few words, after a test has sent whatever
// it could make up.
package repliestest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// Ask calls the handler itself, so that any path and any method can be asked for, with a body of JSON.
func Ask(h http.Handler, method, path, body string) {
	r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
	r.Method, r.URL = method, &url.URL{Path: path}
	r.Header.Set("Content-Type", "application/json")
	h.ServeHTTP(httptest.NewRecorder(), r)
}

// Talk opens a socket, sends one frame after the other, and awaits the reply to each: there must be one, and no more.
func Talk(t testing.TB, h http.Handler, path, subprotocol string, frames ...string) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	var options websocket.DialOptions
	if subprotocol != "" {
		options.Subprotocols = []string{subprotocol}
	}
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+path, &options)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, frame := range frames {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Counts gives the counters by "call outcome". It fails the test when there is another metric, venue or label.
func Counts(t testing.TB, venue string, replies prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(replies)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			label := map[string]string{}
			for _, pair := range metric.GetLabel() {
				label[pair.GetName()] = pair.GetValue()
			}
			if family.GetName() != "rollbook_replies_total" || label["venue"] != venue || len(label) != 3 {
				t.Errorf("unexpected: %s %v", family.GetName(), label)
			}
			counts[label["call"]+" "+label["outcome"]] = metric.GetCounter().GetValue()
		}
	}
	return counts
}

// Same fails the test unless exactly this was counted.
func Same(t testing.TB, got, want map[string]float64) {
	t.Helper()
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is counted %v times, not %v", name, got[name], n)
		}
	}
	for name, n := range got {
		if _, known := want[name]; !known {
			t.Errorf("counted too: %s, %v times", name, n)
		}
	}
}

// Bounded fails the test unless every class and every outcome that was counted is one of these, and anything was.
func Bounded(t testing.TB, got map[string]float64, calls, outcomes []string) {
	t.Helper()
	if len(got) == 0 {
		t.Error("nothing was counted")
	}
	for name := range got {
		call, outcome, _ := strings.Cut(name, " ")
		if !slices.Contains(calls, call) || !slices.Contains(outcomes, outcome) {
			t.Errorf("the labels %q and %q are none of the venue's", call, outcome)
		}
	}
}
