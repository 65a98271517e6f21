package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rollbook/bus"
	"rollbook/projections/proof"
)

type auditExport struct {
	place       `embed:""`
	vkeySetting `embed:""`
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
	key, err := c.key(c.place)
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
	if err := replaceable(c.File); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), "."+filepath.Base(c.File)+"-*")
	if err != nil {
		return 0, fmt.Errorf("write the export: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), c.File)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	w, err := proof.NewWriter(f, key, parts)
	if err != nil {
		return 0, err
	}
	bar := newBar(false, "export")
	defer bar.clear()
	cfg := proof.ScanConfig{Partitions: parts, From: c.From, Through: c.Through, Progress: bar.show}
	err = proof.Scan(ctx, &proof.Live{Bus: d.bus}, cfg, w.Begin, func(r proof.Record) error {
		if r.Kind == proof.PageRecord {
			pages++
		}
		return w.Add(r)
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	return pages, err
}
