package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"rollbook/bus"
)

// upgradeWith is the command that adds the streams that an older program did not make.
func (p place) upgradeWith() string {
	if p.Bus == "" {
		return "rollbook serve, once, on the directory"
	}
	return fmt.Sprintf("rollbook init --upgrade --bus %s --creds owner.nk", p.shown())
}

// upgradedLine says what was added.
type upgradedLine struct {
	Bus        string   `json:"bus"`
	Partitions int      `json:"partitions"`
	Replicas   int      `json:"replicas"`
	Added      []string `json:"added"`
}

// upgrade adds the streams that the book lacks.
func (c *initCommand) upgrade(ctx context.Context, app *cli) error {
	b, err := c.connect(ctx, "rollbook init", app.operatorLog())
	if err != nil {
		return err
	}
	layout, added, err := c.addMissing(ctx, b)
	err = errors.Join(err, b.Close())
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, upgradedLine{c.shown(), layout.Partitions, layout.Replicas, append([]string{}, added...)})
	}
	list := table{header: []string{"STREAM", "WAS"}}
	for _, name := range layout.Streams() {
		if name == bus.StreamCommands {
			continue // it comes with the writers
		}
		was := "there"
		if slices.Contains(added, name) {
			was = "added"
		}
		list.row(name, was)
	}
	if err := list.print(os.Stdout); err != nil {
		return err
	}
	text := "nothing was missing"
	if len(added) > 0 {
		text = fmt.Sprintf("added to the book: %d", len(added))
	}
	_, err = fmt.Println(text)
	return err
}

// addMissing looks at the book as the doctor does, without making COMMANDS: the next writer does that.
func (c *initCommand) addMissing(ctx context.Context, b *bus.Bus) (bus.Layout, []string, error) {
	layout, err := b.Inspect(ctx)
	if err != nil && !errors.Is(err, bus.ErrNoCommands) {
		return layout, nil, c.noBook(err)
	}
	if err := c.agrees(layout); err != nil {
		return layout, nil, err
	}
	added, err := b.AddMissing(ctx)
	if slices.Contains(added, bus.StreamFeed) {
		err = errors.Join(err, b.SetFeedRetention(ctx, c.retention()))
	}
	return layout, added, err
}

// tellWhatIsMissing says at the start of a process which streams that it uses are not there. It does without them, and
// takes them up when they come; on an embedded bus opening the book has made them.
func (h *house) tellWhatIsMissing(ctx context.Context) {
	var uses []string
	switch {
	case h.roles.writers: // these, and what they may ask about: all
	case h.roles.venues:
		uses = []string{"KV_" + bus.BucketKeys, bus.StreamCheckpoints}
	case h.roles.notary:
		uses = []string{bus.StreamCheckpoints}
	case h.roles.hooks:
		uses = []string{"KV_" + bus.BucketWebhooks}
	}
	missing, err := h.bus.Missing(ctx, uses...)
	if err != nil {
		h.log.Debug("whether the book lacks a stream is not known", "err", err)
		return
	}
	if len(missing) > 0 {
		h.log.Warn("the book is of an older program and lacks streams: what they are for is done without until the owner adds them",
			"missing", missing, "with", h.set.upgradeWith())
	}
}
