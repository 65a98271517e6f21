package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rollbook/bus"
	"rollbook/projections/proof"
)

type auditCheckpoints struct {
	place       `embed:""`
	vkeySetting `embed:""`
	Save        string `help:"Keep the newest checkpoint of each partition in this directory, p<N>.checkpoint, for verify --known; it must go on from the one that is there. Empty: list them all." placeholder:"DIR" type:"path" default:""`
	JSON        bool   `help:"Print one JSON object a line." name:"json"`
}

// Help is shown by checkpoints --help.
func (auditCheckpoints) Help() string {
	return `With --save DIR, run it now and then from elsewhere, always with the same directory. A checkpoint that is kept there is
replaced by one that is proved to go on from it, and by no other: when what is signed now is older, or of another history,
that is said, nothing is written, and the exit code is 1.`
}

// checkpointLine is a checkpoint in a list.
type checkpointLine struct {
	Partition bus.Partition `json:"partition"`
	Number    uint64        `json:"checkpoint"`
	Page      uint64        `json:"page"`
	Leaves    int64         `json:"leaves"`
	Root      string        `json:"root"`
	Stored    time.Time     `json:"stored"` // by the bus's clock
	Origin    string        `json:"origin"`
}

// Run lists the checkpoints, or keeps the newest.
func (c *auditCheckpoints) Run(ctx context.Context, app *cli) error {
	key, err := c.keyOf(c.place)
	if err != nil {
		return err
	}
	if c.Save != "" {
		return c.keep(ctx, app, key)
	}
	var lines []checkpointLine
	err = c.atBook(ctx, app, func(d *desk) error {
		return noNotary(d.bus.ReadCheckpoints(ctx, 0, func(r bus.NotaryRecord) error {
			if r.Leaves {
				return nil
			}
			s, err := key.Open(r.Partition, r.Data)
			if err != nil {
				return fmt.Errorf("message %d: %w", r.Seq, err)
			}
			lines = append(lines, checkpointLine{s.Partition, s.Number, s.Page, s.Size, s.Root.String(), r.Stored, key.Origin(s.Partition)})
			return nil
		}))
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSONLines(os.Stdout, lines)
	}
	list := table{header: []string{"PARTITION", "CHECKPOINT", "PAGE", "LEAVES", "STORED", "ROOT"}, none: "nothing has been signed"}
	for _, l := range lines {
		list.row(l.Partition.String(), strconv.FormatUint(l.Number, 10), strconv.FormatUint(l.Page, 10), strconv.FormatInt(l.Leaves, 10), moment(&l.Stored), l.Root)
	}
	return list.print(os.Stdout)
}

// keep puts the newest checkpoint of each partition into the directory of --save. What is kept there already is what shows
// a roll-back: it gives way to what goes on from it alone, and otherwise nothing at all is written.
func (c *auditCheckpoints) keep(ctx context.Context, app *cli, key proof.PublicKey) error {
	w, err := proof.NewWitness(key, nil)
	if err == nil {
		err = expectKept(w, c.Save, key)
	}
	if err != nil {
		return err
	}
	seen, err := witnessAll(ctx, app, c.place, w)
	if errors.Is(err, proof.ErrInconsistent) {
		return fmt.Errorf("nothing in %s was replaced: %w", c.Save, err)
	}
	if err != nil {
		return err
	}
	notes := map[bus.Partition][]byte{}
	for _, s := range seen {
		notes[s.Partition] = []byte(s.Note)
	}
	if len(notes) == 0 {
		return nothing("nothing has been signed")
	}
	return saveCheckpoints(c.Save, notes)
}

// witnessAll has a witness look at all that was signed.
func witnessAll(ctx context.Context, app *cli, from place, w *proof.Witness) (seen []proof.Seen, err error) {
	end := uint64(0)
	err = from.atBook(ctx, app, func(d *desk) error {
		return noNotary(d.bus.ReadCheckpoints(ctx, 0, func(r bus.NotaryRecord) error { end = r.Seq; return w.Add(r) }))
	})
	if err != nil {
		return nil, err
	}
	return w.Seen(end)
}

func keptPath(dir string, p bus.Partition) string {
	return filepath.Join(dir, "p"+p.String()+".checkpoint")
}

// keptCheckpoint is a partition's checkpoint in a directory, if there is one.
func keptCheckpoint(dir string, key proof.PublicKey, p bus.Partition) (c proof.Checkpoint, ok bool, err error) {
	text, err := os.ReadFile(keptPath(dir, p))
	if errors.Is(err, os.ErrNotExist) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("read a checkpoint: %w", err)
	}
	if c, err = key.Open(p, text); err != nil {
		return c, false, refuse("known", "%s is not replaced: %w", keptPath(dir, p), err)
	}
	return c, true, nil
}

