package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/history"
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
	Since       string `help:"Like --from, with the first page that was written at this time or later: 2026-01-31T18:00:00Z, 2026-01-31 18:00, 18:00:05.250, today, or how long ago, such as 2h or 3d." placeholder:"TIME"`
	Until       string `help:"Like --through, with the last page that was written before this time; one of that very time is not wanted." placeholder:"TIME"`
}

// Help is shown by export --help.
func (auditExport) Help() string {
	return `An export holds whole pages, from one checkpoint to another, so that it can be verified: there may be more in it, before and
after, than was asked for. A partition in which nothing was written between --since and --until is left out, and that is said.`
}

// Run writes the export.
func (c *auditExport) Run(ctx context.Context, app *cli) error {
	if c.Through > 0 && c.From > c.Through {
		return refuse("usage", "--from %d is after --through %d", c.From, c.Through)
	}
	if err := c.outfile.mayWrite(c.File); err != nil {
		return err
	}
	since, until, err := c.times(time.Now())
	if err != nil {
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
		cfg, err := c.stretches(ctx, d, parts, since, until)
		if err != nil {
			return err
		}
		pages, err := c.write(ctx, d, key, cfg)
		if err != nil {
			return noNotary(err)
		}
		_, err = fmt.Printf("wrote %d pages to %s\n", pages, c.File)
		return err
	})
}

// times reads --since and --until.
func (c *auditExport) times(now time.Time) (since, until session.Instant, err error) {
	switch {
	case c.From > 0 && c.Since != "":
		return 0, 0, refuse("usage", "--from and --since exclude each other")
	case c.Through > 0 && c.Until != "":
		return 0, 0, refuse("usage", "--through and --until exclude each other")
	}
	return readStretch("--since", c.Since, "--until", c.Until, now)
}

// stretches turns times into the pages of each partition.
func (c *auditExport) stretches(ctx context.Context, d *desk, parts []bus.Partition, since, until session.Instant) (proof.ScanConfig, error) {
	cfg := proof.ScanConfig{Partitions: parts, From: c.From, Through: c.Through}
	if since == 0 && until == 0 {
		return cfg, nil
	}
	cfg.Partitions, cfg.Parts = nil, map[bus.Partition]proof.Stretch{}
	for _, p := range parts {
		want, some, err := c.stretch(ctx, d.bus.Book(p), since, until)
		if err != nil {
			return cfg, err
		}
		if !some {
			if err := nothing("nothing was written in partition %s at that time: it is left out", p); err != nil {
				return cfg, err
			}
			continue
		}
		cfg.Partitions, cfg.Parts[p] = append(cfg.Partitions, p), want
	}
	if len(cfg.Partitions) == 0 {
		return cfg, refuse("not_found", "nothing was written at that time")
	}
	return cfg, nil
}

// stretch is what is wanted of one book; some: there is anything.
func (c *auditExport) stretch(ctx context.Context, book *bus.Book, since, until session.Instant) (want proof.Stretch, some bool, err error) {
	want = proof.Stretch{From: c.From, Through: c.Through}
	end, err := book.End(ctx)
	if err != nil {
		return want, false, err
	}
	first, last := max(c.From, 1), end
	if since != 0 {
		if first, err = history.PageAt(ctx, book, since, end); err != nil {
			return want, false, err
		}
		want.From = first
	}
	if c.Through != 0 {
		last = min(last, c.Through)
	}
	if until != 0 {
		behind, err := history.PageAt(ctx, book, until, end)
		if err != nil {
			return want, false, err
		}
		last = behind - 1
		want.Through = last
	}
	return want, first <= last, nil
}

// write leaves the whole file or none.
func (c *auditExport) write(ctx context.Context, d *desk, key proof.PublicKey, cfg proof.ScanConfig) (pages int, err error) {
	bar := newBar(false, "export")
	defer bar.clear()
	cfg.Progress = bar.show
	signed := false
	err = c.outfile.fill(c.File, func(to io.Writer) error {
		w, err := proof.NewWriter(to, key, cfg.Partitions)
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
