package main

import (
	"context"
	"log/slog"
	"os"
)

type engineCommand struct {
	serveSettings `embed:""`
}

// Help is shown by `engine --help`.
func (engineCommand) Help() string {
	return `A writer for each partition of the book on --bus. Of all processes that run writers there, one writes a partition
and the others stand by; they share the partitions out evenly. When one stops, others go on at once; when one is killed,
after a quarter of a second without a word from it.

It takes the settings of rollbook serve, so that one file serves all roles, and uses of the venues' only what shapes
decisions: lock-out, and the limits of sessions and tokens. They must be the same for all. Operations listens on
--port-base.`
}

// Run writes and stands by until a signal comes or a part fails.
func (c *engineCommand) Run(ctx context.Context, app *cli) error {
	return c.serveSettings.run(ctx, onlyWriters, app.Log.logger(os.Stderr, slog.LevelInfo))
}

type adaptersCommand struct {
	serveSettings `embed:""`
}

// Help is shown by `adapters --help`.
func (adaptersCommand) Help() string {
	return `The venues that --venues names, on the book that is on --bus; any number of such processes. The writers are
elsewhere: rollbook engine, or rollbook serve --bus. It takes the settings of rollbook serve.`
}

// Run serves the venues until a signal comes or a part fails.
func (c *adaptersCommand) Run(ctx context.Context, app *cli) error {
	log := app.Log.logger(os.Stderr, slog.LevelInfo)
	c.warnInTheClear(log)
	return c.serveSettings.run(ctx, onlyAdapters, log)
}

// run is a process with some of the roles, on a bus elsewhere.
func (s *serveSettings) run(ctx context.Context, r roles, log *slog.Logger) error {
	if err := s.check(r); err != nil {
		return err
	}
	h, err := buildHouse(ctx, s, r, "", log)
	if err != nil || h == nil {
		return err
	}
	defer h.close()
	return h.run(ctx, nil, h.announce)
}

// warnInTheClear says when clients' secrets leave this machine without TLS.
func (s *serveSettings) warnInTheClear(log *slog.Logger) {
	if !loopback(s.Host) && !s.TLS.on() {
		log.Warn("passwords and tokens travel in the clear: let other machines in only with --tls-cert, or through a proxy with TLS", "host", s.Host)
	}
}
