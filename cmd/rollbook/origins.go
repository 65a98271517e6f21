package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections"
	"rollbook/projections/directory"
	"rollbook/projections/history"
)

// proxySettings say who in front of the venues is believed about the client's address.
type proxySettings struct {
	TrustedProxies []string `help:"The proxies whose word about a client's address counts: addresses, or networks such as 10.0.0.0/8. Empty: none, and whoever connects is the client." placeholder:"NETWORK" env:"ROLLBOOK_TRUSTED_PROXIES"`
	ProxyHeader    string   `help:"The header in which the trusted proxies name their client; the other one is not looked at." enum:"x-forwarded-for,forwarded" default:"x-forwarded-for" env:"ROLLBOOK_PROXY_HEADER"`
}

// proxies are those that are trusted.
func (s proxySettings) proxies() (*adapters.Proxies, error) {
	p, err := adapters.NewProxies(s.TrustedProxies, s.ProxyHeader)
	if err != nil {
		return nil, refuse("usage", "--trusted-proxies: %w", err)
	}
	return p, nil
}

// openingKey says where the deployment key is for a command that shows where clients were, if it can.
type openingKey struct {
	DeploymentKeyFile string `help:"The file with the deployment key, which opens where clients were. Empty: deployment.key in the data directory; where there is none, that stays closed." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_DEPLOYMENT_KEY_FILE"`
}

// origins are what opens where clients were; nil, which opens nothing, when the deployment key is not at hand.
func (k openingKey) origins(ctx context.Context, p place, d *desk) (*directory.Origins, error) {
	path := k.DeploymentKeyFile
	if path == "" {
		if p.Bus != "" {
			return nil, nil
		}
		dir, err := p.dir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(dir, fileDeploymentKey)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
	}
	key, err := deploymentKey(path, "", d.log)
	if err != nil {
		return nil, err
	}
	store, err := d.store(ctx, directory.PasswordPolicy{})
	if err != nil {
		return nil, err
	}
	return store.Origins(ctx, key)
}

// shownOrigin is where a client was, as it is printed.
type shownOrigin struct {
	Address string `json:"address,omitempty"`
	Agent   string `json:"agent,omitempty"`
	Name    string `json:"presented_name,omitempty"`
}

func showOrigin(o session.Origin) *shownOrigin {
	shown := &shownOrigin{Agent: o.Agent, Name: o.Name}
	if o.Address.IsValid() {
		shown.Address = o.Address.String()
	}
	return shown
}

// cameFrom opens where the client of a live session was when it logged in; nil: that is not recorded, or does not open.
func (d *desk) cameFrom(ctx context.Context, l sessionLine, origins *directory.Origins) (*shownOrigin, error) {
	if origins == nil {
		return nil, nil
	}
	started, err := d.loginOf(ctx, l)
	if err != nil || started == nil {
		return nil, err
	}
	o, ok := origins.Open(l.User, started.Origin)
	if !ok {
		return nil, nil
	}
	return showOrigin(o), nil
}

var errFound = errors.New("found")

// loginOf finds the event that a session began with, by its time.
func (d *desk) loginOf(ctx context.Context, l sessionLine) (started *session.SessionStarted, err error) {
	book, at := d.bus.Book(bus.PartitionOf(string(l.User), d.layout.Partitions)), session.At(l.Started)
	end, err := book.End(ctx)
	if err != nil {
		return nil, err
	}
	first, err := history.PageAt(ctx, book, at, end)
	if err != nil {
		return nil, err
	}
	err = book.Read(ctx, first-1, end, func(stored bus.StoredPage) error {
		page, err := projections.DecodePage(book.Partition(), stored)
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if e, ok := e.(*session.SessionStarted); ok && e.Session == l.Session {
				started = e
				return errFound
			}
		}
		if page.Time > at {
			return errFound // it is not where it should be
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, fmt.Errorf("look for the login in the book: %w", err)
	}
	return started, nil
}
