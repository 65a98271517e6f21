package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// vkeySetting says whose signatures count.
type vkeySetting struct {
	Vkey string `help:"The notary's public key, or the file that has it; after a rotation all of them, in their order. Empty: notary.vkey of the data directory. Have it from elsewhere than the book." placeholder:"VKEY" default:""`
}

// keyOf finds the public key for a command at a book. What is wrong with the place is said first: a mistyped directory has
// no key either.
func (v vkeySetting) keyOf(p place) (proof.PublicKey, error) {
	if err := p.expectBook(); err != nil {
		return proof.PublicKey{}, err
	}
	return v.key(p)
}

// key finds the public key where no book is needed.
func (v vkeySetting) key(p place) (proof.PublicKey, error) {
	if v.Vkey != "" {
		return publicKey(v.Vkey)
	}
	if p.Bus != "" {
		return proof.PublicKey{}, refuse("usage", "--vkey is missing: name the notary's public key, as its log and notary.vkey have it")
	}
	dir, err := p.dir()
	if err != nil {
		return proof.PublicKey{}, err
	}
	file := filepath.Join(dir, fileNotaryVKey)
	if _, err := os.Stat(file); err != nil {
		return proof.PublicKey{}, refuse("usage", "--vkey is missing, and there is no %s: name the notary's public key, as its log has it", file)
	}
	return publicKey(file)
}

type auditVerify struct {
	place       `embed:""`
	vkeySetting `embed:""`
	File        string   `arg:"" optional:"" help:"An export to verify offline. Left out: the live book." type:"path"`
	Known       []string `help:"A checkpoint that was kept earlier; may be repeated. What is verified must go on from it." placeholder:"FILE" type:"path"`
	Witness     string   `help:"A witness's public key, or the file that has it: for each partition a checkpoint of --known must be cosigned with it. Empty: none is asked for." placeholder:"VKEY" default:""`
	JSON        bool     `help:"Print one JSON object." name:"json"`
}

// Help is shown by verify --help.
func (auditVerify) Help() string {
	return `Every page up to the last checkpoint is hashed as it is stored, and the roots are compared with those that the notary
signed. A finding names the first bad position of its partition. What was rolled back as a whole, checkpoints and all, only
somebody notices who kept a checkpoint: rollbook audit checkpoints --save, and then --known. docs/audit.md says what is proved
and what is not.

The exit code is 1 when something was found, and when there is nothing to verify: no checkpoint of any partition.`
}

// verdict is what verify prints.
type verdict struct {
	Good       bool             `json:"good"`
	Findings   []proof.Finding  `json:"findings"`
	Partitions []proof.Verified `json:"partitions"`
	Seconds    float64          `json:"seconds"`
}

// Run verifies.
func (c *auditVerify) Run(ctx context.Context, app *cli) error {
	find := c.keyOf
	if c.File != "" && c.Data == "" {
		find = c.key // offline, nothing but the file and the key is needed
	}
	key, err := find(c.place)
	if err != nil {
		return err
	}
	known, err := c.kept(key)
	if err != nil {
		return err
	}
	start := time.Now()
	var said verdict
	if c.File != "" {
		said.Findings, said.Partitions, err = verifyFile(c.File, proof.NewVerifier(key, known...))
	} else {
		said.Findings, said.Partitions, err = c.verifyLive(ctx, app, func() *proof.Verifier { return proof.NewVerifier(key, known...) })
	}
	if err != nil {
		return err
	}
	if c.Witness != "" {
		if err := witnessedAll(said.Partitions, known); err != nil {
			return err
		}
	}
	said.Seconds, said.Good = time.Since(start).Seconds(), len(said.Findings) == 0
	if c.JSON {
		err = printJSON(os.Stdout, said)
	} else {
		err = said.print(os.Stdout)
	}
	if err == nil && !said.Good {
		err = said.bad()
	}
	return err
}

// bad is what was found first, as the command's error.
func (v verdict) bad() error {
	if v.Findings[0].Fault == proof.NothingProved {
		return fmt.Errorf("it is not verified: %s", v.Findings[0])
	}
	return fmt.Errorf("it is not what was signed: %s", v.Findings[0])
}

