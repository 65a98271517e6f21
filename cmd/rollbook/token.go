package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
	"rollbook/projections/directory"
)

type tokenCommands struct {
	Issue tokenIssue `cmd:"" help:"Make a token that can be redeemed once."`
}

type tokenIssue struct {
	userNamed `embed:""`
	Venue     string        `help:"The venue where it can be redeemed." default:"traderevolution" enum:"traderevolution" placeholder:"VENUE"`
	Session   string        `help:"The user's session that the token is for, by its id: the token dies with it." placeholder:"ID"`
	Lifetime  time.Duration `help:"How long it can be redeemed, at most 24h. 0: as long as the service has it for the venue." placeholder:"TIME"`
	JSON      bool          `help:"Print one JSON object." name:"json"`
}

// Help is shown by `token issue --help`.
func (tokenIssue) Help() string {
	return `The token is printed once, alone on its line. Whoever has it can redeem it, which tells them that the user is logged
in: at TraderEvolution by POST /external/token/verify. One user may have
so many open at a venue (--te-one-time-tokens): one more takes the place of the oldest, which is void from then on.`
}

// issuedToken is a one-time token as it is printed.
type issuedToken struct {
	Token   string         `json:"token"`
	User    session.UserID `json:"user"`
	Venue   string         `json:"venue"`
	Session string         `json:"session,omitempty"`
	Until   time.Time      `json:"until"` // redeemed at this instant or later, it is not valid
}

// Run has the book know the token's hash, and prints the token.
func (c *tokenIssue) Run(ctx context.Context, app *cli) error {
	venue, err := session.ParseVenue(c.Venue)
	switch {
	case err != nil:
		return refuse("usage", "%w", err)
	case c.Lifetime < 0 || c.Lifetime > session.MaxOneTime:
		return refuse("usage", "--lifetime %s: use up to %s", c.Lifetime, session.MaxOneTime)
	}
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		if !r.AllowedAt(venue) {
			return refuse(session.NotPermitted.String(), "%s may not log in at %s", r.Names[0], venue)
		}
		issued := issuedToken{Token: adapters.URLSafe.Mint(), User: r.User, Venue: venue.String()}
		command := &session.IssueOneTime{User: r.User, Venue: venue, Lifetime: c.Lifetime, Token: session.HashToken(issued.Token)}
		if c.Session != "" {
			l, err := d.sessionOf(ctx, c.Session)
			if err == nil && (l.User != r.User || l.Venue != venue.String()) {
				err = refuse(session.UnknownSession.String(), "%s has no live session %s at %s", r.Names[0], c.Session, venue)
			}
			if err != nil {
				return err
			}
			command.Session, issued.Session = l.Session, l.ID
		}
		reply, err := d.doFor(ctx, r.User, command)
		if err == nil {
			err = refuseBy(reply.Refusal, "the token cannot be made")
		}
		if err != nil {
			return err
		}
		issued.Until = reply.Until.Time()
		if c.JSON {
			return printJSON(os.Stdout, issued)
		}
		_, err = fmt.Println(issued.Token)
		return err
	})
}
