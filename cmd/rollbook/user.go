package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

type userCommands struct {
	Add     userAdd     `cmd:"" help:"Add a user who may log in."`
	List    userList    `cmd:"" help:"List the users and how they stand."`
	Disable userDisable `cmd:"" help:"End a user's sessions and refuse logins."`
	Enable  userEnable  `cmd:"" help:"Accept a disabled user's logins again."`
	Unlock  userUnlock  `cmd:"" help:"Forget a user's failed logins."`
	Passwd  userPasswd  `cmd:"" help:"Give a user a new password."`
	APIKey  userAPIKey  `cmd:"" name:"apikey" help:"Give a user a new API key, or take it away."`
	Scope   userScope   `cmd:"" help:"Show or change what a user may be granted."`
	Erase   userErase   `cmd:"" aliases:"remove" help:"Erase a user, and with them what the book says of where they came from."`
}

// passwordSettings are how a new password comes in.
type passwordSettings struct {
	PasswordStdin bool `help:"Read the password from standard input, one line, also when that is a terminal."`
	MinLength     int  `help:"The least number of characters of a new password, 8 or more." default:"15" placeholder:"N" env:"ROLLBOOK_MIN_LENGTH"`
}

func (s passwordSettings) policy() directory.PasswordPolicy {
	return directory.PasswordPolicy{MinLength: s.MinLength}
}

// newPassword asks for a password. It comes before the book is opened: without an instance a command has the data
// directory to itself, and must not keep it while somebody types. names are the login names that are known by then.
func (s passwordSettings) newPassword(ctx context.Context, where place, names ...string) (string, error) {
	if err := where.expectBook(); err != nil {
		return "", err
	}
	if err := s.policy().Validate(); err != nil {
		return "", refuse("usage", "%w", err)
	}
	password, err := readPassword(ctx, s.PasswordStdin)
	if err != nil {
		return "", err
	}
	return password, directoryRefusal(s.policy().Check(password, names))
}

// userNamed names a user on the command line.
type userNamed struct {
	place `embed:""`
	Name  string `arg:"" help:"A login name, in any case, or a user id."`
}

type userAdd struct {
	place            `embed:""`
	passwordSettings `embed:""`
	Name             string   `arg:"" help:"The login name; an e-mail address will do. Compared without regard to case."`
	First            string   `help:"The given name."`
	Last             string   `help:"The family name."`
	Venue            []string `help:"A venue where the user may log in; may be repeated. None given: all venues." placeholder:"VENUE"`
	JSON             bool     `help:"Print one JSON object." name:"json"`
}

// Help is shown by `user add --help`.
func (userAdd) Help() string {
	return `The password is asked for twice on the terminal, or read as one line from standard input. When the command is
interrupted, the same command again goes on where it was. A name that is taken is refused after that.`
}

// Run adds the user.
func (c *userAdd) Run(ctx context.Context, app *cli) error {
	record := directory.Record{Names: []string{c.Name}, First: c.First, Last: c.Last}
	for _, name := range c.Venue {
		venue, err := session.ParseVenue(name)
		if err != nil {
			return refuse("usage", "%w", err)
		}
		record.Venues = append(record.Venues, venue)
	}
	if err := directory.CheckName(c.Name); err != nil {
		return directoryRefusal(err)
	}
	password, err := c.newPassword(ctx, c.place, c.Name)
	if err != nil {
		return err
	}
	return c.at(ctx, app, func(d *desk) error {
		store, err := d.store(ctx, c.policy())
		if err != nil {
			return err
		}
		if _, err := store.Find(ctx, c.Name); err == nil {
			return refuse("name_taken", "a user has the login name %q already", c.Name)
		}
		record, err := addUser(ctx, d, store, record, password)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(os.Stdout, map[string]any{"user": record.User, "name": record.Names[0]})
		}
		_, err = fmt.Printf("added %s as %s\n", printable(record.Names[0]), record.User)
		return err
	})
}

