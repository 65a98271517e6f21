package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// vkeySetting says whose signatures count.
type vkeySetting struct {
	Vkey string `help:"The notary's public key, or the file that has it. Empty: notary.vkey of the data directory. Have it from elsewhere than the book." placeholder:"VKEY" default:""`
}

func (v vkeySetting) key(p place) (proof.PublicKey, error) {
	if v.Vkey != "" {
		return publicKey(v.Vkey)
	}
	dir, err := p.dir()
	if err != nil {
		return proof.PublicKey{}, err
	}
	if p.Bus == "" {
		if _, err := os.Stat(filepath.Join(dir, fileNotaryVKey)); err == nil {
			return publicKey(filepath.Join(dir, fileNotaryVKey))
		}
	}
	return proof.PublicKey{}, refuse("usage", "--vkey is missing: name the notary's public key, as its log and notary.vkey have it")
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

The exit code is 1 when something was found.`
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
	key, err := c.key(c.place)
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
		said.Findings, said.Partitions, err = c.verifyLive(ctx, app, proof.NewVerifier(key, known...))
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
		err = fmt.Errorf("it is not what was signed: %s", said.Findings[0])
	}
	return err
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

func (c *auditVerify) verifyLive(ctx context.Context, app *cli, v *proof.Verifier) (findings []proof.Finding, reached []proof.Verified, err error) {
	err = c.place.atBook(ctx, app, func(d *desk) error {
		bar := newBar(false, "verify")
		defer bar.clear()
		findings, reached, err = proof.VerifyLive(ctx, &proof.Live{Bus: d.bus}, proof.ScanConfig{Partitions: d.partitions(), Progress: bar.show}, v)
		return noNotary(err)
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
	for _, p := range v.Partitions {
		list.row(p.Partition.String(), strconv.FormatUint(p.Page, 10), strconv.FormatUint(p.Events, 10), strconv.FormatUint(p.Checkpoint, 10), strconv.FormatUint(p.Uncovered, 10))
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
	_, err := fmt.Fprintln(to, "every page that is covered is as it was signed")
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
