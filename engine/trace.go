package engine

import (
	"context"
	"time"

	"rollbook/bus"
)

// Tracer notes the writers' pages in the traces of the commands that led to them. It is safe for concurrent use.
type Tracer interface {
	// Page begins, as of some moments ago, the span of a page that is made of commands, one of which at least is traced.
	// What travels with the page, so that whoever applies it finds the span, is empty when none is recorded. end is called
	// when the outcome is known, with the book's last page and how many events it has; when nobody is told of an outcome,
	// it is not.
	Page(p bus.Partition, began time.Time, commands []bus.Received) (travels bus.TraceContext, end func(page uint64, events int, err error))
}

// untraced notes nothing.
func untraced(uint64, int, error) {}

// trace begins the span of the page at hand, when a command in it is traced; else it costs a look at each command.
func (w *Writer) trace(ctx context.Context, began time.Time, commands []bus.Received) (context.Context, func(uint64, int, error)) {
	if w.cfg.Trace == nil {
		return ctx, untraced
	}
	for i := range commands {
		if commands[i].Trace != (bus.TraceContext{}) {
			travels, end := w.cfg.Trace.Page(w.cfg.Partition, began, commands)
			if travels != (bus.TraceContext{}) {
				ctx = bus.WithTrace(ctx, travels)
			}
			return ctx, end
		}
	}
	return ctx, untraced
}
