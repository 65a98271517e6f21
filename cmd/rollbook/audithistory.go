package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/directory"
	"rollbook/projections/history"
)

// auditScope is what every question about the past has: where the book is, and whether the asking shows.
type auditScope struct {
	place      `embed:""`
	openingKey `embed:""`
	Quiet      bool `help:"Show no progress." short:"q"`
}

// archive is the book as an audit's command reads it. It belongs to one goroutine.
type archive struct {
	*desk
	reader *history.Reader
	store  *directory.Store          // nil: this credential may not read the directory
	names  map[session.UserID]string // that were looked up; empty for a user whom the directory has forgotten
	opener *directory.Origins        // nil: where clients were stays closed
}

// ask opens the book and has work done, with a bar on the terminal while it is long.
func (s auditScope) ask(ctx context.Context, app *cli, work func(*archive, *watchedBar) error) error {
	return s.at(ctx, app, func(d *desk) error {
		cfg := history.ReaderConfig{Log: d.log}
		for p := range bus.Partition(d.layout.Partitions) {
			cfg.Books = append(cfg.Books, d.bus.Book(p))
		}
		a := &archive{desk: d, reader: history.NewReader(cfg), names: map[session.UserID]string{}}
		var err error
		if a.store, err = d.store(ctx, directory.PasswordPolicy{}); errors.Is(err, bus.ErrNotPermitted) {
			a.store = nil // an auditor reads the books alone, and sees ids
		} else if err == nil {
			a.opener, err = s.origins(ctx, s.place, d)
		}
		if err != nil && !errors.Is(err, bus.ErrNotPermitted) {
			return err
		}
		b := watchBar(s.Quiet, a.reader.Progress)
		defer b.stop()
		return work(a, b)
	})
}

// subject is whom a question is about.
type subject struct {
	asked string         // what the command line calls the user; empty: nobody in particular
	user  session.UserID // empty: nobody in particular
	known bool           // to the directory, also as one who was erased
}

// whom finds the user whom a question is about. One whom the directory does not know, or no more, is asked for by id: the book
// may know. Whether it does shows in the answer; an empty one is looked into by [archive.empty].
func (a *archive) whom(ctx context.Context, name string) (subject, error) {
	who := subject{asked: name, user: session.UserID(name)}
	if name == "" {
		return who, nil
	}
	if a.store != nil {
		record, err := findUser(ctx, a.store, name)
		var no *refused
		switch {
		case err == nil:
			return subject{name, record.User, true}, nil
		case !errors.As(err, &no):
			return who, err
		}
		who.known = errors.Is(err, directory.ErrErased)
	}
	if !who.user.Valid() {
		return who, a.unknown(name)
	}
	return who, nil
}

// unknown refuses a name that leads to nobody.
func (a *archive) unknown(name string) error {
	if a.store == nil {
		return refuse(session.UnknownUser.String(), "there is no user %q in the book, and this credential may not look names up: ask for the user's id", name)
	}
	return refuse(session.UnknownUser.String(), "there is no user %q in the directory or the book", name)
}

// empty looks into an empty answer: a user or a session that does not exist is refused, so that a slip of the pen is not taken
// for a quiet day. Else it says that there was nothing, and how far the book goes.
func (a *archive) empty(ctx context.Context, who subject, id session.SessionID, said string) error {
	if who.user != "" && !who.known {
		found, err := a.reader.Any(ctx, history.Query{User: who.user})
		if err != nil {
			return err
		}
		if !found {
			return a.unknown(who.asked)
		}
	}
	if id != (session.SessionID{}) {
		if err := a.inBook(ctx, who, id); err != nil {
			return err
		}
	}
	reach, err := a.reader.Reach(ctx, who.user)
	if err != nil {
		return err
	}
	if reach.Last == 0 {
		return nothing("%s: nothing is written yet", said)
	}
	return nothing("%s; the book goes from %s to %s", said, precise(reach.First.Time()), precise(reach.Last.Time()))
}

