package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"rollbook/engine/session"
	"rollbook/projections/history"
)

type auditReplay struct {
	auditScope `embed:""`
	stretch    `embed:""`
	forms      `embed:""`
	outfile    `embed:""`
	User       string   `help:"Only this user's, by login name or user id. This does not read the whole book." placeholder:"NAME"`
	Session    string   `help:"Only this session's, by its id. With --user it is found without reading the whole book." placeholder:"ID"`
	Venue      string   `help:"Only this venue's." placeholder:"VENUE"`
	Type       []string `help:"Only events of these types, such as SessionStarted; several separated by commas." placeholder:"TYPE"`
	HTML       string   `help:"Write a report with a picture into this file: one page, which needs no network." name:"html" placeholder:"FILE" type:"path"`
}

// Help is shown by --help.
func (auditReplay) Help() string {
	return `The events come in the order of the book's clock. Times are shown in this machine's zone.

    rollbook audit replay --user ann --from 2d
    rollbook audit replay --venue zenith --type LoginRejected --from today --csv
    rollbook audit replay --from "2026-01-31 18:00" --to "2026-01-31 19:00" --html report.html`
}

// Run replays.
func (c *auditReplay) Run(ctx context.Context, app *cli) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	return c.ask(ctx, app, func(a *archive, b *watchedBar) error {
		who, err := a.whom(ctx, c.User)
		if err != nil {
			return err
		}
		q.User = who.user
		if c.HTML != "" {
			return c.report(ctx, a, q, who)
		}
		out := bufio.NewWriterSize(b.over(os.Stdout), 1<<16)
		write := c.writer(ctx, a, out)
		n := 0
		err = a.reader.Walk(ctx, q, func(e history.Entry) error {
			n++
			return write(e)
		})
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
		if b.erase(); n == 0 {
			return a.empty(ctx, who, q.Session, "no events: the book has none of what was asked for")
		}
		return a.notYet(ctx, who, q.To)
	})
}

// query reads the conditions, all but the user's name.
func (c *auditReplay) query(now time.Time) (q history.Query, err error) {
	if q.From, q.To, err = c.read(now); err != nil {
		return q, err
	}
	if q.Venue, err = venueOf(c.Venue); err != nil {
		return q, err
	}
	if c.Session != "" {
		if q.Session, err = session.ParseSessionID(c.Session); err != nil || q.Session == (session.SessionID{}) {
			return q, refuse("usage", "%q is no session id", c.Session)
		}
	}
	known := session.EventTypes()
	for _, name := range c.Type {
		t := session.EventType(name)
		if !slices.Contains(known, t) {
			return q, refuse("usage", "no event is called %q (one of %s)", name, joinTypes(known))
		}
		q.Types = append(q.Types, t)
	}
	if c.HTML != "" && (c.JSON || c.CSV) {
		return q, refuse("usage", "--html, --json and --csv exclude each other")
	}
	if c.HTML != "" {
		if err := c.outfile.mayWrite(c.HTML); err != nil {
			return q, err
		}
	}
	return q, c.check()
}

func joinTypes(types []session.EventType) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// replayLine is an event on a line of JSON.
type replayLine struct {
	Position string          `json:"position"`
	At       time.Time       `json:"at"`
	Type     string          `json:"type"`
	User     session.UserID  `json:"user,omitempty"`
	Name     string          `json:"name,omitempty"`    // none: the directory has forgotten the user, or may not be read
	Session  string          `json:"session,omitempty"` // that it is of
	Venue    string          `json:"venue,omitempty"`   // its own, or its session's
	Client   string          `json:"client,omitempty"`  // its own, or its session's
	Ended    []string        `json:"ended,omitempty"`   // the sessions that a SessionsRevoked ended
	Origin   *shownOrigin    `json:"origin,omitempty"`  // where the client was, when that opens here
	Event    session.Details `json:"event"`             // every field by name
}

func (a *archive) line(ctx context.Context, e history.Entry) replayLine {
	l := replayLine{Position: e.Position.String(), At: e.Event.When().Time(), Type: string(e.Event.Type()), User: e.User(),
		Name: a.name(ctx, e.User()), Venue: e.Venue.String(), Client: e.Client,
		Origin: a.origin(e.User(), e.Event), Event: session.Describe(e.Event)}
	if e.Session != (session.SessionID{}) {
		l.Session = e.Session.String()
	}
	for _, s := range e.Ended {
		l.Ended = append(l.Ended, s.ID.String())
	}
	return l
}

