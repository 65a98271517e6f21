package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// apiKeyLength is how many bytes an API key has: what advAuth's profiles take.
const apiKeyLength = 16

type userAPIKey struct {
	userNamed         `embed:""`
	DeploymentKeyFile string `help:"The file with the deployment key, which seals API keys; required with --bus. Empty: deployment.key in the data directory." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_DEPLOYMENT_KEY_FILE"`
	Venue             string `help:"The venue that the key is for: advauth or nebula." enum:"advauth,nebula" required:"" placeholder:"VENUE"`
	Remove            bool   `help:"Take the key away."`
	JSON              bool   `help:"Print one JSON object." name:"json"`
}

// Help is shown by `user apikey --help`.
func (userAPIKey) Help() string {
	return `The key is made here, 16 random bytes, and printed once: it cannot be shown again. The one before is void at once,
and sessions stay. advAuth's clients take it in base64 with the user's login name. Nebula's sign with the secret, and
name the user's login name as the key's id.`
}

// Run gives the user the key, first in the directory and then in the book, or takes it away.
func (c *userAPIKey) Run(ctx context.Context, app *cli) error {
	venue, err := session.ParseVenue(c.Venue)
	if err != nil {
		return refuse("usage", "%w", err)
	}
	return c.on(ctx, app, func(d *desk, _ *directory.Store, r directory.Record) error {
		if !r.AllowedAt(venue) {
			return refuse(session.NotPermitted.String(), "%s may not log in at %s", r.Names[0], venue)
		}
		deployment, err := c.sealingKey(d)
		if err != nil {
			return err
		}
		_, has := r.Keys[venue.String()]
		if c.Remove && !has {
			return refuse("no_key", "%s has no API key for %s", r.Names[0], venue)
		}
		var key []byte
		if !c.Remove {
			key = newAPIKey()
		}
		if err := giveKey(ctx, d, deployment, r.User, venue, key); err != nil {
			return err
		}
		if c.Remove {
			_, err := fmt.Printf("%s has no API key for %s any more\n", printable(r.Names[0]), venue)
			return err
		}
		return shownKeyOf(r.Names[0], venue, key).print(c.JSON)
	})
}

// sealingKey reads the deployment key. It makes none: one that the service does not have would seal for nobody.
func (c *userAPIKey) sealingKey(d *desk) (key [32]byte, err error) {
	path := c.DeploymentKeyFile
	if path == "" && c.Bus != "" {
		return key, refuse("usage", "--bus needs --deployment-key-file: it seals API keys")
	}
	if path == "" {
		dir, err := c.dir()
		if err != nil {
			return key, err
		}
		path = filepath.Join(dir, fileDeploymentKey)
	}
	return deploymentKey(path, "", d.log)
}

func newAPIKey() []byte {
	key := make([]byte, apiKeyLength)
	rand.Read(key)
	return key
}

// giveKey stores a user's API key, or with an empty one takes it away, and announces the credential's new generation. A
// crash in between is repaired by the user's next login, which announces it, or by the same command again.
func giveKey(ctx context.Context, d *desk, deployment [32]byte, user session.UserID, venue session.Venue, key []byte) error {
	kv, err := d.bus.Directory(ctx)
	if err != nil {
		return err
	}
	store, err := directory.NewStore(kv, directory.StoreConfig{DeploymentKey: deployment})
	if err != nil {
		return err
	}
	credential, err := store.SetKey(ctx, user, venue, key)
	if err != nil {
		return directoryRefusal(err)
	}
	reply, err := d.doFor(ctx, user, &session.ChangeCredential{User: user, Credential: credential})
	if err != nil {
		return fmt.Errorf("the API key is changed, but the book does not know yet: repeat the command: %w", err)
	}
	return refuseBy(reply.Refusal, "the writer refused")
}

// shownKey is an API key in the form that the venue's clients take.
type shownKey struct {
	Venue string `json:"venue"`
	Name  string `json:"login"` // at Nebula the key's id
	Key   string `json:"key"`   // at Nebula the secret
}

func shownKeyOf(name string, venue session.Venue, key []byte) shownKey {
	if venue == session.Nebula {
		return shownKey{venue.String(), name, hex.EncodeToString(key)}
	}
	return shownKey{venue.String(), name, base64.StdEncoding.EncodeToString(key)}
}

func (k shownKey) print(asJSON bool) error {
	if asJSON {
		return printJSON(os.Stdout, k)
	}
	login, key := "login", "API key"
	if k.Venue == session.Nebula.String() {
		login, key = "key id", "secret"
	}
	_, err := fmt.Printf("%-8s %s\n%-8s %s\n", login, printable(k.Name), key, k.Key)
	return err
}

// furnishDemoKeys gives the demo's user the API keys that the screen shows, unless a demo before this one has, and
// returns when this process knows them.
func (h *house) furnishDemoKeys(ctx context.Context, d *desk) error {
	user, _ := h.directory.Find(demoName)
	h.demoKeys = map[session.Venue]shownKey{}
	for _, door := range h.doors {
		if !slices.Contains([]session.Venue{session.AdvAuth, session.Nebula}, door.venue) {
			continue
		}
		key, _, ok := h.directory.Key(user, door.venue)
		if !ok {
			if err := giveKey(ctx, d, h.key, user, door.venue, newAPIKey()); err != nil {
				return err
			}
		}
		for !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
			key, _, ok = h.directory.Key(user, door.venue)
		}
		h.demoKeys[door.venue] = shownKeyOf(demoName, door.venue, key)
	}
	return nil
}
