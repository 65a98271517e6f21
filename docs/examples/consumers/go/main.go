// Command go is an example of a consumer: it prints the events of the feed, each once, from where it left off, and follows.
//
//	go run ./docs/examples/consumers/go --bus nats://host:4222 [--creds consumer.nk] [--cursor FILE] [--user ID] [--until N]
//
// What it has done and where it is stand in one place, the cursor file: a line for each event, written at once. If killed, it
// goes on behind the last whole line. A real consumer does the same with the transaction of its database.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"rollbook/engine/session"
	"rollbook/projections/feed/subscribe"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

// errEnough ends the example after --until events.
var errEnough = errors.New("that is enough")

func run() error {
	bus := flag.String("bus", "nats://127.0.0.1:4222", "the URL of the bus")
	creds := flag.String("creds", "", "the file with the consumer's key; empty: none")
	path := flag.String("cursor", "cursor.txt", "what was done, and where we are")
	user := flag.String("user", "", "only this user's events, by id; empty: all")
	until := flag.Int("until", 0, "end after so many events; 0: never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	done, from, err := open(*path)
	if err != nil {
		return err
	}
	defer done.Close()
	nc, err := subscribe.Connect(*bus, *creds)
	if err != nil {
		return err
	}
	defer nc.Close()
	n := 0
	feed := subscribe.New(subscribe.Config{Conn: nc, From: from, Filter: subscribe.Filter{User: session.UserID(*user)}})
	err = feed.Run(ctx, func(e subscribe.Event) error {
		if _, err := fmt.Fprintf(done, "%s\t%s %s %s\n", e.Cursor(), e.Position, e.Type, e.User); err != nil {
			return err
		}
		line := fmt.Sprint(e.Position, " ", e.Type, " ", e.User)
		if started, ok := e.Event.(*session.SessionStarted); ok {
			line += " by " + started.Venue.String()
		}
		fmt.Println(line)
		if n++; n == *until {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		return nil
	}
	return err
}

// open reads where the last run was, and drops half a line: that event has not happened yet.
func open(path string) (*os.File, subscribe.Start, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, subscribe.Start{}, err
	}
	text, err := os.ReadFile(path)
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	if err = errors.Join(err, file.Truncate(int64(len(text)))); err != nil {
		return nil, subscribe.Start{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	where, _, _ := strings.Cut(lines[len(lines)-1], "\t")
	if where == "" {
		return file, subscribe.Beginning(), nil
	}
	cursor, err := subscribe.ParseCursor(where)
	return file, subscribe.At(cursor), err
}
