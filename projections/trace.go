package projections

import (
	"time"

	"rollbook/bus"
)

// Tracer notes in a trace that a page of it has reached a view. It is safe for concurrent use.
type Tracer interface {
	// Apply begins the span of a page that is applied; end is called when every model has it, or with why not.
	Apply(at bus.Position, trace bus.TraceContext) (end func(error))
}

// traceFor is how old a page may be, by the clocks of both, that is noted in its trace: a view that begins reads what
// happened long ago, and nobody waits for that.
const traceFor = time.Minute

// apply is [Follower.fold], noted in the page's trace.
func (f *Follower) apply(p *part, stored bus.StoredPage) error {
	if f.cfg.Trace == nil || stored.Trace == (bus.TraceContext{}) || f.cfg.Now().Sub(stored.Stored) > traceFor {
		return f.fold(p, stored)
	}
	end := f.cfg.Trace.Apply(bus.Position{Partition: p.book.Partition(), Page: stored.Seq}, stored.Trace)
	err := f.fold(p, stored)
	end(err)
	return err
}
