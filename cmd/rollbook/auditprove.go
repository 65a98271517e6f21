package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/proof"
)

type auditProve struct {
	place       `embed:""`
	vkeySetting `embed:""`
	outfile     `embed:""`
	File        string `arg:"" help:"The file to write the proofs to." type:"path"`
	Session     string `help:"Prove the events of this session." placeholder:"ID" xor:"what"`
	Position    string `help:"Prove the event at this position, PARTITION/PAGE.INDEX." placeholder:"POSITION" xor:"what"`
	Proofs      string `help:"Write each proof as a .tlog-proof file into this directory too, with the event's bytes beside it. Empty: no." placeholder:"DIR" type:"path" default:""`
}

// Help is shown by prove --help.
func (auditProve) Help() string {
	return `Who gets the file learns the events in it and nothing of others, and can check with the notary's public key alone that
they are in the book at those places. Events after the last checkpoint cannot be proved yet: it is at most a second old.
The book is read twice.`
}

// Run writes the proofs.
func (c *auditProve) Run(ctx context.Context, app *cli) error {
	want, only, err := c.wanted()
	if err != nil {
		return err
	}
	if err := c.outfile.mayWrite(c.File); err != nil {
		return err
	}
	key, err := c.keyOf(c.place)
	if err != nil {
		return err
	}
	return c.atBook(ctx, app, func(d *desk) error {
		var list []proof.Proven
		for _, p := range d.partitions() {
			if only >= 0 && int(p) != only {
				continue
			}
			last, err := d.bus.LastCheckpoint(ctx, p)
			if err != nil {
				return noNotary(err)
			}
			if last.Seq == 0 {
				continue
			}
			proven, err := proof.Prove(ctx, &proof.Live{Bus: d.bus}, key, last, want)
			if err != nil {
				return err
			}
			list = append(list, proven...)
		}
		if len(list) == 0 {
			return refuse("not_found", "nothing of the kind is covered by a checkpoint")
		}
		return c.write(key, list)
	})
}

// wanted says which events are to be proved, and in which partition; -1: in any.
func (c *auditProve) wanted() (want func(uint64, int, []byte) bool, only int, err error) {
	switch {
	case c.Position != "":
		at, err := bus.ParsePosition(c.Position)
		if err != nil {
			return nil, 0, refuse("usage", "--position: %w", err)
		}
		return func(page uint64, index int, _ []byte) bool { return page == at.Page && index == int(at.Index) }, int(at.Partition), nil
	case c.Session != "":
		id, err := session.ParseSessionID(c.Session)
		if err != nil {
			return nil, 0, refuse("usage", "--session: %w", err)
		}
		return func(_ uint64, _ int, data []byte) bool { return ofSession(data, id) }, -1, nil
	}
	return nil, 0, refuse("usage", "say what to prove: --session ID or --position PARTITION/PAGE.INDEX")
}

// ofSession reports whether an event is a session's.
func ofSession(data []byte, id session.SessionID) bool {
	if !bytes.Contains(data, id[:]) {
		return false
	}
	event, err := session.DecodeEvent(data)
	return err == nil && session.Describe(event).Get("session") == id
}

// write leaves the bundle last: where it is, all that belongs to it is there.
func (c *auditProve) write(key proof.PublicKey, list []proof.Proven) error {
	files, err := c.files(list)
	if err != nil {
		return err
	}
	for _, f := range files {
		err := c.outfile.fill(f.path, func(to io.Writer) error {
			_, err := to.Write(f.data)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := c.outfile.fill(c.File, func(to io.Writer) error { return proof.WriteBundle(to, key, list) }); err != nil {
		return err
	}
	_, err = fmt.Printf("proved %d events in %s\n", len(list), c.File)
	return err
}

// proofFile is a file of --proofs.
type proofFile struct {
	path string
	data []byte
}

// files are those of --proofs, none of which is there already.
func (c *auditProve) files(list []proof.Proven) (files []proofFile, err error) {
	if c.Proofs == "" {
		return nil, nil
	}
	if err := os.MkdirAll(c.Proofs, 0o700); err != nil {
		return nil, fmt.Errorf("write the proofs: %w", err)
	}
	for _, e := range list {
		name := filepath.Join(c.Proofs, fmt.Sprintf("p%s-%d.%d", e.Partition, e.Page, e.Index))
		files = append(files, proofFile{name + ".tlog-proof", []byte(e.Proof)},
			proofFile{name + ".leaf", proof.EventPreimage(e.Partition, e.Page, e.Index, e.Event)})
	}
	for _, f := range files {
		if err := c.outfile.mayWrite(f.path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

type auditVerifyProof struct {
	File string `arg:"" help:"What rollbook audit prove wrote." type:"path"`
	Vkey string `help:"The notary's public key, or the file that has it." placeholder:"VKEY" required:""`
	JSON bool   `help:"Print one JSON object an event." name:"json"`
}

// provenLine is a proved event as it is printed.
type provenLine struct {
	Position   string            `json:"position"`
	At         time.Time         `json:"at"`
	Type       session.EventType `json:"type"`
	Checkpoint uint64            `json:"checkpoint"`
	Event      session.Details   `json:"event"`
}

// Run checks the proofs.
func (c *auditVerifyProof) Run(context.Context) error {
	key, err := publicKey(c.Vkey)
	if err != nil {
		return err
	}
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("open the proofs: %w", err)
	}
	defer f.Close()
	list, err := proof.ReadBundle(f)
	if err != nil {
		return err
	}
	var lines []provenLine
	for _, e := range list {
		covered, err := e.Check(key)
		if err != nil {
			return err
		}
		event, err := session.DecodeEvent(e.Event)
		if err != nil {
			return fmt.Errorf("event %d of page %d is proved, and this program cannot read it: %w", e.Index, e.Page, err)
		}
		lines = append(lines, provenLine{bus.Position{Partition: e.Partition, Page: e.Page, Index: uint32(e.Index)}.String(), event.When().Time(), event.Type(), covered.Number, session.Describe(event)})
	}
	if c.JSON {
		return printJSONLines(os.Stdout, lines)
	}
	shown := table{header: []string{"POSITION", "AT", "EVENT", "CHECKPOINT"}, none: "no events"}
	for _, l := range lines {
		shown.row(l.Position, l.At.UTC().Format(time.RFC3339Nano), string(l.Type), fmt.Sprint(l.Checkpoint))
	}
	if err := shown.print(os.Stdout); err != nil {
		return err
	}
	_, err = fmt.Printf("%d events are in the book that %s signs\n", len(lines), key.Name())
	return err
}
