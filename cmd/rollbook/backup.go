package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"filippo.io/age"

	"rollbook/projections/proof/backup"
)

type backupCommand struct {
	place     `embed:""`
	outfile   `embed:""`
	File      string   `arg:"" help:"The file to write." type:"path"`
	Recipient []string `help:"Encrypt to this age recipient (age1...); may be repeated." placeholder:"AGE"`
	Quiet     bool     `help:"Show no progress." short:"q"`
	JSON      bool     `help:"Print one JSON object." name:"json"`
}

// Help is shown by backup --help.
func (backupCommand) Help() string {
	return `The file holds the book, the directory with its password verifiers, and what else cannot be made again from these,
as of the moment of the command; the service may run meanwhile. Not in it: the deployment key, without which API keys and
what else is sealed under it cannot be opened, and the keys of the bus. Keep the deployment key elsewhere.

It is written under another name, synced, and then given its own; its mode is 0600. Print what the command says on paper,
or keep it where the backups are not: the roots tell whether a backup is what it was.`
}

// partLine is what a backup holds of a partition.
type partLine struct {
	Partition int    `json:"partition"`
	Pages     uint64 `json:"pages"`
	Events    uint64 `json:"events"`
	Root      string `json:"root"`
}

// backupLine is what a backup holds.
type backupLine struct {
	File    string     `json:"file"`
	Made    time.Time  `json:"made"`
	Program string     `json:"program"`
	Beside  uint64     `json:"beside"` // entries of the directory, and what else stands beside the book
	Parts   []partLine `json:"partitions"`
}

func lineOf(file string, s backup.Summary) backupLine {
	l := backupLine{File: file, Made: s.MadeAt(), Program: s.Program, Beside: s.Beside}
	for p, part := range s.Parts {
		l.Parts = append(l.Parts, partLine{p, part.Pages, part.Events, hex.EncodeToString(part.Root[:])})
	}
	return l
}

// print shows a backup, and what was done with it.
func (l backupLine) print(to io.Writer, asJSON bool, done string) error {
	if asJSON {
		return printJSON(to, l)
	}
	t := table{header: []string{"PARTITION", "PAGES", "EVENTS", "ROOT"}}
	for _, p := range l.Parts {
		t.row(fmt.Sprint(p.Partition), fmt.Sprint(p.Pages), fmt.Sprint(p.Events), p.Root)
	}
	if err := t.print(to); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "%s\n", done)
	return err
}

// Run writes a backup.
func (c *backupCommand) Run(ctx context.Context, app *cli) error {
	recipients, err := recipientsOf(c.Recipient)
	if err != nil {
		return err
	}
	if err := c.outfile.mayWrite(c.File); err != nil {
		return err
	}
	d, err := c.open(ctx, app.operatorLog())
	if err != nil {
		return err
	}
	defer d.close()
	bar := newBar(c.Quiet, "backup")
	var s backup.Summary
	err = c.outfile.fill(c.File, func(to io.Writer) error {
		sealed, err := sealTo(to, recipients)
		if err != nil {
			return err
		}
		s, err = backup.Write(ctx, backup.WriteConfig{Bus: d.bus, Layout: d.layout, Program: thisBuild().Version, Now: time.Now(), Progress: bar.show}, sealed)
		return errors.Join(err, sealed.Close())
	})
	bar.clear()
	if err != nil {
		return err
	}
	l := lineOf(c.File, s)
	return l.print(os.Stdout, c.JSON, fmt.Sprintf("wrote %s: %d pages, and %d entries beside them", c.File, s.Pages(), s.Beside))
}

func recipientsOf(list []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range list {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, refuse("usage", "--recipient %q is no age recipient: they begin with age1", text)
		}
		all = append(all, r)
	}
	return all, nil
}

// sealTo encrypts what is written, unless there is nobody to encrypt to.
func sealTo(to io.Writer, recipients []age.Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return inTheClear{to}, nil
	}
	return age.Encrypt(to, recipients...)
}

type inTheClear struct{ io.Writer }

func (inTheClear) Close() error { return nil }

// ageMark is how an encrypted file begins.
var ageMark = []byte("age-encryption.org/")

// openBackup opens a backup for reading, and decrypts it when it is encrypted.
func openBackup(path, identityFile string) (io.Reader, io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, refuse("usage", "%w", err)
	}
	text, err := plainText(f, path, identityFile)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return text, f, nil
}

func plainText(f io.Reader, path, identityFile string) (io.Reader, error) {
	from := bufio.NewReader(f)
	if begin, _ := from.Peek(len(ageMark)); !bytes.Equal(begin, ageMark) {
		return from, nil // what it is, its reader finds out
	}
	if identityFile == "" {
		return nil, refuse("encrypted", "%s is encrypted: name the file with the age identity with --identity-file", path)
	}
	keys, err := os.Open(identityFile)
	if err != nil {
		return nil, refuse("usage", "%w", err)
	}
	defer keys.Close()
	identities, err := age.ParseIdentities(keys)
	if err != nil {
		return nil, refuse("usage", "%s holds no age identity", identityFile) // and not what it holds
	}
	text, err := age.Decrypt(from, identities...)
	if err != nil {
		return nil, refuse("encrypted", "%s cannot be opened with the identities of %s: %w", path, identityFile, err)
	}
	return text, nil
}
