package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/directory"
)

type sessionCommands struct {
	List   sessionList   `cmd:"" help:"List the live sessions."`
	Show   sessionShow   `cmd:"" help:"Show one live session."`
	Revoke sessionRevoke `cmd:"" help:"End sessions."`
}

type sessionList struct {
	place `embed:""`
	User  string `help:"Only this user's, by login name or user id." placeholder:"NAME"`
	Venue string `help:"Only this venue's." placeholder:"VENUE"`
	JSON  bool   `help:"Print one JSON object a line." name:"json"`
}

// sessionLine is a session in a list. It has no token, and no hash of one.
type sessionLine struct {
	Session      session.SessionID `json:"-"`
	ID           string            `json:"session"`
	Handle       string            `json:"shown_as"` // the id that the venue shows now
	User         session.UserID    `json:"user"`
	Name         string            `json:"name"` // empty: the directory has forgotten the user
	Venue        string            `json:"venue"`
	Client       string            `json:"client,omitempty"`
	Bound        bool              `json:"bound"`
	Generation   uint32            `json:"generation"`
	Started      time.Time         `json:"started"`
	LastActive   time.Time         `json:"last_active"`
	Ends         time.Time         `json:"ends"`                   // unless it is used
	AccessEnds   time.Time         `json:"access_ends"`            // unless it is used or refreshed
	RefreshEnds  *time.Time        `json:"refresh_ends,omitempty"` // none: it cannot be refreshed
	FailedLogins uint32            `json:"failed_logins"`
	Scopes       []string          `json:"scopes,omitempty"`
	Origin       *shownOrigin      `json:"logged_in_from,omitempty"` // of `session show` alone; none: it does not open
}

// Run lists the sessions.
func (c *sessionList) Run(ctx context.Context, app *cli) error {
	venue, err := venueOf(c.Venue)
	if err != nil {
		return err
	}
	return c.at(ctx, app, func(d *desk) error {
		var user session.UserID
		if c.User != "" {
			if user, err = d.userID(ctx, c.User); err != nil {
				return err
			}
		}
		lines, err := d.sessions(ctx)
		if err != nil {
			return err
		}
		var wanted []sessionLine
		for _, l := range lines {
			if (user == "" || l.User == user) && (venue == session.NoVenue || l.Venue == venue.String()) {
				wanted = append(wanted, l)
			}
		}
		if c.JSON {
			return printJSONLines(os.Stdout, wanted)
		}
		return printSessions(os.Stdout, wanted, time.Now())
	})
}

// userID finds a user that the directory knows.
func (d *desk) userID(ctx context.Context, name string) (session.UserID, error) {
	store, err := d.store(ctx, directory.PasswordPolicy{})
	if err != nil {
		return "", err
	}
	record, err := findUser(ctx, store, name)
	return record.User, err
}

// sessions lists the live sessions, the oldest first, with the names of their users.
func (d *desk) sessions(ctx context.Context) ([]sessionLine, error) {
	l, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}
	store, err := d.store(ctx, directory.PasswordPolicy{})
	if err != nil {
		return nil, err
	}
	records, err := store.List(ctx)
	if err != nil {
		d.log.Warn("some names are missing", "err", err)
	}
	names := map[session.UserID]string{}
	for _, r := range records {
		names[r.User] = r.Names[0]
	}
	var lines []sessionLine
	for _, s := range l.sessions(session.At(time.Now())) {
		line := sessionLine{Session: s.ID, ID: s.ID.String(), Handle: s.Handle.String(), User: s.User, Name: names[s.User],
			Venue: s.Venue.String(), Client: s.Client, Bound: s.Bound, Generation: s.Generation, Started: s.Started.Time(),
			LastActive: s.LastActive.Time(), Ends: s.Deadline().Time(), AccessEnds: s.AccessDeadline().Time(),
			FailedLogins: s.Failed, Scopes: s.Scopes}
		if s.Refresh != (session.TokenHash{}) {
			line.RefreshEnds = instant(s.RefreshDeadline())
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func printSessions(to io.Writer, lines []sessionLine, now time.Time) error {
	t := table{header: []string{"SESSION", "USER", "VENUE", "AGE", "IDLE", "ENDS IN"}, none: "no live sessions"}
	for _, l := range lines {
		name := l.Name
		if name == "" {
			name = string(l.User)
		}
		t.row(l.ID, name, l.Venue, span(now.Sub(l.Started)), span(now.Sub(l.LastActive)), span(l.Ends.Sub(now)))
	}
	return t.print(to)
}

type sessionShow struct {
	place      `embed:""`
	openingKey `embed:""`
	ID         string `arg:"" help:"The session's id, or the one that its venue shows."`
	JSON       bool   `help:"Print one JSON object." name:"json"`
}

// Run shows a session.
func (c *sessionShow) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		l, err := d.sessionOf(ctx, c.ID)
		if err != nil {
			return err
		}
		origins, err := c.origins(ctx, c.place, d)
		if err != nil {
			return err
		}
		if l.Origin, err = d.cameFrom(ctx, l, origins); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(os.Stdout, l)
		}
		t := table{header: []string{"session", l.ID}}
		t.row("shown as", l.Handle)
		t.row("user", strings.TrimSpace(l.Name+" "+string(l.User)))
		t.row("venue", l.Venue)
		t.row("client", l.Client)
		if l.Origin != nil {
			t.row("logged in from", l.Origin.Address)
			t.row("with", l.Origin.Agent)
			t.row("as", l.Origin.Name)
		}
		t.row("bound to its connection", fmt.Sprint(l.Bound))
		t.row("refreshed", fmt.Sprintf("%d times", l.Generation-1))
		t.row("started", moment(&l.Started))
		t.row("last active", moment(&l.LastActive))
		t.row("access token ends", moment(&l.AccessEnds))
		t.row("refresh token ends", moment(l.RefreshEnds))
		t.row("ends", moment(&l.Ends))
		return t.print(os.Stdout)
	})
}

