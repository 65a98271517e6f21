package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rollbook/bus"
	"rollbook/projections/proof/backup"
)

type restoreCommand struct {
	place        `embed:""`
	vkeySetting  `embed:""`
	File         string   `arg:"" help:"The backup." type:"path"`
	IdentityFile string   `help:"The file with the age identity that opens an encrypted backup." placeholder:"FILE" type:"path"`
	Known        []string `help:"A later backup of the same book, or one that is said to be, or a checkpoint of its notary: the history is known to have come that far. May be repeated." placeholder:"FILE" type:"path"`
	AcceptLoss   bool     `help:"Restore although --known says that the history went on: what came after is lost."`
	KeepSessions bool     `help:"Leave the sessions and one-time tokens of the backup alive. Who has logged out since is logged in again."`
	Replicas     int      `help:"How many servers of the bus keep each stream, 1 to 5. 0: as in the backup, and 1 in a data directory." default:"0" placeholder:"N"`
	Check        bool     `help:"Only read the backup and say whether it is whole."`
	Quiet        bool     `help:"Show no progress." short:"q"`
	JSON         bool     `help:"Print one JSON object." name:"json"`
}

// Help is shown by restore --help.
func (restoreCommand) Help() string {
	return `It fills a data directory that has no book, or a bus without streams (as owner), from a backup, and reads everything
back. The backup is read to its end first: one that is damaged or cut off changes nothing. Until it is done nothing else opens
the book. Cut short, the same command goes on.

A backup does not know who has logged out since. So every session in it ends, and every one-time token counts as used, unless
--keep-sessions is given. Nor does it know who was disabled since, or whose password was changed: see to that before clients
come back. The book says for ever where it was restored.`
}

// restoredLine is what a restore has done.
type restoredLine struct {
	backupLine
	Known    []string `json:"known,omitempty"`
	Replicas int      `json:"replicas,omitempty"`
	Ended    int      `json:"sessions_ended"`
	Used     int      `json:"one_time_tokens_used"`
	Checked  bool     `json:"only_checked,omitempty"`
}

// Run restores, or only checks.
func (c *restoreCommand) Run(ctx context.Context, app *cli) error {
	if err := c.place.check(); err != nil {
		return err
	}
	if c.Replicas < 0 || c.Replicas > 5 || c.Bus == "" && c.Replicas > 1 {
		return refuse("usage", "--replicas %d: use 1 to 5, and 1 in a data directory", c.Replicas)
	}
	s, err := c.examine()
	if err != nil {
		return err
	}
	line := restoredLine{backupLine: lineOf(c.File, s), Known: c.Known, Checked: c.Check}
	if c.Check {
		return c.report(line, fmt.Sprintf("%s is whole", c.File))
	}
	done, err := c.restore(ctx, app, s)
	if err != nil {
		return err
	}
	line.Replicas, line.Ended, line.Used = done.Layout.Replicas, done.Ended, done.Used
	text := fmt.Sprintf("restored %d pages; %s", s.Pages(), ended(uint64(done.Ended)))
	if c.KeepSessions {
		text = fmt.Sprintf("restored %d pages; sessions were left alive, those too whose owners have logged out since", s.Pages())
	}
	if err := c.report(line, text); err != nil || c.JSON {
		return err
	}
	return c.missingKeys()
}

// missingKeys says which keys of the old place the new directory lacks: no backup has them.
func (c *restoreCommand) missingKeys() error {
	dir, err := c.dir()
	if err != nil || c.Bus != "" {
		return err
	}
	var missing []string
	for _, name := range []string{fileDeploymentKey, fileNotaryKey} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = fmt.Printf("before the service starts in %s, put the old place's %s there: without the first the service "+
		"does not start here, without the second nobody goes on signing\n", dir, strings.Join(missing, " and "))
	return err
}

func (c *restoreCommand) report(line restoredLine, text string) error {
	if c.JSON {
		return printJSON(os.Stdout, line)
	}
	return line.print(os.Stdout, false, text)
}

// examine reads the backup through, and compares it with what is known.
func (c *restoreCommand) examine() (s backup.Summary, err error) {
	if s, err = c.verify(c.File); err != nil {
		return s, err
	}
	for _, path := range c.Known {
		shorter, err := c.compare(path, s)
		if errors.Is(err, backup.ErrOtherHistory) {
			return s, refuse("other_history", "%s and %s: %w", c.File, path, err)
		}
		if err != nil {
			return s, err
		}
		if shorter != nil && !c.AcceptLoss {
			return s, refuse("shorter", "%s: %w: restore a newer one, or accept the loss with --accept-loss", path, shorter)
		}
	}
	return s, nil
}

