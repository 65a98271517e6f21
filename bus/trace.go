package bus

import (
	"context"

	"github.com/nats-io/nats.go"
)

// The headers by which a message says what trace it belongs to (W3C Trace
// Context). The bus carries what they hold, and reads nothing into it.
const (
	headerTraceParent = "traceparent"
	headerTraceState  = "tracestate"
)

// What such a header may hold, in bytes; with more, the message goes without it.
// The first has one length in the only version there is; the second is what every
// party should pass on (W3C Trace Context, 3.3.1.5).
const (
	maxTraceParent = 55
	maxTraceState  = 512
)

// TraceContext says what span of what trace something was done in. The zero
// value says nothing, and costs nothing on the way.
type TraceContext struct {
	Parent string // as in the header traceparent, at most 55 bytes
	State  string // as in the header tracestate, at most 512 bytes; a book holds none
}

// header is the context as a message carries it; nil for none.
func (t TraceContext) header() nats.Header {
	if t.Parent == "" || len(t.Parent) > maxTraceParent {
		return nil
	}
	h := nats.Header{headerTraceParent: {t.Parent}}
	if t.State != "" && len(t.State) <= maxTraceState {
		h[headerTraceState] = []string{t.State}
	}
	return h
}

// traceOf is what a message says of the trace it belongs to. Whoever makes
// something of it checks it: a sender may write there what it likes.
func traceOf(m *nats.Msg) TraceContext {
	if len(m.Header) == 0 {
		return TraceContext{}
	}
	t := TraceContext{Parent: headerOf(m, headerTraceParent), State: headerOf(m, headerTraceState)}
	if len(t.Parent) > maxTraceParent || len(t.State) > maxTraceState {
		return TraceContext{}
	}
	return t
}

// traceKey is where a context holds the TraceContext of what is appended.
type traceKey struct{}

// WithTrace has an append of this context say what trace its page belongs to. Of
// the trace's state nothing is kept: a client can write into that, and the book is
// for ever.
func WithTrace(ctx context.Context, t TraceContext) context.Context {
	return context.WithValue(ctx, traceKey{}, TraceContext{Parent: t.Parent})
}

// traceIn is what WithTrace put there.
func traceIn(ctx context.Context) TraceContext {
	t, _ := ctx.Value(traceKey{}).(TraceContext)
	return t
}
