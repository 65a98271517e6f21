package main

import (
	"context"
	"encoding/csv"
	"os"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/history"
)

type auditAt struct {
	auditScope `embed:""`
	forms      `embed:""`
	Time       string `arg:"" help:"The moment: 2026-01-31T14:32:05.250Z, 2026-01-31 14:32:05.250, 14:32:05.250, now, or how long ago, such as 2h."`
	User       string `help:"Only this user, by login name or user id. This does not read the whole book." placeholder:"NAME"`
	Venue      string `help:"Only those who came by this venue." placeholder:"VENUE"`
}

// Help is shown by --help.
func (auditAt) Help() string {
	return `A session counts from the instant of its login, and no more from its deadline on, also where the event that says so
came later: by the book's clock, to the nanosecond.`
}

// presentLine is a session that was live at the moment.
type presentLine struct {
	User    session.UserID `json:"user"`
	Name    string         `json:"name,omitempty"` // none: the directory has forgotten the user, or may not be read
	Session string         `json:"session"`
	Door    string         `json:"door"` // the venue
	Client  string         `json:"client,omitempty"`
	Origin  *shownOrigin   `json:"origin,omitempty"` // where from, when the book has it and it opens here
	Since   time.Time      `json:"since"`
	Until   time.Time      `json:"until"`            // when it was over; while it is not, its deadline as it stands
	Reason  string         `json:"reason,omitempty"` // why it was over; none: it is not
	Start   string         `json:"position"`         // of the event that began it
}

// Run shows who was there.
func (c *auditAt) Run(ctx context.Context, app *cli) error {
	moment, err := readMoment("the moment", c.Time, time.Now())
	if err != nil {
		return err
	}
	if moment == 0 {
		return refuse("usage", "say which moment")
	}
	venue, err := venueOf(c.Venue)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return err
	}
	return c.ask(ctx, app, func(a *archive, b *watchedBar) error {
		user, err := a.user(ctx, c.User)
		if err != nil {
			return err
		}
		present, err := a.reader.At(ctx, moment, user)
		if err != nil {
			return err
		}
		var lines []presentLine
		for _, p := range present {
			if venue == session.NoVenue || p.Venue == venue {
				lines = append(lines, a.present(ctx, p))
			}
		}
		b.erase()
		return c.print(a, lines)
	})
}

func (a *archive) present(ctx context.Context, p history.Presence) presentLine {
	l := presentLine{User: p.User, Name: a.name(ctx, p.User), Session: p.ID.String(), Door: p.Venue.String(), Client: p.Client,
		Since: p.Started.Time(), Until: p.Until.Time(), Start: p.Position.String()}
	l.Origin = a.origin(p.User, p.Start)
	if !p.Open {
		l.Reason = p.Reason.String()
	}
	return l
}

// from is the origin, empty when there is none.
func (l presentLine) from() shownOrigin {
	if l.Origin == nil {
		return shownOrigin{}
	}
	return *l.Origin
}

func (c *auditAt) print(a *archive, lines []presentLine) error {
	switch {
	case c.JSON:
		return printJSONLines(os.Stdout, lines)
	case c.CSV:
		w := csv.NewWriter(os.Stdout)
		_ = w.Write([]string{"user", "name", "session", "door", "client", "address", "agent", "since", "until", "reason", "position"})
		for _, l := range lines {
			from := l.from()
			_ = w.Write(harmless(string(l.User), l.Name, l.Session, l.Door, l.Client, from.Address, from.Agent, l.Since.Format(time.RFC3339Nano),
				l.Until.Format(time.RFC3339Nano), l.Reason, l.Start))
		}
		w.Flush()
		return w.Error() // of any of the writes
	}
	t := table{header: []string{"USER", "DOOR", "CLIENT", "FROM WHERE", "SINCE", "UNTIL", "", "SESSION"}, none: "nobody was logged in"}
	for _, l := range lines {
		name, ended := l.Name, l.Reason
		if name == "" {
			name = string(l.User)
		}
		if ended == "" {
			ended = "not over"
		}
		t.row(name, l.Door, l.Client, l.from().Address, precise(l.Since), precise(l.Until), ended, l.Session)
	}
	return t.print(os.Stdout)
}

// precise is a time as an auditor reads it: with milliseconds, in this machine's zone.
func precise(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05.000") }
