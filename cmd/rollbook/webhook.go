package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/webhooks"
)

type webhookCommands struct {
	List   webhookList   `cmd:"" help:"Show how far each endpoint has come."`
	Parked webhookParked `cmd:"" help:"List the events that were given up."`
	Retry  webhookRetry  `cmd:"" help:"Have parked events tried again."`
	Replay webhookReplay `cmd:"" help:"Have an endpoint get the book again from a position on."`
	Forget webhookForget `cmd:"" help:"Forget an endpoint that is no more."`
	Secret webhookSecret `cmd:"" help:"Make a secret for an endpoint."`
}

type webhookList struct {
	place `embed:""`
	JSON  bool `help:"Print one JSON object a line." name:"json"`
}

// webhookLine is an endpoint's standing in a partition.
type webhookLine struct {
	Endpoint  string    `json:"endpoint"`
	Partition int       `json:"partition"`
	Page      uint64    `json:"page"`
	End       uint64    `json:"end"` // of the book
	Parked    int       `json:"parked"`
	Saved     time.Time `json:"saved"`
	Delivers  bool      `json:"delivers"` // some process has its lease, and has renewed it in time
}

// Run lists the endpoints.
func (c *webhookList) Run(ctx context.Context, app *cli) error {
	return c.atWebhooks(ctx, app, func(d *desk, kv jetstream.KeyValue) error {
		standings, _, err := webhooks.Look(ctx, kv)
		if err != nil {
			return err
		}
		served, err := d.webhooksServed(ctx)
		if err != nil {
			return err
		}
		var lines []webhookLine
		t := table{header: []string{"ENDPOINT", "PARTITION", "PAGE", "OF", "PARKED", "SAVED", "SERVED"}, none: "no endpoint has begun"}
		for _, s := range standings {
			end, err := d.bus.Book(s.Partition).End(ctx)
			if err != nil {
				return err
			}
			l := webhookLine{s.Endpoint, int(s.Partition), s.Page, end, s.Parked, s.Saved, served(s)}
			lines = append(lines, l)
			t.row(l.Endpoint, fmt.Sprint(l.Partition), fmt.Sprint(l.Page), fmt.Sprint(l.End), fmt.Sprint(l.Parked), moment(&l.Saved), yesNo(l.Delivers))
		}
		if c.JSON {
			return printJSONLines(os.Stdout, lines)
		}
		return t.print(os.Stdout)
	})
}

