package main

import (
	"context"
	"fmt"
	"io"

	"rollbook/bus"
	"rollbook/projections/proof"
)

type auditExport struct {
	place       `embed:""`
	vkeySetting `embed:""`
	outfile     `embed:""`
	File        string `arg:"" help:"The file to write." type:"path"`
	Partition   int    `help:"Only this partition. -1: all." default:"-1" placeholder:"N"`
	From        uint64 `help:"The first page that is wanted; the export begins after the last checkpoint before it. 0: the first." default:"0" placeholder:"PAGE"`
	Through     uint64 `help:"The last page that is wanted; the export ends with the first checkpoint at or after it. 0: the end of the book." default:"0" placeholder:"PAGE"`
}

// Run writes the export.
func (c *auditExport) Run(ctx context.Context, app *cli) error {
	if c.Through > 0 && c.From > c.Through {
		return refuse("usage", "--from %d is after --through %d", c.From, c.Through)
	}
	if err := c.outfile.mayWrite(c.File); err != nil {
		return err
	}
	key, err := c.keyOf(c.place)
	if err != nil {
		return err
	}
	return c.atBook(ctx, app, func(d *desk) error {
		parts := d.partitions()
		if c.Partition >= len(parts) {
			return refuse("usage", "--partition %d: the book has %d", c.Partition, len(parts))
		}
		if c.Partition >= 0 {
			parts = []bus.Partition{bus.Partition(c.Partition)}
		}
		pages, err := c.write(ctx, d, key, parts)
		if err != nil {
			return noNotary(err)
		}
		_, err = fmt.Printf("wrote %d pages to %s\n", pages, c.File)
		return err
	})
}

// write leaves the whole file or none.
func (c *auditExport) write(ctx context.Context, d *desk, key proof.PublicKey, parts []bus.Partition) (pages int, err error) {
	bar := newBar(false, "export")
	defer bar.clear()
	cfg := proof.ScanConfig{Partitions: parts, From: c.From, Through: c.Through, Progress: bar.show}
	signed := false
	err = c.outfile.fill(c.File, func(to io.Writer) error {
		w, err := proof.NewWriter(to, key, parts)
		if err != nil {
			return err
		}
		err = proof.Scan(ctx, &proof.Live{Bus: d.bus}, cfg, w.Begin, func(r proof.Record) error {
			switch r.Kind {
			case proof.PageRecord:
				pages++
			case proof.CheckpointRecord:
				signed = true
			}
			return w.Add(r)
		})
		if err != nil {
			return err
		}
		if !signed {
			return refuse("not_signed", "no checkpoint covers any of these pages yet: the file would prove nothing")
		}
		return w.Close()
	})
	return pages, err
}
