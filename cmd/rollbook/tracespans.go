package main

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine"
	"rollbook/engine/session"
	"rollbook/projections"
)

// Where the headers of a message are between the bus, which reads nothing into them, and the library.
const (
	fieldParent = "traceparent"
	fieldState  = "tracestate"
)

// travels is what goes with a message out of a span: nothing, unless the span is recorded.
func (t *tracing) travels(ctx context.Context) bus.TraceContext {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return bus.TraceContext{}
	}
	carrier := propagation.MapCarrier{}
	t.format.Inject(ctx, carrier)
	return bus.TraceContext{Parent: carrier[fieldParent], State: carrier[fieldState]}
}

// arrived is the span that a message came out of; invalid for none, or when what it says makes no sense.
func (t *tracing) arrived(c bus.TraceContext) trace.SpanContext {
	carrier := propagation.MapCarrier{fieldParent: c.Parent, fieldState: c.State}
	return trace.SpanContextFromContext(t.format.Extract(context.Background(), carrier))
}

// gateTraces is [adapters.Tracer].
type gateTraces struct{ *tracing }

// gate is what a gate is given: nil when nothing is traced.
func (t *tracing) gate() adapters.Tracer {
	if t == nil {
		return nil
	}
	return gateTraces{t}
}

// Command implements [adapters.Tracer].
func (t gateTraces) Command(ctx context.Context, verb session.Verb, p bus.Partition) (context.Context, bus.TraceContext, func(adapters.Outcome)) {
	ctx, span := t.tracer.Start(ctx, spanName(operationSubmit, string(verb)), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(sendAttributes(verb, p)...))
	return ctx, t.travels(ctx), func(outcome adapters.Outcome) {
		span.SetAttributes(attributeOutcome.String(string(outcome)))
		if outcome == adapters.OutcomeUnknown {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Await implements [adapters.Tracer].
func (t gateTraces) Await(ctx context.Context, at bus.Position) func(error) {
	_, span := t.tracer.Start(ctx, nameAwait, trace.WithAttributes(attributePage.Int64(int64(at.Page))))
	return func(err error) { finish(span, err) }
}

// writerTraces is [engine.Tracer].
type writerTraces struct{ *tracing }

// writer is what writers are given: nil when nothing is traced.
func (t *tracing) writer() engine.Tracer {
	if t == nil {
		return nil
	}
	return writerTraces{t}
}

// Page implements [engine.Tracer]. The page's span is a child of the first traced command in it, so that a command that
// has a page to itself has it in its trace, and what applies the page too. Each further command gets a span of its own
// for the same time; the page's span and that are linked, since one span cannot be in two traces.
func (t writerTraces) Page(p bus.Partition, began time.Time, commands []bus.Received) (bus.TraceContext, func(uint64, int, error)) {
	var sources []trace.SpanContext
	for _, c := range commands {
		if c.Trace == (bus.TraceContext{}) {
			continue
		}
		if from := t.arrived(c.Trace); from.IsSampled() {
			sources = append(sources, from)
		}
	}
	if len(sources) == 0 {
		return bus.TraceContext{}, func(uint64, int, error) {}
	}
	var links []trace.Link
	for _, from := range sources[1:] {
		links = append(links, trace.Link{SpanContext: from})
	}
	begin := func(from trace.SpanContext, links ...trace.Link) (context.Context, trace.Span) {
		return t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), from), spanName(operationDecide, bus.StreamCommands),
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began), trace.WithLinks(links...),
			trace.WithAttributes(decideAttributes(p, len(commands))...))
	}
	ctx, page := begin(sources[0], links...)
	spans := []trace.Span{page}
	for _, from := range sources[1:] {
		_, span := begin(from, trace.Link{SpanContext: page.SpanContext()})
		spans = append(spans, span)
	}
	return t.travels(ctx), func(at uint64, events int, err error) {
		for _, span := range spans {
			if err == nil {
				span.SetAttributes(attributePage.Int64(int64(at)), attributeEvents.Int(events))
			}
			finish(span, err)
		}
	}
}

// viewTraces is [projections.Tracer].
type viewTraces struct{ *tracing }

// view is what a follower is given: nil when nothing is traced.
func (t *tracing) view() projections.Tracer {
	if t == nil {
		return nil
	}
	return viewTraces{t}
}

// Apply implements [projections.Tracer].
func (t viewTraces) Apply(at bus.Position, of bus.TraceContext) func(error) {
	from := t.arrived(of)
	if !from.IsSampled() {
		return func(error) {}
	}
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), from), spanName(operationApply, bus.BookStream(at.Partition)),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(applyAttributes(at)...))
	return func(err error) { finish(span, err) }
}

// finish ends a span. Of an error it says that there was one, and the log why.
func finish(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
