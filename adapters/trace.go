package adapters

import (
	"context"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// Tracer notes in a request's trace what the gate does for it. Its methods are safe for concurrent use.
type Tracer interface {
	// Command begins the span of a command. What travels with the command, so that the writer's span finds it, is empty for
	// one that is not traced. end is called once, with what the command came to.
	Command(ctx context.Context, verb session.Verb, p bus.Partition) (within context.Context, travels bus.TraceContext, end func(Outcome))
	// Await begins the span of the wait until this pod has seen a page.
	Await(ctx context.Context, at bus.Position) (end func(error))
}

// ask is submitTo, and says where the outcome stands in the book; zero: nowhere.
func (g *Gate) ask(ctx context.Context, p bus.Partition, cmd session.Command) (session.Reply, bus.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	verb, began := cmd.Verb(), time.Now()
	var travels bus.TraceContext
	var end func(Outcome)
	if g.cfg.Trace != nil {
		ctx, travels, end = g.cfg.Trace.Command(ctx, verb, p)
	}
	reply, at, err := g.exchange(ctx, p, cmd, travels)
	outcome := OutcomeUnknown
	if err == nil {
		outcome = Outcome(reply.Refusal.String())
	}
	if end != nil {
		end(outcome)
	}
	g.cfg.Metrics.asked(verb, outcome, time.Since(began))
	return reply, at, err
}

// await returns when this pod's view includes the position.
func (g *Gate) await(ctx context.Context, at bus.Position) error {
	if g.cfg.Trace == nil {
		return g.cfg.Follower.Await(ctx, at)
	}
	end := g.cfg.Trace.Await(ctx, at)
	err := g.cfg.Follower.Await(ctx, at)
	end(err)
	return err
}
