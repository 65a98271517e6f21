package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"rollbook/bus"
)

type initCommand struct {
	place          `embed:""`
	layoutSettings `embed:""`
	feedSettings   `embed:"" prefix:"feed-"`
	Upgrade        bool `help:"Add the streams that the book of an older program lacks, and change nothing else."`
	JSON           bool `help:"Print one JSON object." name:"json"`
}

// Help is shown by `init --help`.
func (initCommand) Help() string {
	return `Creates the streams of a new book on --bus, whose shape is fixed from then on: --partitions and --replicas have
to be named. It changes nothing where there is a book, and says what that is. Repeated after it was cut short, it completes
what it began.

With --upgrade it adds the streams beside the book that are not there, as --feed-max-age and --feed-max-bytes say, and leaves
what is there as it is. What runs finds them by itself. A stream that was lost comes back empty that way: where the book was not
made by an older program, find out first what became of it.

A book in a data directory needs no init: rollbook serve creates it, and adds what it lacks.`
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
	case c.Upgrade:
		return c.upgrade(ctx, app)
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
		there := fmt.Sprintf("there is a book on %s already, of %d partitions and %d replicas", url, found.Partitions, found.Replicas)
		if missing, err := b.Missing(ctx); err == nil && len(missing) > 0 {
			return refuse("exists", "%s, without %s: nothing was changed; add them with: rollbook init --upgrade", there, strings.Join(missing, ", "))
		}
		return refuse("exists", "%s: nothing was changed", there)
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