// addUser takes the three steps that directory.Store describes. A crash after any of them leaves nobody who can log in
// by halves, and the same command again goes on.
func addUser(ctx context.Context, d *desk, store *directory.Store, r directory.Record, password string) (directory.Record, error) {
	var err error
	if r.Verifier, err = store.Hash(password, r.Names); err != nil {
		return r, directoryRefusal(err)
	}
	if r.User, err = store.Claim(ctx, r.Names); err != nil {
		return r, directoryRefusal(err)
	}
	reply, err := d.doFor(ctx, r.User, &session.Register{User: r.User, Credential: 1})
	if err != nil {
		return r, fmt.Errorf("register the user: %w", err)
	}
	if reply.Refusal != session.AlreadyExists { // then an earlier try got this far
		if err := refuseBy(reply.Refusal, "the user cannot be registered"); err != nil {
			return r, err
		}
	}
	r, err = store.Create(ctx, r)
	return r, directoryRefusal(err)
}

// directoryRefusal tells the directory's "no" from its failures.
func directoryRefusal(err error) error {
	for code, no := range map[string]error{
		"bad_name": directory.ErrBadName, "bad_password": directory.ErrPassword,
		"name_taken": directory.ErrNameTaken, "user_exists": directory.ErrExists,
		session.UnknownUser.String(): directory.ErrNotFound, "user_erased": directory.ErrErased,
	} {
		if errors.Is(err, no) {
			return refuse(code, "%w", err)
		}
	}
	return err
}

// at opens the book for one command, with a quiet log.
func (p place) at(ctx context.Context, app *cli, work func(*desk) error) error {
	d, err := p.open(ctx, app.operatorLog())
	if err != nil {
		return err
	}
	defer d.close()
	return work(d)
}

// on finds the user a command is about and has work done.
func (c userNamed) on(ctx context.Context, app *cli, work func(*desk, *directory.Store, directory.Record) error) error {
	return c.at(ctx, app, func(d *desk) error {
		store, err := d.store(ctx, directory.PasswordPolicy{})
		if err != nil {
			return err
		}
		record, err := findUser(ctx, store, c.Name)
		if err != nil {
			return err
		}
		return work(d, store, record)
	})
}

// findUser finds a user by login name or by id.
func findUser(ctx context.Context, store *directory.Store, name string) (directory.Record, error) {
	record, err := store.Find(ctx, name)
	if errors.Is(err, directory.ErrNotFound) || errors.Is(err, directory.ErrBadName) {
		record, err = store.Get(ctx, session.UserID(name))
	}
	if errors.Is(err, directory.ErrNotFound) {
		return record, refuse(session.UnknownUser.String(), "there is no user %q", name)
	}
	return record, directoryRefusal(err)
}

type userDisable struct {
	userNamed `embed:""`
}

// Run disables the user.
func (c *userDisable) Run(ctx context.Context, app *cli) error {
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		reply, err := d.doFor(ctx, r.User, &session.Disable{User: r.User})
		return told(reply, err, "disabled %s; %s", r.Names[0], ended(reply.Count))
	})
}

type userEnable struct {
	userNamed `embed:""`
}

// Run enables the user.
func (c *userEnable) Run(ctx context.Context, app *cli) error {
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		reply, err := d.doFor(ctx, r.User, &session.Enable{User: r.User})
		return told(reply, err, "enabled %s", r.Names[0])
	})
}

type userUnlock struct {
	userNamed `embed:""`
}

// Run unlocks the user.
func (c *userUnlock) Run(ctx context.Context, app *cli) error {
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		reply, err := d.doFor(ctx, r.User, &session.Unlock{User: r.User})
		return told(reply, err, "unlocked %s", r.Names[0])
	})
}

type userPasswd struct {
	userNamed        `embed:""`
	passwordSettings `embed:""`
	KeepSessions     bool `help:"Leave the user's sessions as they are. Default: no, they end, as whoever knew the old password may hold one."`
}

// Help is shown by `user passwd --help`.
func (userPasswd) Help() string {
	return `The password is asked for twice on the terminal, or read as one line from standard input. When the
command is interrupted or fails, repeat it: the new password may be good already, while the sessions from before live
on until the command has been done to its end.`
}

