package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine/session"
)

// exported is a tracing whose spans are kept, each as soon as it ends.
func exported(t testing.TB, ratio float64) (*tracing, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	traces, err := newTracing(ratio, spans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { traces.close(slog.New(slog.DiscardHandler)) })
	return traces, spans
}

// flushed are the spans that have ended.
func flushed(t *testing.T, traces *tracing, spans *tracetest.InMemoryExporter) tracetest.SpanStubs {
	t.Helper()
	if err := traces.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return spans.GetSpans()
}

// TestWhoIsTraced: the ratio decides, also of what a caller says is recorded; what it says is not, is not.
func TestWhoIsTraced(t *testing.T) {
	const said = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
	for _, c := range []struct {
		ratio  float64
		header string
		traced bool
	}{
		{1, "", true}, {0, "", false}, {1, said + "1", true}, {1, said + "0", false}, {0, said + "1", false}, {1, "no such header", true},
	} {
		traces, spans := exported(t, c.ratio)
		travelled := bus.TraceContext{}
		handler := traces.requests("genesis", func(string) string { return "login" }, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var end func(adapters.Outcome)
			_, travelled, end = traces.gate().Command(r.Context(), session.VerbLogin, 0)
			end(adapters.OutcomeUnknown)
		}))
		request := httptest.NewRequest("POST", "/event-login-auth", nil)
		request.Header.Set("Traceparent", c.header)
		handler.ServeHTTP(httptest.NewRecorder(), request)
		if n := len(flushed(t, traces, spans)); (n == 2) != c.traced || (n == 0) == c.traced || (travelled != bus.TraceContext{}) != c.traced {
			t.Errorf("ratio %g, caller says %q: %d spans, %+v travels", c.ratio, c.header, n, travelled)
		}
	}
	socket := httptest.NewRequest("GET", "/", nil)
	socket.Header.Set("Upgrade", "websocket")
	traces, spans := exported(t, 1)
	traces.requests("zenith", zenithRoute, http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), socket)
	if got := flushed(t, traces, spans); len(got) != 0 {
		t.Errorf("a socket has spans: %v", got)
	}
}

// TestPageOfManyCommands: each traced command finds the page in its own trace, and the page is in that of one of them.
func TestPageOfManyCommands(t *testing.T) {
	traces, spans := exported(t, 1)
	var commands []bus.Received
	var sent []trace.SpanContext
	for range 3 {
		ctx, travels, end := traces.gate().Command(context.Background(), session.VerbLogin, 2)
		commands = append(commands, bus.Received{Trace: travels}, bus.Received{}, bus.Received{Trace: bus.TraceContext{Parent: "nonsense"}})
		sent = append(sent, trace.SpanContextFromContext(ctx))
		end("accepted")
	}
	travels, end := traces.writer().Page(2, time.Now(), commands)
	end(7, 3, nil)
	traces.view().Apply(bus.Position{Partition: 2, Page: 7}, travels)(errors.New("the page is damaged"))

	decided := map[trace.SpanID]tracetest.SpanStub{} // by the command's span
	var applied tracetest.SpanStub
	for _, s := range flushed(t, traces, spans) {
		switch s.Name {
		case "decide COMMANDS":
			decided[s.Parent.SpanID()] = s
		case "apply BOOK_2":
			applied = s
		}
	}
	for i, from := range sent {
		s, found := decided[from.SpanID()]
		if !found || s.SpanContext.TraceID() != from.TraceID() {
			t.Errorf("command %d does not find the page in its trace", i)
		}
		links := 1 // to the page's span
		if i == 0 {
			links = 2 // from it
		}
		if len(s.Links) != links {
			t.Errorf("the span of command %d has %d links", i, len(s.Links))
		}
	}
	if len(decided) != 3 || applied.Parent.SpanID() != decided[sent[0].SpanID()].SpanContext.SpanID() {
		t.Errorf("%d spans of the writer; what applies the page is in %s", len(decided), applied.Parent.SpanID())
	}
	if untraced, end := traces.writer().Page(2, time.Now(), commands[1:3]); untraced != (bus.TraceContext{}) {
		t.Errorf("a page without a trace has %+v", untraced)
	} else {
		end(8, 0, nil)
	}
}

