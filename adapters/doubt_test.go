package adapters_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// forgetful is a directory that has lost what it had of everybody but jane.
type forgetful struct{ nobody }

var errForgotten = errors.New("forgotten")

func (forgetful) Doubt(name string) error {
	if name == "jane" {
		return nil
	}
	return errForgotten
}

// TestWhoIsNotFoundMayBeLost: a venue's own judge finds nobody by a name, and the directory cannot tell. That is no verdict:
// nothing is submitted, and so nothing is counted.
func TestWhoIsNotFoundMayBeLost(t *testing.T) {
	for name, want := range map[string]struct {
		doubt     error
		submitted int
	}{"jane": {nil, 1}, "joe": {errForgotten, 0}} {
		commands := make(taken, 8)
		gate := adapters.NewGate(adapters.Config{Submit: commands, Directory: forgetful{}, Policies: session.DefaultPolicies(), Partitions: 1,
			Timeout: time.Second, Log: slog.New(slog.DiscardHandler)})
		_, _, err := gate.Login(t.Context(), adapters.Login{Venue: session.Nebula, Name: name, Judge: func(context.Context) (session.Credential, error) {
			return session.Credential{User: "decoy", Verdict: session.NoSuchUser}, nil
		}})
		if !errors.Is(err, adapters.ErrUnavailable) || errors.Is(err, errForgotten) != (want.doubt != nil) || len(commands) != want.submitted {
			t.Errorf("%s: %v, with %d commands", name, err, len(commands))
		}
	}
}
