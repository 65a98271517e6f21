package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	neturl "net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// traceSettings say where traces go.
type traceSettings struct {
	Endpoint string  `help:"Where the spans of requests go: OTLP over HTTP, such as http://collector:4318; OTEL_EXPORTER_OTLP_ENDPOINT says the same. Headers, certificates and time-outs are those of the variables OTEL_EXPORTER_OTLP_*. Empty: nothing is traced." placeholder:"URL" default:"" env:"ROLLBOOK_TRACE_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT"`
	Ratio    float64 `help:"Which part of the requests is traced, 0 to 1; of those whose caller says of them that they are, the same part, and of those that it says are not, none. 0: none." placeholder:"PART" default:"1" env:"ROLLBOOK_TRACE_RATIO"`
}

// check refuses what cannot be meant.
func (s traceSettings) check() error {
	if s.Ratio < 0 || s.Ratio > 1 || s.Ratio != s.Ratio {
		return refuse("usage", "--trace-ratio %g: use 0 to 1", s.Ratio)
	}
	if s.Endpoint == "" {
		return nil
	}
	at, err := neturl.Parse(s.Endpoint)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return refuse("usage", "--trace-endpoint is no URL such as http://collector:4318")
	}
	if at.User != nil || at.RawQuery != "" {
		return refuse("usage", "--trace-endpoint holds what may be a secret: give it in OTEL_EXPORTER_OTLP_HEADERS")
	}
	return nil
}

// How long spans wait for more, and how long the last ones may take to be delivered when the service stops.
const (
	traceBatch = 2 * time.Second
	traceFlush = 3 * time.Second
)

// tracing makes the spans of this process. A nil one makes none. Off costs nothing: there is nobody to call.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	format   propagation.TraceContext // W3C Trace Context; there is no baggage, which a client could fill
	ratio    float64
}

// openTracing begins to deliver spans in the background; nil when there is nowhere to. A collector that is away costs
// spans and nothing else.
func openTracing(ctx context.Context, s traceSettings, log *slog.Logger) (*tracing, error) {
	if s.Endpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(s.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("open the way for traces: %w", err)
	}
	return newTracing(s.Ratio, &toldExporter{SpanExporter: exporter, log: log})
}

func newTracing(ratio float64, exporter sdktrace.SpanExporter) (*tracing, error) {
	// The environment's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before ours.
	who, err := resource.New(context.Background(), resource.WithAttributes(semconv.ServiceName("rollbook"),
		semconv.ServiceVersion(thisBuild().Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("open the way for traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(traceBatch)),
		sdktrace.WithResource(who),
		// What comes by the bus was decided at the request: see [tracing.caller].
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))),
	)
	return &tracing{provider: provider, tracer: provider.Tracer(traceScope), ratio: ratio}, nil
}

// close delivers the last spans.
func (t *tracing) close(log *slog.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceFlush)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		log.Warn("the last spans were not delivered", "err", err)
	}
}

// requests has a span around each request of a venue. A socket has none: it lives for hours, and each of its commands
// begins a trace.
func (t *tracing) requests(venue string, class func(path string) string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r)
			return
		}
		method, route := requestMethod(r.Method), class(r.URL.Path)
		ctx, span := t.tracer.Start(t.caller(r), requestName(method, venue, route), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(requestAttributes(method, venue, route)...))
		answer := &answerStatus{ResponseWriter: w}
		defer func() {
			code := answer.status()
			span.SetAttributes(statusAttribute(code))
			if code >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(answer, r.WithContext(ctx))
	})
}

// caller is the request's context with what its caller says of the trace. It is believed that the request is of a
// trace; whether that is recorded is ours to say, since anybody may call: were the caller's word enough, one client
// could have every request of its own recorded, at any ratio.
func (t *tracing) caller(r *http.Request) context.Context {
	ctx := t.format.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	said := trace.SpanContextFromContext(ctx)
	if said.IsSampled() && rand.Float64() >= t.ratio {
		ctx = trace.ContextWithRemoteSpanContext(ctx, said.WithTraceFlags(said.TraceFlags().WithSampled(false)))
	}
	return ctx
}

// toldExporter says once that spans cannot be delivered, and once that they can again.
type toldExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements [sdktrace.SpanExporter]. Spans that are not delivered are lost.
func (e *toldExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if failed := err != nil; e.failing.Swap(failed) != failed {
		if failed {
			e.log.Warn("spans cannot be delivered and are lost", "err", err)
		} else {
			e.log.Info("spans are delivered again")
		}
	}
	return nil // it has been said; the library would say it once more, its own way
}
