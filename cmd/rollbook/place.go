package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"

	"rollbook/bus"
)

// What this program adds to a data directory; the rest is the embedded bus's own.
const (
	fileDeploymentKey = "deployment.key"
	fileOperatorKey   = "operator.nk" // the embedded bus's
	fileDemo          = "demo"        // its presence says that the directory was made by `serve --demo`
)

// place says where the book is: in a data directory, with an embedded bus, or on a bus elsewhere.
type place struct {
	Data   string `help:"The data directory: the embedded bus, its keys, the deployment key. Empty: $XDG_STATE_HOME/rollbook, or ~/.local/state/rollbook." placeholder:"DIR" type:"path" default:"" env:"ROLLBOOK_DATA"`
	Bus    string `help:"The URL of a NATS server to use in place of the embedded one, such as nats://host:4222; several separated by commas. Empty: embedded." placeholder:"URL" env:"ROLLBOOK_BUS"`
	Creds  string `help:"With --bus: the file with the credentials, a .creds file or an nkey seed. Empty: none." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_CREDS"`
	BusTLS busTLS `embed:"" prefix:"bus-tls-"`
}

// keyFile says where the deployment key is.
type keyFile struct {
	DeploymentKeyFile string `help:"The file with the deployment key, 32 bytes or 64 hexadecimal digits, the same for all pods; required with --bus. Empty: deployment.key in the data directory, made once." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_DEPLOYMENT_KEY_FILE"`
}

// dir is the data directory.
func (p place) dir() (string, error) {
	if p.Data != "" {
		return p.Data, nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "rollbook"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", refuse("usage", "there is no home directory to keep data in: name a data directory with --data")
	}
	return filepath.Join(home, ".local", "state", "rollbook"), nil
}

// check refuses what cannot be meant.
func (p place) check() error {
	switch {
	case p.Bus != "" && p.Data != "":
		return refuse("usage", "--data and --bus exclude each other: the book is in a data directory or on a bus elsewhere")
	case p.Bus == "" && p.Creds != "":
		return refuse("usage", "--creds is for --bus: the embedded bus keeps its own keys")
	}
	return p.BusTLS.check()
}

// expectBook refuses, without opening anything, a place where there can be no book.
func (p place) expectBook() error {
	if err := p.check(); err != nil || p.Bus != "" {
		return err
	}
	dir, err := p.dir()
	if err == nil && !holdsBook(dir) {
		err = p.noBook(bus.ErrNotCreated)
	}
	return err
}

// connect reaches the bus of --bus.
func (p place) connect(ctx context.Context, name string, log *slog.Logger) (*bus.Bus, error) {
	return inOneWord(bus.Connect(ctx, bus.ConnectConfig{URL: p.Bus, Creds: p.Creds, TLS: p.BusTLS.client(), Name: name, Log: log}))
}

// connectRunning reaches the bus of the instance that runs on a data directory, on this machine.
func (p place) connectRunning(ctx context.Context, url, dir, name string, log *slog.Logger) (*bus.Bus, error) {
	secure := p.BusTLS.client()
	secure.SameMachine = true
	return inOneWord(bus.Connect(ctx, bus.ConnectConfig{URL: url, Creds: filepath.Join(dir, fileOperatorKey), TLS: secure, Name: name, Log: log}))
}

// inOneWord makes what only a setting mends a refusal.
func inOneWord(b *bus.Bus, err error) (*bus.Bus, error) {
	if errors.Is(err, bus.ErrTLS) {
		return nil, refuse("tls", "%w", err)
	}
	return b, err
}

// shown is --bus without the password that may stand in it.
func (p place) shown() string {
	servers := strings.Split(p.Bus, ",")
	for i, server := range servers {
		if at, err := neturl.Parse(server); err == nil {
			servers[i] = at.Redacted()
		}
	}
	return strings.Join(servers, ",")
}

// noBook turns "nothing has been created there" into what to do about it.
func (p place) noBook(err error) error {
	if errors.Is(err, bus.ErrRestoring) {
		return refuse("restoring", "%w: finish it with: rollbook restore FILE, with the same backup", err)
	}
	if !errors.Is(err, bus.ErrNotCreated) {
		return err
	}
	if p.Bus != "" {
		return refuse("not_created", "there is no book on %s: check --bus, or create one with: rollbook init --bus %[1]s", p.shown())
	}
	dir, _ := p.dir()
	switch info, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return refuse("not_created", "there is no book in %s: no such directory: check --data, or create one with: rollbook serve --data %s", dir, dir)
	case err == nil && !info.IsDir():
		return refuse("not_created", "%s is no directory: check --data", dir)
	}
	return refuse("not_created", "there is no book in %s: check --data, or create one with: rollbook serve --data %s", dir, dir)
}

// holdsBook reports whether an embedded bus has ever kept anything in the directory, without making it.
func holdsBook(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "jetstream"))
	return err == nil
}

// durable refuses a bus whose acknowledgements are not on disk, unless the operator has accepted the loss.
func durable(ctx context.Context, b *bus.Bus, accepted bool, log *slog.Logger) error {
	err := b.CheckDurability(ctx)
	if err == nil {
		return nil
	}
	if accepted {
		log.Warn("acknowledged sessions may be lost when a server of the bus loses power", "err", err)
		return nil
	}
	return refuse("not_durable", "%w: run the servers with sync_interval: always and let this account ask them, "+
		"or accept the loss with --accept-loss-window", err)
}

// marked reports whether a directory was made by `serve --demo`.
func marked(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileDemo))
	return err == nil
}

// mark says of a directory that it is a demo's. It comes before the book is created: a crash in between leaves a mark
// without a book, which the same command goes on from.
func mark(dir string) error {
	text := "Made by rollbook serve --demo: a user with a password that everybody can read.\n"
	if err := os.WriteFile(filepath.Join(dir, fileDemo), []byte(text), 0o600); err != nil {
		return fmt.Errorf("mark the directory as a demo's: %w", err)
	}
	return nil
}
