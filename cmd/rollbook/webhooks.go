package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"rollbook/bus"
	"rollbook/projections/webhooks"
)

type webhooksCommand struct {
	serveSettings `embed:""`
}

// Help is shown by webhooks --help.
func (webhooksCommand) Help() string {
	return `Posts the events of the book that is on --bus to the endpoints of --webhooks; of all such processes one serves an endpoint
and partition, and the others stand by. rollbook serve does it in its own process. docs/webhooks.md says what a receiver gets.

It takes the settings of rollbook serve, so that one file serves all roles. Operations listens on --port-base.`
}

// Run delivers until a signal comes or a part fails.
func (c *webhooksCommand) Run(ctx context.Context, app *cli) error {
	if c.Webhooks == "" {
		return refuse("usage", "--webhooks is missing: name the file with the endpoints")
	}
	return c.serveSettings.run(ctx, onlyWebhooks, app.Log.logger(os.Stderr, slog.LevelInfo))
}

// openWebhooks makes the couriers; they start nothing.
func (h *house) openWebhooks(ctx context.Context) error {
	endpoints, err := readEndpoints(h.set.Webhooks)
	if err != nil {
		return err
	}
	kv, err := h.bus.Webhooks(ctx)
	if errors.Is(err, bus.ErrNotCreated) {
		return refuse("not_created", "the bus has no bucket %s: the book was created by an older program; have the owner add it with: %s",
			bus.BucketWebhooks, h.set.upgradeWith())
	}
	if err != nil {
		return err
	}
	cfg := webhooks.Config{Store: kv, Endpoints: endpoints, Agent: "rollbook/" + thisBuild().Version, Log: h.log}
	for p := range bus.Partition(h.layout.Partitions) {
		cfg.Books = append(cfg.Books, h.bus.Book(p))
	}
	if h.couriers, err = webhooks.New(cfg); err != nil {
		return refuse("bad_webhooks", "%s: %w", h.set.Webhooks, err)
	}
	h.registry.MustRegister(h.couriers)
	return nil
}
