package proof

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"rollbook/bus"
)

// exportFormat is the form of an export; another one is refused.
const exportFormat = "rollbook-export/v1"

// maxLine bounds a line of an export, in bytes: the largest message of the bus in base64, and its names.
const maxLine = 2 << 20

// exportHead is the first line of an export.
type exportHead struct {
	Format     string          `json:"format"`
	Name       string          `json:"name"` // of the key: the first part of each origin
	VKey       string          `json:"vkey"` // for convenience: an auditor has it from elsewhere
	Partitions []bus.Partition `json:"partitions"`
}

// exportLine is every other line.
type exportLine struct {
	Type      string        `json:"type"` // base, page, leaves, checkpoint, end
	Partition bus.Partition `json:"partition"`
	Page      uint64        `json:"page,omitempty"`
	Seq       uint64        `json:"seq,omitempty"`
	From      *uint64       `json:"from,omitempty"`
	Edge      string        `json:"edge,omitempty"`
	Note      string        `json:"note,omitempty"`
	Data      []byte        `json:"data,omitempty"` // base64
	Lines     int           `json:"lines,omitempty"`
}

// Writer writes an export: JSON Lines, a head, the records, and an end that counts the lines before it.
type Writer struct {
	out   *bufio.Writer
	json  *json.Encoder
	lines int
}

// NewWriter writes the head. The caller calls Close in the end, and closes to itself.
func NewWriter(to io.Writer, key PublicKey, partitions []bus.Partition) (*Writer, error) {
	w := &Writer{out: bufio.NewWriterSize(to, 1<<16)}
	w.json = json.NewEncoder(w.out)
	w.json.SetEscapeHTML(false)
	return w, w.line(exportHead{exportFormat, key.Name(), key.String(), partitions})
}

func (w *Writer) line(v any) error {
	if err := w.json.Encode(v); err != nil {
		return fmt.Errorf("write an export: %w", err)
	}
	w.lines++
	return nil
}

// Begin writes the checkpoint that a partition begins after.
func (w *Writer) Begin(r Record) error {
	line := lineOf(r)
	line.Type = "base"
	return w.line(line)
}

// Add writes a record.
func (w *Writer) Add(r Record) error { return w.line(lineOf(r)) }

// Close writes the end.
func (w *Writer) Close() error {
	if err := w.line(exportLine{Type: "end", Lines: w.lines}); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("write an export: %w", err)
	}
	return nil
}

func lineOf(r Record) exportLine {
	line := exportLine{Type: string(r.Kind), Partition: r.Partition, Page: r.Page, Seq: r.Seq, Edge: r.Edge}
	switch r.Kind {
	case CheckpointRecord:
		line.Note = string(r.Data)
	case LeavesRecord:
		line.From, line.Data = &r.From, r.Data
	default:
		line.Data = r.Data
	}
	return line
}

func (l exportLine) record() Record {
	r := Record{Kind: Kind(l.Type), Partition: l.Partition, Page: l.Page, Seq: l.Seq, Edge: l.Edge, Data: l.Data}
	if l.From != nil {
		r.From = *l.From
	}
	if l.Type == "base" || r.Kind == CheckpointRecord {
		r.Kind, r.Data = CheckpointRecord, []byte(l.Note)
	}
	return r
}

// VerifyExport verifies an export. A file that cannot be read to its end is a finding too, and one in which nothing is
// proved. The error is the reader's.
func VerifyExport(from io.Reader, v *Verifier) (findings []Finding, reached []Verified, err error) {
	in := bufio.NewReaderSize(from, maxLine)
	n, wrong := 0, ""
	for wrong == "" {
		var text []byte
		text, err = in.ReadSlice('\n')
		n++
		if errors.Is(err, io.EOF) {
			wrong = "the file is cut short"
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, nil, fmt.Errorf("read an export: %w", err)
		}
		var done bool
		if done, wrong = v.addLine(n, text); done {
			if _, err := in.ReadByte(); err == nil {
				n, wrong = n+1, "something follows the end"
			}
			break
		}
	}
	findings, reached = v.End()
	if none, ok := Unproved(reached); ok && len(findings) == 0 && wrong == "" {
		findings = append(findings, none)
	}
	if wrong != "" {
		findings = append(findings, Finding{Fault: BadFile, Index: -1, Line: n, Text: fmt.Sprintf("line %d: %s", n, wrong)})
	}
	return findings, reached, nil
}

// addLine takes the line n of an export, from 1. done: it was the end. wrong: why the rest is of no use.
func (v *Verifier) addLine(n int, text []byte) (done bool, wrong string) {
	if n == 1 {
		var head exportHead
		switch err := strictly(text, &head); {
		case err != nil:
			return false, "it is not the head of an export"
		case head.Format != exportFormat:
			return false, fmt.Sprintf("an export in the form %q, which this program does not read", head.Format)
		case head.Name != v.key.Name():
			return false, fmt.Sprintf("an export of %q, and the key is that of %q", head.Name, v.key.Name())
		case len(head.Partitions) == 0:
			return false, "an export of no partition"
		}
		for _, p := range head.Partitions {
			v.part(p)
		}
		return false, ""
	}
	var line exportLine
	if err := strictly(text, &line); err != nil {
		return false, "it is not a line of an export"
	}
	if v.parts[line.Partition] == nil && line.Type != "end" {
		return false, "it is of a partition that the head does not name"
	}
	switch line.Type {
	case "base":
		v.Begin(line.record())
	case string(PageRecord), string(LeavesRecord), string(CheckpointRecord):
		v.Add(line.record())
	case "end":
		if line.Lines != n-1 {
			return true, fmt.Sprintf("the end counts %d lines before it, and there are %d", line.Lines, n-1)
		}
		return true, ""
	default:
		return false, fmt.Sprintf("a line of the type %q", line.Type)
	}
	return false, ""
}

func strictly(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}
