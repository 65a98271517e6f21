package main

import (
	"context"
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
came later: by the book's clock, to the nanosecond. What the book says goes up to its last page: for a moment after that the
answer is what was written until then, and says so. A moment that has not come is refused.`
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
	Ends    time.Time      `json:"book_ends"`        // the time of the book's last page: what came later is not in the answer
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
		who, err := a.whom(ctx, c.User)
		if err != nil {
			return err
		}
		reach, err := a.reader.Reach(ctx, who.user)
		if err != nil {
			return err
		}
		if moment > reach.Last && moment > session.At(time.Now()) {
			return refuse("usage", "the moment %s has not come yet", precise(moment.Time()))
		}
		present, err := a.reader.At(ctx, moment, who.user)
		if err != nil {
			return err
		}
		var lines []presentLine
		for _, p := range present {
			if venue == session.NoVenue || p.Venue == venue {
				lines = append(lines, a.present(ctx, p, reach))
			}
		}
		b.erase()
		return c.answer(ctx, a, who, moment, reach, lines)
	})
}

// answer prints who was there, and then, beside it, what the book cannot know of the moment.
func (c *auditAt) answer(ctx context.Context, a *archive, who subject, moment session.Instant, reach history.Reach, lines []presentLine) error {
	var err error
	if len(lines) == 0 {
		err = a.empty(ctx, who, session.SessionID{}, "nobody was logged in")
	}
	if err == nil {
		err = c.print(lines)
	}
	switch {
	case err != nil || len(lines) == 0:
		return err
	case moment > reach.Last:
		return nothing("the book's last page is of %s: this is what was written until then", precise(reach.Last.Time()))
	}
	return nil
}

func (a *archive) present(ctx context.Context, p history.Presence, reach history.Reach) presentLine {
	l := presentLine{User: p.User, Name: a.name(ctx, p.User), Session: p.ID.String(), Door: p.Venue.String(), Client: p.Client,
		Since: p.Started.Time(), Until: p.Until.Time(), Start: p.Position.String(), Ends: reach.Last.Time()}
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

func (c *auditAt) print(lines []presentLine) error {
	switch {
	case c.JSON:
		return printJSONLines(os.Stdout, lines)
	case c.CSV:
		t := newCSV(os.Stdout, "user", "name", "session", "door", "client", "address", "agent", "since", "until", "reason", "position")
		for _, l := range lines {
			from := l.from()
			t.row(string(l.User), l.Name, l.Session, l.Door, l.Client, from.Address, from.Agent, l.Since.Format(time.RFC3339Nano),
				l.Until.Format(time.RFC3339Nano), l.Reason, l.Start)
		}
		return t.end()
	case len(lines) == 0:
		return nil
	}
	t := table{header: []string{"USER", "DOOR", "CLIENT", "FROM WHERE", "SINCE", "UNTIL", "", "SESSION"}}
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