// Run gives the user a new password: the verifier first, then the book. After a crash in between the new password logs
// in and the old one does not; the generation that the book knows is repaired by the user's next login, which announces
// the new verifier, or by the same command again. The sessions from before live on until the command is repeated: a
// login ends none.
func (c *userPasswd) Run(ctx context.Context, app *cli) error {
	password, err := c.newPassword(ctx, c.place)
	if err != nil {
		return err
	}
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		store, err := d.store(ctx, c.policy())
		if err != nil {
			return err
		}
		credential, err := store.SetPassword(ctx, r.User, password)
		if err != nil {
			return directoryRefusal(err)
		}
		reply, err := d.doFor(ctx, r.User, &session.ChangeCredential{User: r.User, Credential: credential, EndSessions: !c.KeepSessions})
		if err != nil {
			err = fmt.Errorf("the password is changed, but the book does not know yet and no session has ended: repeat the command: %w", err)
		}
		return told(reply, err, "changed the password of %s; %s", r.Names[0], ended(reply.Count))
	})
}

type userList struct {
	place `embed:""`
	JSON  bool `help:"Print one JSON object a line." name:"json"`
}

// userLine is a user in a list.
type userLine struct {
	User       session.UserID `json:"user"`
	Names      []string       `json:"names"`
	First      string         `json:"first,omitempty"`
	Last       string         `json:"last,omitempty"`
	Venues     []string       `json:"venues,omitempty"` // none: all
	State      string         `json:"state"`            // enabled, disabled, locked, unregistered
	Locked     *time.Time     `json:"locked_until,omitempty"`
	Failures   uint32         `json:"failed_logins"`
	LastLogin  *time.Time     `json:"last_login,omitempty"`
	Sessions   int            `json:"sessions"`
	Password   bool           `json:"password"` // whether there is one
	Scopes     []string       `json:"scopes,omitempty"`
	APIKeys    []string       `json:"api_keys,omitempty"` // the venues that the user has one for
	Credential uint64         `json:"credential"`
}

// Run lists the users: their records from the directory, their standing from the book.
func (c *userList) Run(ctx context.Context, app *cli) error {
	return c.at(ctx, app, func(d *desk) error {
		store, err := d.store(ctx, directory.PasswordPolicy{})
		if err != nil {
			return err
		}
		records, unreadable := store.List(ctx)
		l, err := d.ledger(ctx)
		if err != nil {
			return err
		}
		return errors.Join(printUsers(os.Stdout, userLines(records, l, time.Now()), c.JSON), unreadable)
	})
}

func userLines(records []directory.Record, l *ledger, now time.Time) []userLine {
	live := map[session.UserID]int{}
	for _, s := range l.sessions(session.At(now)) {
		live[s.User]++
	}
	lines := make([]userLine, 0, len(records))
	for _, r := range records {
		line := userLine{User: r.User, Names: r.Names, First: r.First, Last: r.Last, State: "enabled",
			Password: r.Verifier != "", Credential: r.Credential, Sessions: live[r.User], Scopes: r.Scopes,
			APIKeys: slices.Sorted(maps.Keys(r.Keys))}
		for _, v := range r.Venues {
			line.Venues = append(line.Venues, v.String())
		}
		standing, registered := l.user(r.User)
		line.Failures, line.LastLogin = standing.Failures, instant(standing.LastLogin)
		switch {
		case !registered: // a crash between the claim and the registration cannot lead here; an imported bucket can
			line.State = "unregistered"
		case standing.Disabled:
			line.State = "disabled"
		case standing.LockedUntil > session.At(now):
			line.State = "locked"
			if standing.LockedUntil != session.Forever {
				line.Locked = instant(standing.LockedUntil)
			}
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b userLine) int { return strings.Compare(a.Names[0], b.Names[0]) })
	return lines
}

func printUsers(to io.Writer, lines []userLine, asJSON bool) error {
	if asJSON {
		return printJSONLines(to, lines)
	}
	t := table{header: []string{"NAME", "STATE", "LIVE", "LAST LOGIN", "USER"}, none: "no users: add one with rollbook user add NAME"}
	for _, l := range lines {
		state := l.State
		switch {
		case l.Locked != nil:
			state += " " + time.Until(*l.Locked).Round(time.Second).String()
		case l.State == "locked":
			state += " for good"
		case !l.Password:
			state += ", no password"
		}
		t.row(strings.Join(l.Names, " "), state, fmt.Sprint(l.Sessions), moment(l.LastLogin), string(l.User))
	}
	return t.print(to)
}