// expectKept has a witness expect what is kept in a directory.
func expectKept(w *proof.Witness, dir string, key proof.PublicKey) error {
	for p := range bus.Partition(bus.MaxPartitions) {
		c, ok, err := keptCheckpoint(dir, key, p)
		if err == nil && ok {
			err = w.Expect(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// saveCheckpoints keeps a signed checkpoint of each partition.
func saveCheckpoints(dir string, notes map[bus.Partition][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the checkpoints: %w", err)
	}
	for p := range bus.Partition(bus.MaxPartitions) {
		note, ok := notes[p]
		if !ok {
			continue
		}
		if err := writeWhole(keptPath(dir, p), note); err != nil {
			return fmt.Errorf("keep the checkpoints: %w", err)
		}
		if _, err := fmt.Println(keptPath(dir, p)); err != nil {
			return err
		}
	}
	return nil
}

type auditWitness struct {
	place       `embed:""`
	vkeySetting `embed:""`
	Dir         string `help:"Where the witness keeps what it has seen, and p<N>.checkpoint, cosigned. It is not the book's machine." placeholder:"DIR" type:"path" required:""`
	KeyFile     string `help:"The witness's private key; rollbook audit key makes one." placeholder:"FILE" type:"path" required:""`
}

// Help is shown by witness --help.
func (auditWitness) Help() string {
	return `Run it now and then, as somebody whom those who run the bus do not control. It reads the checkpoints since its last run
and folds one to the next from the leaf hashes beside them; it needs no right to read the book. What does not go on from what
it saw is refused, with exit code 1, and is not cosigned. rollbook audit verify --known p0.checkpoint --witness VKEY then
relies on it.`
}

// fileSeen is what a witness remembers, in its directory.
const fileSeen = "seen.json"

// Run looks at the checkpoints once.
func (c *auditWitness) Run(ctx context.Context, app *cli) error {
	key, err := c.keyOf(c.place)
	if err != nil {
		return err
	}
	own, err := notaryKey(c.KeyFile, "", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	seen, err := readSeen(filepath.Join(c.Dir, fileSeen))
	if err != nil {
		return err
	}
	w, err := proof.NewWitness(key, seen)
	if err == nil {
		err = expectKept(w, c.Dir, key) // also when seen.json is gone
	}
	if err != nil {
		return err
	}
	if seen, err = witnessAll(ctx, app, c.place, w); err != nil {
		return err
	}
	notes := map[bus.Partition][]byte{}
	for _, s := range seen {
		if notes[s.Partition], err = own.Cosign(key, s, time.Now()); err != nil {
			return err
		}
	}
	text, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("remember what was seen: %w", err)
	}
	// Remembered first: a crash between leaves older cosigned checkpoints, which are still true.
	if err := writeWhole(filepath.Join(c.Dir, fileSeen), text); err != nil {
		return fmt.Errorf("remember what was seen: %w", err)
	}
	return saveCheckpoints(c.Dir, notes)
}

func readSeen(path string) (seen []proof.Seen, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &seen)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the witness saw: %w", err)
	}
	return seen, nil
}

type auditKey struct {
	Name string `arg:"" help:"The name that stands in what is signed: for a notary the book's, such as rollbook/example.com, for ever; for a witness its own."`
	Out  string `help:"Write the private key, notary.key, and the public one, notary.vkey, into this directory. For a witness: witness.key and witness.vkey." placeholder:"DIR" type:"path" required:""`
	For  string `help:"Whom the key is for: notary or witness." enum:"notary,witness" default:"notary"`
}

// Run makes the key.
func (c *auditKey) Run(context.Context) error {
	private := filepath.Join(c.Out, c.For+".key")
	if _, err := os.Stat(private); !errors.Is(err, os.ErrNotExist) {
		return refuse("exists", "there is a key in %s already: losing it ends the history that was signed with it", private)
	}
	if err := os.MkdirAll(c.Out, 0o700); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	key, err := makeNotaryKey(c.Out, c.Name, c.For+".key", c.For+".vkey")
	if err != nil {
		return err
	}
	public := key.Public().String()
	if c.For == "witness" {
		public = key.Witness().String()
		if err := writeWhole(filepath.Join(c.Out, "witness.vkey"), []byte(public+"\n")); err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
	}
	_, err = fmt.Println(public)
	return err
}
