package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// The demo's user, and password: those of the venue's own samples. Everybody can read them, which is why a demo listens
// on this machine alone.
const (
	demoName     = "JaneDee"
	demoPassword = "beONneON*74"
)

//go:embed demo_resources.json
var demoResources []byte

// furnishDemo puts the demo's user and resources into the book, unless they are there, and returns when this process
// knows them.
func (h *house) furnishDemo(ctx context.Context) error {
	// A desk on the house's own connections, which the house closes.
	d := &desk{bus: h.bus, layout: h.layout, log: h.log, submit: h.submit}
	store, err := d.store(ctx, directory.PasswordPolicy{MinLength: 8})
	if err != nil {
		return err
	}
	if _, err = store.Find(ctx, demoName); errors.Is(err, directory.ErrNotFound) {
		_, err = addUser(ctx, d, store, directory.Record{Names: []string{demoName}, First: "Jane", Last: "Dee"}, demoPassword)
	}
	if err != nil {
		return fmt.Errorf("make the demo's user: %w", err)
	}
	wanted, err := parseResources(demoResources, false)
	if err != nil {
		return fmt.Errorf("read the demo's resources: %w", err)
	}
	if err := applyResources(ctx, d, wanted, func(session.ResourceName, string) error { return nil }); err != nil {
		return fmt.Errorf("make the demo's resources: %w", err)
	}
	for known := false; !known; _, known = h.directory.Find(demoName) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	if err := h.furnishDemoKeys(ctx, d); err != nil {
		return fmt.Errorf("make the demo's API keys: %w", err)
	}
	return h.follower.Barrier(ctx)
}

// showDemo prints what to try.
func (h *house) showDemo(kept bool) error {
	_, err := os.Stdout.WriteString(h.demoScreen(kept))
	return err
}
