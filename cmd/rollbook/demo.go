package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// The demo's user, and password: those of the venue's own samples. Everybody can read them, which is why a demo listens
// on this machine alone.
const (
	demoName     = "JaneDee"
	demoPassword = "beONneON*74"
)

//go:embed demo_resources.json
var demoResources []byte

// furnishDemo puts the demo's user and resources into the book, unless they are there, and returns when this process
// knows them.
func (h *house) furnishDemo(ctx context.Context) error {
	// A desk on the house's own connections, which the house closes.
	d := &desk{bus: h.bus, layout: h.layout, log: h.log, submit: h.submit}
	store, err := d.store(ctx, directory.PasswordPolicy{MinLength: 8})
	if err != nil {
		return err
	}
	if _, err = store.Find(ctx, demoName); errors.Is(err, directory.ErrNotFound) {
		_, err = addUser(ctx, d, store, directory.Record{Names: []string{demoName}, First: "Jane", Last: "Dee"}, demoPassword)
	}
	if err != nil {
		return fmt.Errorf("make the demo's user: %w", err)
	}
	wanted, err := parseResources(demoResources, false)
	if err != nil {
		return fmt.Errorf("read the demo's resources: %w", err)
	}
	if err := applyResources(ctx, d, wanted, func(session.ResourceName, string) error { return nil }); err != nil {
		return fmt.Errorf("make the demo's resources: %w", err)
	}
	for known := false; !known; _, known = h.directory.Find(demoName) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return h.follower.Barrier(ctx)
}

// showDemo prints what to try.
func (h *house) showDemo(kept bool) error {
	_, err := os.Stdout.WriteString(h.demoScreen(kept))
	return err
}

// demoScreen says where everything is and what to try. It fits 80 columns, as long as the directory's name is short.
func (h *house) demoScreen(kept bool) string {
	where := h.embedded.URL()
	if where == "" {
		where = "listens nowhere (--bus-listen): not"
	}
	fate := "removed at exit"
	if kept {
		fate = "kept"
	}
	return strings.NewReplacer("{genesis}", url(h.genesisAt), "{operations}", url(h.operationsAt), "{dir}", h.dir,
		"{bus}", where, "{rollbook}", os.Args[0], "{fate}", fate, "{name}", demoName, "{password}", demoPassword).Replace(demoText)
}

const demoText = `Rollbook demo: user {name}, password {password}. Ctrl-C ends it.

  Genesis      {genesis}   HTTP, and WebSocket at /
  operations   {operations}   /healthz /readyz /metrics
  bus          {bus}   for operators and downstream readers
  data         {dir} ({fate})

Try it in another terminal, from the same folder, line by line:

  # where, and a way to take a field out of the last reply
  G={genesis}
  f() { printf %s "$reply" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }

  # log in
  login='{"DETAILS":{"USER_NAME":"{name}","PASSWORD":"{password}"}}'
  reply=$(curl -s $G/event-login-auth -H 'SOURCE_REF: 1' -d "$login")
  echo "$reply"

  # what can be asked for, and the fields of one of them
  curl -s $G/resources-request -H "SESSION_AUTH_TOKEN: $(f SESSION_AUTH_TOKEN)"
  curl -sg "$G/meta-request?DETAILS[FEATURE]=MY_TRADES" \
    -H "SESSION_AUTH_TOKEN: $(f SESSION_AUTH_TOKEN)"

  # refresh: a new session id and token, and the old ones are dead
  token=$(f REFRESH_AUTH_TOKEN)
  login='{"DETAILS":{"USER_NAME":"{name}","REFRESH_AUTH_TOKEN":"'$token'"}}'
  reply=$(curl -s $G/event-login-auth -H 'SOURCE_REF: 2' -d "$login")
  echo "$reply"

  # the operator's side
  {rollbook} session list --data {dir}
  {rollbook} user list --data {dir}
  {rollbook} resource show MY_TRADES --data {dir}

  # log out
  curl -s -d '' $G/event-logout \
    -H "SESSION_ID: $(f SESSION_ID)" -H 'USER_NAME: {name}'

  # health, readiness, metrics
  curl -s {operations}/readyz
  curl -s {operations}/metrics | grep ^rollbook_commands
`
