package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"rollbook/adapters"
	"rollbook/projections/directory"
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