// writer writes entries in the form that was chosen.
func (c *auditReplay) writer(ctx context.Context, a *archive, out io.Writer) func(history.Entry) error {
	switch {
	case c.JSON:
		return func(e history.Entry) error { return printJSON(out, a.line(ctx, e)) }
	case c.CSV:
		t := newCSV(out, "position", "at", "type", "user", "name", "session", "venue", "client", "detail")
		return func(e history.Entry) error {
			l := a.line(ctx, e)
			t.row(l.Position, l.At.Format(time.RFC3339Nano), l.Type, string(l.User), l.Name, l.Session, l.Venue, l.Client, a.detail(e))
			return t.end()
		}
	}
	t := replayTable{out: out, wide: 1 << 16, times: "2006-01-02 15:04:05.000"}
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		t.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		if width, _, err := term.GetSize(fd); err == nil && width > 0 {
			t.wide, t.screen = width, true
		}
	}
	return func(e history.Entry) error { return t.print(e, a.shownUser(ctx, e.User()), a.detail(e)) }
}

// replayTable prints events in columns that are fixed, since the events come one by one.
type replayTable struct {
	out     io.Writer
	wide    int  // of the screen
	screen  bool // lines are cut to it
	colours bool
	times   string
	begun   bool
}

// print prints one event. A narrow screen has no session and no venue, and then no date.
func (t *replayTable) print(e history.Entry, user, what string) error {
	short := e.Session.String()
	if e.Session == (session.SessionID{}) {
		short = ""
	}
	if t.screen && len(short) > 8 {
		short = short[:8]
	}
	if !t.begun {
		t.begun = true
		if err := t.row("", "TIME", "EVENT", "USER", "VENUE", "SESSION", "WHAT"); err != nil {
			return err
		}
	}
	return t.row(colourOf(e.Event), e.Event.When().Time().Local().Format(t.times), string(e.Event.Type()), user, e.Venue.String(), short, what)
}

func (t *replayTable) row(colour, at, kind, user, venue, id, what string) error {
	idWidth := 36
	if t.screen {
		idWidth = 8
	}
	line := fit(at, 23) + "  " + fit(kind, 17) + "  " + fit(user, 16) + "  "
	if t.wide >= 100 {
		line += fit(venue, 15) + "  " + fit(id, idWidth) + "  "
	}
	if t.wide < 72 && len(at) > 11 { // the date goes, the hour stays
		line = fit(at[11:], 12) + "  " + fit(kind, 17) + "  " + fit(user, 12) + "  "
	}
	line = strings.TrimRight(line+printable(what), " ")
	if t.screen && utf8.RuneCountInString(line) > t.wide {
		line = string([]rune(line)[:t.wide-1]) + "…"
	}
	if t.colours && colour != "" {
		line = "\x1b[" + colour + "m" + line + "\x1b[0m"
	}
	_, err := fmt.Fprintln(t.out, line)
	return err
}

// fit is a cell of the width, cut where it is longer.
func fit(cell string, width int) string {
	cell = printable(cell)
	n := utf8.RuneCountInString(cell)
	if n > width {
		return string([]rune(cell)[:width-1]) + "…"
	}
	return cell + strings.Repeat(" ", width-n)
}

// colourOf is green for who comes in, yellow and red for who must not, and grey for who leaves.
func colourOf(e session.Event) string {
	switch e := e.(type) {
	case *session.SessionStarted:
		return "32"
	case *session.LoginRejected:
		return "33"
	case *session.UserLocked, *session.UserDisabled, *session.SessionsRevoked:
		return "31"
	case *session.SessionEnded:
		if e.Reason == session.Reused || e.Reason == session.Revoked {
			return "31"
		}
		return "90"
	}
	return ""
}

// report writes the HTML page: names, addresses and habits, for its owner alone to read.
func (c *auditReplay) report(ctx context.Context, a *archive, q history.Query, who subject) error {
	r := history.NewReport(c.title(), time.Now())
	err := a.reader.Walk(ctx, q, func(e history.Entry) error {
		r.Add(e, a.shownUser(ctx, e.User()), a.detail(e))
		return nil
	})
	if err == nil && r.Events() == 0 {
		err = a.empty(ctx, who, q.Session, "no events: the report says no more than that")
	}
	if err != nil {
		return err
	}
	if err := c.outfile.fill(c.HTML, r.Write); err != nil {
		return err
	}
	if err := nothing("%d events of %d sessions in %s", r.Events(), r.Sessions(), c.HTML); err != nil || r.Events() == 0 {
		return err
	}
	return a.notYet(ctx, who, q.To)
}

// title says what was asked for.
func (c *auditReplay) title() string {
	var parts []string
	for _, p := range [][2]string{{"user", c.User}, {"session", c.Session}, {"venue", c.Venue}, {"types", strings.Join(c.Type, ", ")},
		{"from", c.From}, {"to", c.To}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if parts == nil {
		return "everything"
	}
	return strings.Join(parts, ", ")
}