// inBook refuses a session that the book does not have.
func (a *archive) inBook(ctx context.Context, who subject, id session.SessionID) error {
	found, err := a.reader.Any(ctx, history.Query{User: who.user, Session: id})
	if err != nil || found {
		return err
	}
	own, err := a.reader.Shown(ctx, who.user, session.Handle(id))
	switch {
	case err != nil:
		return err
	case own != (session.SessionID{}):
		return refuse(session.UnknownSession.String(), "%s is what the venue showed of session %s after a refresh: ask for that", id, own)
	case who.user != "":
		return refuse(session.UnknownSession.String(), "%s has no session %s in the book", who.asked, id)
	}
	return refuse(session.UnknownSession.String(), "there is no session %s in the book", id)
}

// notYet says of a time that goes on that its end has not come.
func (a *archive) notYet(ctx context.Context, who subject, to session.Instant) error {
	if to <= session.At(time.Now()) {
		return nil
	}
	reach, err := a.reader.Reach(ctx, who.user)
	if err != nil || to <= reach.Last {
		return err
	}
	return nothing("--to has not come yet: this is what was written until %s", precise(reach.Last.Time()))
}

// name is a user's first login name, or empty.
func (a *archive) name(ctx context.Context, user session.UserID) string {
	if user == "" || a.store == nil {
		return ""
	}
	name, known := a.names[user]
	if !known {
		if record, err := a.store.Get(ctx, user); err == nil && len(record.Names) > 0 {
			name = record.Names[0]
		}
		a.names[user] = name
	}
	return name
}

// shownUser is a user as tables have one: by name, or by id where there is none.
func (a *archive) shownUser(ctx context.Context, user session.UserID) string {
	if name := a.name(ctx, user); name != "" {
		return name
	}
	return string(user)
}

// origin is where the client of an event was, when the event has that and it opens here; else nil.
func (a *archive) origin(user session.UserID, e session.Event) *shownOrigin {
	sealed, _ := session.Describe(e).Get("origin").([]byte)
	if len(sealed) == 0 {
		return nil
	}
	if o, ok := a.opener.Open(user, sealed); ok {
		return showOrigin(o)
	}
	return nil
}

// detail is what an event has beside its columns, and where its client was.
func (a *archive) detail(e history.Entry) string {
	text := history.Detail(e)
	if o := a.origin(e.User(), e.Event); o != nil && o.Address != "" {
		text = strings.TrimSpace(text + " from " + o.Address)
	}
	return text
}

// stretch is the time that a question is about.
type stretch struct {
	From string `help:"Only from this time on: 2026-01-31T18:00:00Z, 2026-01-31 18:00, 18:00:05.250, today, or how long ago, such as 2h or 3d." placeholder:"TIME"`
	To   string `help:"Only before this time." placeholder:"TIME"`
}

func (s stretch) read(now time.Time) (from, to session.Instant, err error) {
	return readStretch("--from", s.From, "--to", s.To, now)
}

// readStretch reads the moments of two flags, of which the second is behind the first. One that is not given is zero.
func readStretch(flag, begin, endFlag, end string, now time.Time) (from, to session.Instant, err error) {
	if from, err = readMoment(flag, begin, now); err != nil {
		return 0, 0, err
	}
	if to, err = readMoment(endFlag, end, now); err != nil {
		return 0, 0, err
	}
	if to != 0 && to <= from {
		return 0, 0, refuse("usage", "%s %q is not after %s %q", endFlag, end, flag, begin)
	}
	return from, to, nil
}

// forms are the ways to write one answer. One of them at most is chosen.
type forms struct {
	JSON bool `help:"Print one JSON object a line, with every field by name." name:"json"`
	CSV  bool `help:"Print comma-separated values with a header line." name:"csv"`
}

func (f forms) check() error {
	if f.JSON && f.CSV {
		return refuse("usage", "--json and --csv exclude each other")
	}
	return nil
}

// nothing says on standard error that an answer is empty, so that a script's output stays what it is.
func nothing(format string, args ...any) error {
	_, err := fmt.Fprintln(os.Stderr, printable(fmt.Sprintf(format, args...)))
	return err
}