// kept reads the checkpoints of --known.
func (c *auditVerify) kept(key proof.PublicKey) (known []proof.Checkpoint, err error) {
	var witness proof.WitnessKey
	if c.Witness != "" {
		if witness, err = proof.ParseWitnessKey(keyText(c.Witness)); err != nil {
			return nil, refuse("vkey", "%q is no witness's public key, and no file that has one", c.Witness)
		}
	}
	for _, path := range c.Known {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read a checkpoint: %w", err)
		}
		checkpoint, err := key.OpenAny(text)
		if err != nil {
			return nil, refuse("known", "%s: %w", path, err)
		}
		if c.Witness != "" {
			if _, err := witness.Cosigned(text); err != nil {
				return nil, refuse("witness", "%s is not cosigned by %s", path, witness.Name())
			}
		}
		known = append(known, checkpoint)
	}
	return known, nil
}

// witnessedAll refuses a verdict about a partition of which the witness has said nothing.
func witnessedAll(parts []proof.Verified, known []proof.Checkpoint) error {
	has := map[bus.Partition]bool{}
	for _, c := range known {
		has[c.Partition] = true
	}
	for _, p := range parts {
		if !has[p.Partition] {
			return refuse("witness", "no cosigned checkpoint of partition %s was given: name it with --known", p.Partition)
		}
	}
	return nil
}

func verifyFile(path string, v *proof.Verifier) ([]proof.Finding, []proof.Verified, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the export: %w", err)
	}
	defer f.Close()
	return proof.VerifyExport(f, v)
}

// firstCheckpoint is how long verify waits for a notary's first checkpoint, which it makes a second after the first page.
const firstCheckpoint = 3 * time.Second

// verifyLive verifies what is on the bus. A service that has just begun may not have signed anything yet: it is given a moment.
func (c *auditVerify) verifyLive(ctx context.Context, app *cli, fresh func() *proof.Verifier) (findings []proof.Finding, reached []proof.Verified, err error) {
	err = c.place.atBook(ctx, app, func(d *desk) error {
		for end := time.Now().Add(firstCheckpoint); ; {
			bar := newBar(false, "verify")
			findings, reached, err = proof.VerifyLive(ctx, &proof.Live{Bus: d.bus}, proof.ScanConfig{Partitions: d.partitions(), Progress: bar.show}, fresh())
			bar.clear()
			none, unproved := proof.Unproved(reached)
			switch {
			case err != nil || len(findings) > 0 || !unproved:
				return noNotary(err)
			case d.own != nil || time.Now().After(end):
				findings = []proof.Finding{none}
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(firstCheckpoint / 20):
			}
		}
	})
	return findings, reached, err
}

// noNotary says what it means that there are no checkpoints.
func noNotary(err error) error {
	if errors.Is(err, bus.ErrNotCreated) {
		return refuse("no_notary", "there is no stream for checkpoints on this bus: it was made by an older program, and nothing has been signed; "+
			"the owner adds it with: rollbook init --upgrade")
	}
	return err
}

func (v verdict) print(to io.Writer) error {
	list := table{header: []string{"PARTITION", "VERIFIED THROUGH PAGE", "EVENTS", "LAST CHECKPOINT", "PAGES AFTER IT"}, none: "nothing has been signed"}
	var unproved []string
	for _, p := range v.Partitions {
		through, last := strconv.FormatUint(p.Page, 10), strconv.FormatUint(p.Checkpoint, 10)
		if p.Checkpoints == 0 {
			through, last = "none", "none"
			unproved = append(unproved, p.Partition.String())
		}
		list.row(p.Partition.String(), through, strconv.FormatUint(p.Events, 10), last, strconv.FormatUint(p.Uncovered, 10))
	}
	if err := list.print(to); err != nil {
		return err
	}
	for _, f := range v.Findings {
		if _, err := fmt.Fprintf(to, "%s: %s\n", f.Fault, printable(f.String())); err != nil {
			return err
		}
	}
	if !v.Good {
		return nil
	}
	if _, err := fmt.Fprintln(to, "every page that is covered is as it was signed"); err != nil || unproved == nil {
		return err
	}
	_, err := fmt.Fprintf(to, "nothing is proved of partition %s, which has no checkpoint here\n", strings.Join(unproved, ", "))
	return err
}

// atBook opens the book for reading alone.
func (p place) atBook(ctx context.Context, app *cli, do func(*desk) error) error {
	d, err := p.open(ctx, app.operatorLog())
	if err != nil {
		return err
	}
	defer d.close()
	return do(d)
}

func (d *desk) partitions() (list []bus.Partition) {
	for p := range bus.Partition(d.layout.Partitions) {
		list = append(list, p)
	}
	return list
}
