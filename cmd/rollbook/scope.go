package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"rollbook/projections/directory"
)

// Bounds of a user's scopes: what a session can hold.
const (
	maxScopes     = 64
	maxScopeBytes = 128
)

type userScope struct {
	userNamed `embed:""`
	Add       []string `help:"A scope to add; may be repeated." placeholder:"SCOPE" sep:"none"`
	Remove    []string `help:"A scope to take away; may be repeated." placeholder:"SCOPE" sep:"none"`
}

// Help is shown by `user scope --help`.
func (userScope) Help() string {
	return `Without --add and --remove, the user's scopes are printed, one a line. A user who has none gets what the venue grants
to everybody. TraderEvolution's connectors.settings is an operator's right: to change the tokens' lifetimes, and to make
one-time tokens for others. It counts at once.
Zenith and Nebula grant from these scopes too; there, sessions keep what they were granted.`
}

// Run changes the scopes and prints what the user has.
func (c *userScope) Run(ctx context.Context, app *cli) error {
	for _, scope := range append(slices.Clone(c.Add), c.Remove...) {
		if scope == "" || len(scope) > maxScopeBytes || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return refuse("usage", "%q is no scope: 1 to %d bytes without spaces", scope, maxScopeBytes)
		}
		if slices.Contains(c.Add, scope) && slices.Contains(c.Remove, scope) {
			return refuse("usage", "%q cannot be added and removed at once", scope)
		}
	}
	return c.on(ctx, app, func(_ *desk, store *directory.Store, r directory.Record) error {
		if len(c.Add)+len(c.Remove) > 0 {
			var err error
			if r, err = store.Update(ctx, r.User, c.change); err != nil {
				return directoryRefusal(err)
			}
		}
		if len(r.Scopes) == 0 {
			return nothing("%s has no scopes, and gets what a venue grants to everybody", r.Names[0])
		}
		for _, scope := range r.Scopes {
			if _, err := fmt.Println(printable(scope)); err != nil {
				return err
			}
		}
		return nil
	})
}

// change is repeatable: adding what is there and removing what is not do nothing.
func (c *userScope) change(r *directory.Record) error {
	scopes := slices.DeleteFunc(slices.Clone(r.Scopes), func(s string) bool { return slices.Contains(c.Remove, s) })
	for _, scope := range c.Add {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	if len(scopes) > maxScopes {
		return refuse("too_many_scopes", "a user has at most %d scopes", maxScopes)
	}
	r.Scopes = scopes
	return nil
}
