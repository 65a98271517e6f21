package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

type userErase struct {
	userNamed `embed:""`
	Yes       bool `help:"Do not ask first." short:"y"`
	JSON      bool `help:"Print one JSON object." name:"json"`
}

// Help is shown by `user erase --help`.
func (userErase) Help() string {
	return `The user's sessions end. The names, the password, the API keys and whatever else the directory holds of the user are
erased, for good, and overwritten on the disk; a name can be given to somebody else, who is another user to the book. What
the user did stays in the book, under an id that says nothing of the person, and so does every proof about it. Where they
came from stands there sealed under a key that goes with the record: nobody can open it any more, in the book, in the
feed or in a copy of them. Out of reach are copies of the directory (backups), and what other systems have written
down. To shut somebody out for a while, use rollbook user disable. When the command is interrupted or fails, repeat it.`
}

// erasedUser is a user who was erased, as it is printed.
type erasedUser struct {
	User     session.UserID `json:"user"`
	Name     string         `json:"name"`
	Sessions uint64         `json:"sessions_ended"`
}

// Run erases the user: first in the book, which ends the sessions and refuses every login from then on, then in the
// directory. After a crash in between nobody logs in, and the same command goes on: the user is found until the record
// is erased, and what that leaves behind (names that lead to nobody) is swept away by whoever asks for the name again.
func (c *userErase) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		store, err := d.store(ctx, directory.PasswordPolicy{})
		if err != nil {
			return err
		}
		r, err := findUser(ctx, store, c.Name)
		if errors.Is(err, directory.ErrErased) {
			err = errors.Join(store.Sweep(ctx), err)
		}
		if err != nil {
			return err
		}
		if err := c.confirm(ctx, d, r); err != nil {
			return err
		}
		reply, err := d.doFor(ctx, r.User, &session.Disable{User: r.User})
		if err == nil && reply.Refusal != session.UnknownUser { // one that was never registered can be erased too
			err = refuseBy(reply.Refusal, "the writer refused")
		}
		if err != nil {
			return err
		}
		if err := store.Remove(ctx, r.User); err != nil {
			return fmt.Errorf("%s is disabled, and not yet erased: repeat the command: %w", r.User, err)
		}
		erased := erasedUser{r.User, r.Names[0], reply.Count}
		if c.JSON {
			return printJSON(os.Stdout, erased)
		}
		_, err = fmt.Printf("erased %s, who was %s; %s\n", printable(erased.Name), erased.User, ended(erased.Sessions))
		return err
	})
}

// confirm says what will be lost, and asks.
func (c *userErase) confirm(ctx context.Context, d *desk, r directory.Record) error {
	if c.Yes {
		return nil
	}
	l, err := d.ledger(ctx)
	if err != nil {
		return err
	}
	live := 0
	for _, s := range l.sessions(session.At(time.Now())) {
		if s.User == r.User {
			live++
		}
	}
	return confirm(ctx, fmt.Sprintf("This erases %s (%s) for good; live sessions that end: %d.", printable(r.Names[0]), r.User, live), false)
}
