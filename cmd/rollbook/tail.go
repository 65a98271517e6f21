package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"rollbook/engine/session"
	"rollbook/projections/directory"
	"rollbook/projections/feed/subscribe"
)

type tailCommand struct {
	place  `embed:""`
	User   string   `help:"Only this user's events, by login name or user id." placeholder:"NAME"`
	Venue  string   `help:"Only events that name this venue." placeholder:"VENUE"`
	Type   []string `help:"Only events of this type, such as SessionStarted; several with commas. docs/events.md lists them." placeholder:"TYPE"`
	Since  string   `help:"Begin with what happened at a time (2026-11-22T14:32:05Z, \"2026-11-22 14:32:05\" or 14:32:05 here), so long ago (90s, 2h), or behind a position (0/17.3). Empty: with --follow now, else the oldest event that the feed has." placeholder:"WHEN"`
	Follow bool     `help:"Wait for more. In a data directory, for an instance too: nothing is opened that rollbook serve would need." short:"f"`
	JSON   bool     `help:"Print one JSON object a line, with every field by name." name:"json"`
}

// Help is shown by "tail --help".
func (tailCommand) Help() string {
	return `Prints the feed: every event of the book, in order, each once. The service publishes it while it runs; what operator's
commands did while it was stopped, and what rollbook restore brought, follows at its next start. Works with an operator's
credential, and with a consumer's.

Without --follow it opens a data directory that nothing runs on, and says if the book has events that the feed has not.
With --follow it waits there for rollbook serve, without the directory's lock, and goes on with the next instance when one
stops: no event is missing then, and none comes twice.`
}

// Run prints events.
func (c *tailCommand) Run(ctx context.Context, app *cli) error {
	filter, from, err := c.parse(time.Now())
	if err != nil {
		return err
	}
	printing := func(e subscribe.Event) error { return printEvent(os.Stdout, e) }
	if c.JSON {
		printing = func(e subscribe.Event) error { return printEventJSON(os.Stdout, e) }
	}
	if c.Follow && c.Bus == "" {
		err = c.followDir(ctx, app, filter, from, printing)
	} else {
		err = c.read(ctx, app, filter, from, printing)
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return nil // it is how one ends it
	case errors.Is(err, subscribe.ErrGap):
		return refuse("gap", "%w", err)
	case errors.Is(err, subscribe.ErrNoFeed):
		return refuse("no_feed", "%w: have the owner add it with: %s", err, c.upgradeWith())
	}
	return err
}

// followDir prints what is published in a data directory, whatever runs there.
func (c *tailCommand) followDir(ctx context.Context, app *cli, filter subscribe.Filter, from subscribe.Start, printing func(subscribe.Event) error) error {
	if err := c.expectBook(); err != nil {
		return err
	}
	dir, err := c.dir()
	if err != nil {
		return err
	}
	t := &dirTail{place: c.place, dir: dir, filter: filter, from: from, print: printing, log: app.operatorLog()}
	if c.User != "" {
		t.user = c.user
	}
	return t.run(ctx)
}

// read prints the feed of one bus: to its end, or for ever. Of a directory that nothing runs on it says what the feed lacks.
func (c *tailCommand) read(ctx context.Context, app *cli, filter subscribe.Filter, from subscribe.Start, printing func(subscribe.Event) error) error {
	d, err := c.reach(ctx, app)
	if err != nil {
		return err
	}
	defer d.close()
	if c.User != "" {
		if filter.User, err = c.user(ctx, d); err != nil {
			return err
		}
	}
	sub := subscribe.New(subscribe.Config{Conn: d.bus.Conn(), Filter: filter, From: from, Log: d.log})
	if c.Follow {
		return sub.Run(ctx, printing)
	}
	if err := sub.ReadAll(ctx, printing); err != nil || d.own == nil {
		return err
	}
	lags, err := feedLags(ctx, d.bus, d.layout.Partitions)
	if err != nil || len(lags) == 0 {
		return err
	}
	d.log.Warn("the feed is behind the book: rollbook serve fills it, as far back as it keeps events; rollbook audit replay reads the book itself",
		"published", some(lagTexts(lags)))
	return nil
}