// compare says whether the backup is of the history that a file knows, and as shorter whether it has less of it.
func (c *restoreCommand) compare(path string, s backup.Summary) (shorter, err error) {
	k, known, err := c.known(path)
	if err != nil {
		return nil, err
	}
	if _, err := c.verify(c.File, k); err != nil {
		return nil, err
	}
	if err := k.Check(s); err != nil && !errors.Is(err, backup.ErrShorter) {
		return nil, err
	} else if err != nil {
		shorter = err
	}
	if known == nil {
		return shorter, nil
	}
	// And where the known history is longer: does it go on from this one?
	other := backup.KnownBy(s)
	if _, err := c.verify(path, other); err != nil {
		return nil, err
	}
	if err := other.Check(*known); errors.Is(err, backup.ErrOtherHistory) {
		return nil, err
	}
	return shorter, nil
}

// known reads another backup, whose summary it gives, or a checkpoint.
func (c *restoreCommand) known(path string) (*backup.Known, *backup.Summary, error) {
	text, err := beginning(path)
	if err != nil {
		return nil, nil, refuse("usage", "%w", err)
	}
	if backup.IsBackup(text) || bytes.HasPrefix(text, ageMark) {
		known, err := c.verify(path)
		return backup.KnownBy(known), &known, err
	}
	key, err := c.key(c.place)
	if err != nil {
		return nil, nil, err
	}
	checkpoint, err := key.OpenAny(text)
	if err != nil {
		return nil, nil, refuse("known", "%s is no backup, and %w", path, err)
	}
	return backup.KnownSigned(checkpoint), nil, nil
}

// beginning reads as much of a file as a checkpoint can have.
func beginning(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// verify reads one backup to its end.
func (c *restoreCommand) verify(path string, known ...*backup.Known) (backup.Summary, error) {
	from, file, err := openBackup(path, c.IdentityFile)
	if err != nil {
		return backup.Summary{}, err
	}
	defer file.Close()
	s, err := backup.Verify(from, known...)
	if errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrForeign) {
		return s, refuse("damaged", "%s: %w", path, err)
	}
	if err != nil {
		return s, refuse("damaged", "%s: %w", path, err) // of an encrypted file, its decryption says so
	}
	return s, nil
}

// restore fills the place. It waits for nobody: a service that runs on the directory has a book there.
func (c *restoreCommand) restore(ctx context.Context, app *cli, s backup.Summary) (done backup.Restored, err error) {
	d := &desk{log: app.operatorLog()}
	defer d.close()
	replicas := c.Replicas
	if c.Bus != "" {
		d.bus, err = c.connect(ctx, "rollbook restore", d.log)
	} else {
		replicas = 1
		err = c.startIn(ctx, d)
	}
	if err != nil {
		return done, err
	}
	from, file, err := openBackup(c.File, c.IdentityFile)
	if err != nil {
		return done, err
	}
	defer file.Close()
	bar := newBar(c.Quiet, "restore")
	done, err = backup.Restore(ctx, backup.RestoreConfig{Bus: d.bus, Summary: s, Replicas: replicas,
		KeepSessions: c.KeepSessions, Now: time.Now, Progress: bar.show}, from)
	bar.clear()
	switch {
	case errors.Is(err, bus.ErrExists):
		return done, refuse("exists", "there is something already, and a restore takes an empty place: %w", err)
	case errors.Is(err, backup.ErrOtherRestore):
		return done, refuse("other_restore", "%w", err)
	case err != nil:
		return done, err
	}
	_, err = d.bus.Open(ctx) // as the service will
	return done, err
}

// startIn starts the bus of a data directory.
func (c *restoreCommand) startIn(ctx context.Context, d *desk) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	d.own, err = bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir, Log: d.log})
	if errors.Is(err, bus.ErrDataDirInUse) {
		return refuse("exists", "another rollbook runs on %s: a restore takes an empty directory", dir)
	}
	if err != nil {
		return err
	}
	d.bus, err = d.own.Connect(ctx, "rollbook restore", d.log)
	return err
}