// TestNothingIsTraced: without an endpoint there is nothing to call, and so nothing that costs.
func TestNothingIsTraced(t *testing.T) {
	traces, err := openTracing(t.Context(), traceSettings{Ratio: 1}, slog.New(slog.DiscardHandler))
	if err != nil || traces != nil || traces.gate() != nil || traces.writer() != nil || traces.view() != nil {
		t.Fatalf("something is traced: %v, %v", traces, err)
	}
	traces.close(nil)
	off, on := testing.AllocsPerRun(200, asking(t, nil)), testing.AllocsPerRun(200, asking(t, mustGate(t, 1)))
	if off >= on {
		t.Errorf("%g allocations a command without traces, %g with", off, on)
	}
	for endpoint, fits := range map[string]bool{"": true, "http://collector:4318": true, "https://collector/otlp": true,
		"collector:4318": false, "ftp://collector": false, "http://user:secret@collector": false, "http://collector?key=secret": false} {
		if err := (traceSettings{Endpoint: endpoint, Ratio: 1}).check(); (err == nil) != fits {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	for _, ratio := range []float64{-1, 1.5} {
		if (traceSettings{Ratio: ratio}).check() == nil {
			t.Errorf("a ratio of %g is taken", ratio)
		}
	}
}

// failing is an exporter that cannot deliver as long as it is set.
type failing struct {
	sdktrace.SpanExporter
	err error
}

func (f *failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return f.err }

// TestSpansThatAreLost: it is said once, and once more when it is over.
func TestSpansThatAreLost(t *testing.T) {
	said := &levels{}
	exporter := &failing{SpanExporter: tracetest.NewNoopExporter()}
	e := &toldExporter{SpanExporter: exporter, log: slog.New(said)}
	for _, err := range []error{nil, errors.New("away"), errors.New("away"), nil, nil} {
		exporter.err = err
		if err := e.ExportSpans(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprint(said.seen); got != "[WARN INFO]" {
		t.Errorf("said %s", got)
	}
}

// levels keeps the levels of what is logged.
type levels struct {
	slog.Handler
	seen []slog.Level
}

func (*levels) Enabled(context.Context, slog.Level) bool { return true }
func (h *levels) Handle(_ context.Context, r slog.Record) error {
	h.seen = append(h.seen, r.Level)
	return nil
}

// atOnce answers each command at once, without a place in the book.
type atOnce struct{ body []byte }

func (s atOnce) Submit(context.Context, bus.Command) (bus.Reply, error) {
	return bus.Reply{Body: s.body}, nil
}

func mustGate(t testing.TB, ratio float64) adapters.Tracer {
	traces, _ := exported(t, ratio)
	return traces.gate()
}

// asking is one command at a gate, with all that the writer and the bus would take left out.
func asking(t testing.TB, tracer adapters.Tracer) func() {
	gate := adapters.NewGate(adapters.Config{Submit: atOnce{session.EncodeReply(session.Reply{})}, Partitions: 1, Trace: tracer,
		Policies: session.DefaultPolicies(), Log: slog.New(slog.DiscardHandler)})
	return func() {
		if _, refused, err := gate.Lifetimes(context.Background(), session.TraderEvolution, session.Lifetimes{}); err != nil || refused.No() {
			t.Fatal(refused, err)
		}
	}
}

// BenchmarkTracedCommand is what traces cost the gate for each command: off, on and not sampled, sampled.
func BenchmarkTracedCommand(b *testing.B) {
	for name, tracer := range map[string]adapters.Tracer{"off": nil, "ratio=0": mustGate(b, 0), "ratio=1": mustGate(b, 1)} {
		b.Run(name, func(b *testing.B) {
			ask := asking(b, tracer)
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}
