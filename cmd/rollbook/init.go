package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rollbook/bus"
)

type initCommand struct {
	place          `embed:""`
	layoutSettings `embed:""`
	feedSettings   `embed:"" prefix:"feed-"`
	JSON           bool `help:"Print one JSON object." name:"json"`
}

// Help is shown by `init --help`.
func (initCommand) Help() string {
	return `Creates the streams of a new book on --bus, whose shape is fixed from then on: --partitions and --replicas have
to be named. It changes nothing where there is a book. Repeated after it was cut short, it completes what it began.

A book in a data directory needs no init: rollbook serve creates it.`
}

// madeLine says what was created.
type madeLine struct {
	Bus        string   `json:"bus"`
	Partitions int      `json:"partitions"`
	Replicas   int      `json:"replicas"`
	Streams    []string `json:"streams"`
}

// Run creates the book.
func (c *initCommand) Run(ctx context.Context, app *cli) error {
	if err := c.place.check(); err != nil {
		return err
	}
	if err := c.layoutSettings.check(); err != nil {
		return err
	}
	if err := c.feedSettings.check(); err != nil {
		return err
	}
	switch {
	case c.Bus == "":
		return refuse("usage", "--bus is missing: a book in a data directory is created by rollbook serve")
	case c.Partitions == 0:
		return refuse("usage", "--partitions is missing: say how many partitions the book has for ever, 1 to %d", bus.MaxPartitions)
	case c.Replicas == 0:
		return refuse("usage", "--replicas is missing: say how many servers keep each stream, 3 in a cluster")
	}
	b, err := c.connect(ctx, "rollbook init", app.operatorLog())
	if err != nil {
		return err
	}
	layout := bus.Layout{Partitions: c.Partitions, Replicas: c.Replicas}
	if err = create(ctx, b, layout, c.shown()); err == nil {
		err = b.SetFeedRetention(ctx, c.retention())
	}
	err = errors.Join(err, b.Close())
	if err != nil {
		return err
	}
	made := madeLine{c.shown(), layout.Partitions, layout.Replicas, layout.Streams()}
	if c.JSON {
		return printJSON(os.Stdout, made)
	}
	list := table{header: []string{"STREAM", "REPLICAS"}}
	for _, name := range made.Streams {
		list.row(name, fmt.Sprint(made.Replicas))
	}
	if err := list.print(os.Stdout); err != nil {
		return err
	}
	_, err = fmt.Printf("created a book of %d partitions\n", made.Partitions)
	return err
}

// create makes the streams, unless there is a book, or the beginning of another.
func create(ctx context.Context, b *bus.Bus, layout bus.Layout, url string) error {
	found, err := b.Open(ctx)
	switch {
	case err == nil:
		return refuse("exists", "there is a book on %s already, of %d partitions and %d replicas: nothing was changed", url, found.Partitions, found.Replicas)
	case errors.Is(err, bus.ErrUnfinished) && found != layout:
		return refuse("unfinished", "somebody began to create a book of %d partitions and %d replicas on %s: complete that one", found.Partitions, found.Replicas, url)
	case !errors.Is(err, bus.ErrUnfinished) && !errors.Is(err, bus.ErrNotCreated):
		return err
	}
	if err = b.Create(ctx, layout); errors.Is(err, bus.ErrExists) { // by somebody else, at this moment
		return refuse("exists", "%w", err)
	}
	return err
}