// parse reads what is wanted, but for the user.
func (c *tailCommand) parse(now time.Time) (filter subscribe.Filter, from subscribe.Start, err error) {
	if filter.Venue, err = venueOf(c.Venue); err != nil {
		return filter, from, err
	}
	known := session.EventTypes()
	for _, t := range c.Type {
		if !slices.Contains(known, session.EventType(t)) {
			return filter, from, refuse("usage", "--type %q is none: the types are %v", t, known)
		}
		filter.Types = append(filter.Types, session.EventType(t))
	}
	switch {
	case c.Since != "":
		from, err = since(c.Since, now)
	case !c.Follow:
		from = subscribe.Beginning()
	}
	return filter, from, err
}

// since reads a position, or a moment.
func since(text string, now time.Time) (subscribe.Start, error) {
	if p, err := subscribe.ParsePosition(text); err == nil {
		return subscribe.Behind(p), nil
	}
	at, err := readMoment("--since", text, now)
	if err == nil && at == 0 {
		err = refuse("usage", "--since is empty")
	}
	return subscribe.Since(at.Time()), err
}

// reach opens the bus. On one elsewhere no more is asked of it than a consumer may have.
func (c *tailCommand) reach(ctx context.Context, app *cli) (*desk, error) {
	if c.Bus == "" {
		return c.open(ctx, app.operatorLog())
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := c.connect(ctx, "rollbook tail", app.operatorLog())
	if err != nil {
		return nil, err
	}
	return &desk{bus: b, log: app.operatorLog()}, nil
}

// user finds the user. A consumer may not read the directory, and names users by their ids; so does who asks for one who
// has been erased.
func (c *tailCommand) user(ctx context.Context, d *desk) (session.UserID, error) {
	id, err := d.userID(ctx, c.User)
	var no *refused
	if err != nil && (!errors.As(err, &no) || errors.Is(err, directory.ErrErased)) && session.UserID(c.User).Valid() {
		return session.UserID(c.User), nil
	}
	return id, err
}

// printEventJSON prints position, sequence and type, and then every field.
func printEventJSON(to io.Writer, e subscribe.Event) error {
	fields, err := json.Marshal(session.Describe(e.Event))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, `{"position":%q,"sequence":%d,"type":%q,%s`+"\n", e.Position, e.Sequence, e.Type, bytes.TrimPrefix(escaped(fields), []byte("{")))
	return err
}

// The colours of a terminal; where there is none, there are none.
var (
	dim     = lipgloss.NewStyle().Faint(true)
	begins  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	goesOn  = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	ends    = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	refuses = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

// colour is an event's, by what it means to its user.
func colour(t session.EventType) lipgloss.Style {
	switch t {
	case "SessionStarted", "UserRegistered", "UserEnabled", "UserUnlocked":
		return begins
	case "SessionEnded", "SessionsRevoked":
		return ends
	case "LoginRejected", "UserLocked", "UserDisabled":
		return refuses
	}
	return goesOn
}

// printEvent prints one line: when, what, whose, and the fields that are set, but for hashes and sealed bytes, which say
// nothing to a reader.
func printEvent(to io.Writer, e subscribe.Event) error {
	var b strings.Builder
	b.WriteString(dim.Render(e.Time.Local().Format("2006-01-02 15:04:05.000")) + "  ")
	b.WriteString(colour(e.Type).Render(fmt.Sprintf("%-17s", e.Type)) + "  ")
	who := string(e.User)
	if who == "" {
		who = "-"
	}
	b.WriteString(printable(who) + "  " + dim.Render(e.Position.String()))
	for _, field := range session.Describe(e.Event)[2:] {
		switch field.Value.(type) {
		case session.TokenHash, []session.TokenHash, []byte:
			continue
		}
		text := printable(field.Text())
		if at, ok := field.Value.(session.Instant); ok && text != "" && at != session.Forever {
			text = at.Time().Local().Format("2006-01-02T15:04:05")
		}
		if text != "" && text != "false" {
			b.WriteString("  " + dim.Render(field.Name+"=") + text)
		}
	}
	_, err := lipgloss.Fprintln(to, b.String())
	return err
}