// sessionOf finds a live session by either of its ids.
func (d *desk) sessionOf(ctx context.Context, id string) (sessionLine, error) {
	wanted, err := session.ParseSessionID(id)
	if err != nil {
		return sessionLine{}, refuse("usage", "%q is no session id: %w", id, err)
	}
	if wanted == (session.SessionID{}) { // to the engine it is none, and selects nothing
		return sessionLine{}, refuse("usage", "%q is no session's id", id)
	}
	lines, err := d.sessions(ctx)
	if err != nil {
		return sessionLine{}, err
	}
	for _, l := range lines {
		if l.ID == wanted.String() || l.Handle == wanted.String() {
			return l, nil
		}
	}
	return sessionLine{}, refuse(session.UnknownSession.String(), "there is no live session %s; of one that has ended, audit replay --session tells", wanted)
}

type sessionRevoke struct {
	place  `embed:""`
	ID     string `arg:"" optional:"" help:"The session's id, or the one that its venue shows."`
	User   string `help:"All sessions of this user, by login name or user id." placeholder:"NAME"`
	Venue  string `help:"All sessions of this venue; with --user, the user's there." placeholder:"VENUE"`
	Before string `help:"All that started before this: a time such as 2026-01-31T18:00:00Z, or how long ago, such as 8h." placeholder:"TIME"`
	All    bool   `help:"All sessions."`
	Yes    bool   `help:"Do not ask before ending the sessions of several users." short:"y"`
}

// Run ends sessions: one, a user's, or all that match.
func (c *sessionRevoke) Run(ctx context.Context, app *cli) error {
	which, err := c.which(time.Now())
	if err != nil {
		return err
	}
	return c.at(ctx, app, func(d *desk) error {
		switch {
		case c.ID != "":
			return c.one(ctx, d)
		case c.User != "":
			if which.User, err = d.userID(ctx, c.User); err != nil {
				return err
			}
			reply, err := d.doFor(ctx, which.User, &which)
			return told(reply, err, "%s", ended(reply.Count))
		}
		return c.wide(ctx, d, which)
	})
}

// which reads the conditions; exactly one kind of target has to be named.
func (c *sessionRevoke) which(now time.Time) (session.Revoke, error) {
	venue, err := venueOf(c.Venue)
	if err != nil {
		return session.Revoke{}, err
	}
	which := session.Revoke{Venue: venue, All: c.All}
	if which.Before, err = readMoment("--before", c.Before, now); err != nil {
		return which, err
	}
	conditions := c.User != "" || c.Venue != "" || c.Before != ""
	switch {
	case c.ID != "" && (conditions || c.All), c.All && conditions:
		return which, refuse("usage", "name one session, or --all, or conditions: not several of these")
	case c.ID == "" && !conditions && !c.All:
		return which, refuse("usage", "say which sessions: an id, --user, --venue, --before or --all")
	}
	return which, nil
}

// one ends one session. An id that is not live is asked of every partition: one that ended lately is no mistake.
func (c *sessionRevoke) one(ctx context.Context, d *desk) error {
	l, err := d.sessionOf(ctx, c.ID)
	if err == nil {
		reply, err := d.doFor(ctx, l.User, &session.Revoke{User: l.User, Session: l.Session})
		return told(reply, err, "%s", ended(reply.Count))
	}
	var no *refused
	if !errors.As(err, &no) || no.code != session.UnknownSession.String() {
		return err
	}
	id, _ := session.ParseSessionID(c.ID)
	for p := range bus.Partition(d.layout.Partitions) {
		reply, failed := d.do(ctx, p, &session.Revoke{Session: id})
		if failed != nil || reply.Refusal != session.UnknownSession {
			return told(reply, failed, "it has ended already")
		}
	}
	return err
}

// wide ends the sessions of all users that match, after asking.
func (c *sessionRevoke) wide(ctx context.Context, d *desk, which session.Revoke) error {
	lines, err := d.sessions(ctx)
	if err != nil {
		return err
	}
	match, n := session.SessionsRevoked{Venue: which.Venue, Before: which.Before}, 0
	for _, l := range lines {
		venue, _ := session.ParseVenue(l.Venue)
		if match.Covers(&session.Session{Venue: venue, Started: session.At(l.Started)}) {
			n++
		}
	}
	if err := confirm(ctx, fmt.Sprintf("This ends %d of %d live sessions.", n, len(lines)), c.Yes); err != nil {
		return err
	}
	var total session.Reply
	for p := range bus.Partition(d.layout.Partitions) {
		reply, err := d.do(ctx, p, &which)
		if err == nil {
			err = refuseBy(reply.Refusal, "the writer refused")
		}
		if err != nil {
			return fmt.Errorf("partition %s, after %s: %w", p, ended(total.Count), err)
		}
		total.Count += reply.Count
	}
	return told(total, nil, "%s", ended(total.Count))
}

// venueOf reads the name of a venue; none is any.
func venueOf(name string) (session.Venue, error) {
	if name == "" {
		return session.NoVenue, nil
	}
	venue, err := session.ParseVenue(name)
	if err != nil {
		return venue, refuse("usage", "%w", err)
	}
	return venue, nil
}