// webhooksServed tells which endpoints some process delivers to now: none where nothing runs.
func (d *desk) webhooksServed(ctx context.Context) (func(webhooks.Standing) bool, error) {
	ahead, _, err := d.bus.Skew(ctx) // leases are dated by the bus
	now := time.Now().Add(ahead)
	return func(s webhooks.Standing) bool { return d.own == nil && s.Served(now) }, err
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

type webhookParked struct {
	place    `embed:""`
	Endpoint string `arg:"" optional:"" help:"Only this endpoint's."`
	JSON     bool   `help:"Print one JSON object a line." name:"json"`
}

// parkedLine is a parked event.
type parkedLine struct {
	Endpoint string            `json:"endpoint"`
	Position string            `json:"position"`
	Type     session.EventType `json:"type"`
	User     session.UserID    `json:"user,omitempty"`
	Attempts int               `json:"attempts"`
	Error    string            `json:"error"`
	Since    time.Time         `json:"since"`
	Again    bool              `json:"again"`
}

// Run lists what is parked.
func (c *webhookParked) Run(ctx context.Context, app *cli) error {
	return c.atWebhooks(ctx, app, func(_ *desk, kv jetstream.KeyValue) error {
		standings, parked, err := webhooks.Look(ctx, kv)
		if err != nil {
			return err
		}
		var lines []parkedLine
		t := table{header: []string{"ENDPOINT", "POSITION", "TYPE", "ATTEMPTS", "SINCE", "ERROR"}, none: "nothing is parked"}
		for _, p := range parked {
			if c.Endpoint != "" && p.Endpoint != c.Endpoint {
				continue
			}
			lines = append(lines, parkedLine{p.Endpoint, p.At.String(), p.Type, p.User, p.Attempts, p.Error, p.Since, p.Again})
			t.row(p.Endpoint, p.At.String(), string(p.Type), fmt.Sprint(p.Attempts), moment(&p.Since), p.Error)
		}
		if c.Endpoint != "" && lines == nil && !webhooks.Begun(standings, c.Endpoint) {
			return unknownWebhook(fmt.Errorf("%w: no endpoint %q has begun", webhooks.ErrUnknown, c.Endpoint))
		}
		if c.JSON {
			return printJSONLines(os.Stdout, lines)
		}
		return t.print(os.Stdout)
	})
}

type webhookRetry struct {
	place    `embed:""`
	Endpoint string `arg:"" help:"The endpoint's name."`
	Position string `arg:"" optional:"" help:"The position of one parked event, such as 0/17.3. None given: all of the endpoint's."`
}

// Run has parked events tried again. Whoever serves the endpoint finds out by itself.
func (c *webhookRetry) Run(ctx context.Context, app *cli) error {
	var at *bus.Position
	if c.Position != "" {
		position, err := bus.ParsePosition(c.Position)
		if err != nil {
			return refuse("usage", "%w", err)
		}
		at = &position
	}
	return c.atWebhooks(ctx, app, func(_ *desk, kv jetstream.KeyValue) error {
		n, err := webhooks.Retry(ctx, kv, c.Endpoint, at)
		if err != nil {
			return unknownWebhook(err)
		}
		_, err = fmt.Printf("%d to be tried again\n", n)
		return err
	})
}

type webhookReplay struct {
	place    `embed:""`
	Endpoint string `arg:"" help:"The endpoint's name."`
	From     string `required:"" help:"Where to go on, a page and all after it in the page's partition: a position such as 0/17.0. A later one than the endpoint's own has it miss what is between." placeholder:"POSITION"`
}

// Run sets an endpoint's position.
func (c *webhookReplay) Run(ctx context.Context, app *cli) error {
	at, err := bus.ParsePosition(c.From)
	if err != nil {
		return refuse("usage", "%w", err)
	}
	return c.atWebhooks(ctx, app, func(d *desk, kv jetstream.KeyValue) error {
		if int(at.Partition) >= d.layout.Partitions {
			return refuse("usage", "the book has %d partitions, from 0 on", d.layout.Partitions)
		}
		end, err := d.bus.Book(at.Partition).End(ctx)
		if err != nil {
			return err
		}
		if at.Page > end+1 {
			return refuse("usage", "partition %s ends at page %d", at.Partition, end)
		}
		if err := webhooks.Replay(ctx, kv, c.Endpoint, at.Partition, at.Page); err != nil {
			return unknownWebhook(err)
		}
		_, err = fmt.Printf("%s goes on with page %d of partition %s\n", printable(c.Endpoint), max(at.Page, 1), at.Partition)
		return err
	})
}

type webhookForget struct {
	place    `embed:""`
	Endpoint string `arg:"" help:"The endpoint's name."`
}

// Help is shown by forget --help.
func (webhookForget) Help() string {
	return `What is kept of an endpoint is how far it has come and what was parked. Take the endpoint out of the file of --webhooks
first, and restart what serves it: one that is served is not forgotten. If one of that name is added later, it
begins like a new one.`
}

// Run forgets an endpoint.
func (c *webhookForget) Run(ctx context.Context, app *cli) error {
	return c.atWebhooks(ctx, app, func(d *desk, kv jetstream.KeyValue) error {
		served, err := d.webhooksServed(ctx)
		if err != nil {
			return err
		}
		parked, err := webhooks.Forget(ctx, kv, c.Endpoint, served)
		switch {
		case errors.Is(err, webhooks.ErrServed):
			return refuse("served", "%w: take it out of the file of --webhooks and restart that process, or wait for its lease", err)
		case err != nil:
			return unknownWebhook(err)
		}
		_, err = fmt.Printf("%s is forgotten, with %d parked\n", printable(c.Endpoint), parked)
		return err
	})
}

type webhookSecret struct{}

// Run prints a new secret, for a file that nobody else may read, and for the receiver.
func (c *webhookSecret) Run() error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // it does not fail
	_, err := fmt.Println("whsec_" + base64.StdEncoding.EncodeToString(key[:]))
	return err
}

func unknownWebhook(err error) error {
	if errors.Is(err, webhooks.ErrUnknown) {
		return refuse("unknown_webhook", "%w", err)
	}
	return err
}

// atWebhooks does a command's work with the webhooks' bucket open.
func (p place) atWebhooks(ctx context.Context, app *cli, do func(*desk, jetstream.KeyValue) error) error {
	d, err := p.open(ctx, app.operatorLog())
	if err != nil {
		return err
	}
	defer d.close()
	kv, err := d.bus.Webhooks(ctx)
	if errors.Is(err, bus.ErrNotCreated) {
		return refuse("not_created", "%w: have the owner add the bucket with: %s", err, p.upgradeWith())
	}
	if err != nil {
		return err
	}
	return do(d, kv)
}
