package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rollbook/bus"
	"rollbook/projections/proof"
)

type auditRotate struct {
	place         `embed:""`
	NotaryKeyFile string `help:"The file with the notary's private key. Empty: notary.key of the data directory." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_NOTARY_KEY_FILE"`
	Retire        bool   `help:"Take the private halves of the keys that have handed over out of the file, once every partition is signed by the new one."`
}

// Help is shown by rotate --help.
func (auditRotate) Help() string {
	return `A new key of the same name is put behind the one in the file, and its public half into the .vkey file beside. Give that file, with
both lines, to everybody who checks, and to the pods (--notary-vkey); then start the notary again. The next checkpoint of each
partition is signed by both keys, and so hands over; all after it by the new one alone. Nothing else makes a key count: one
that signs without such a checkpoint is a finding.

When every partition has been signed since, rotate --retire leaves the old key's public half in its place. Start the notary again
then too. Keep the lines of the .vkey file for as long as there is something to check that an old key has signed.`
}

// Run rotates the key, or retires the old one.
func (c *auditRotate) Run(ctx context.Context, app *cli) error {
	path := c.NotaryKeyFile
	if path == "" {
		if err := c.expectBook(); err != nil {
			return err
		}
		if c.Bus != "" {
			return refuse("usage", "--notary-key-file is missing: on a bus elsewhere the key lies with its notary")
		}
		dir, err := c.dir()
		if err != nil {
			return err
		}
		path = filepath.Join(dir, fileNotaryKey)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return refuse("notary_key", "%w", err)
	}
	defer clear(text)
	key, err := proof.ParseKey(string(text))
	if err != nil {
		return refuse("notary_key", "%s does not hold a notary's key", path)
	}
	if c.Retire {
		return c.retire(ctx, app, path, key)
	}
	if key.Handing() {
		return refuse("rotating", "%s has a key that is to hand over already: finish that with --retire", path)
	}
	if key, err = key.Successor(); err != nil {
		return err
	}
	// The public half first: a crash between leaves one there that signs nothing, and that the next attempt replaces.
	public := strings.TrimSuffix(path, ".key") + ".vkey"
	if err := writeWhole(public, []byte(key.Public().String()+"\n")); err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	if err := writeWhole(path, []byte(key.Text()+"\n")); err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	_, err = fmt.Printf("%s\n%s and %s have both keys: the notary hands over after its next start\n", key.Public(), path, public)
	return err
}

// retire looks at every partition first: a key that has not handed over everywhere is needed.
func (c *auditRotate) retire(ctx context.Context, app *cli, path string, key proof.Key) error {
	if !key.Handing() {
		return refuse("rotating", "%s has no key that could be retired", path)
	}
	err := c.atBook(ctx, app, func(d *desk) error {
		for p := range bus.Partition(d.layout.Partitions) {
			last, err := d.bus.LastCheckpoint(ctx, p)
			if err != nil {
				return noNotary(err)
			}
			over, err := key.Public().HandedOver(last)
			if err != nil {
				return fmt.Errorf("partition %s: %w", p, err)
			}
			if !over {
				return refuse("rotating", "partition %s has not been signed since by the new key: something has to happen there first", p)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := writeWhole(path, []byte(key.Retire().Text()+"\n")); err != nil {
		return fmt.Errorf("retire the key: %w", err)
	}
	_, err = fmt.Printf("%s has the new key alone\n", path)
	return err
}
