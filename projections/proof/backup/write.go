package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"rollbook/bus"
)

// WriteConfig is what a backup is made of. All fields are required but those that say what they may be.
type WriteConfig struct {
	Bus     *bus.Bus
	Layout  bus.Layout // what Open gave
	Program string     // the version of this program
	Now     time.Time  // when the backup is begun
	// Progress is called after each page with how many of all there are; nil: nobody asks.
	Progress func(pages, of uint64)
}

// Write writes a backup. It works beside a running service: what it holds is the book up to the ends that it found, which
// the service may have passed meanwhile. A page that is damaged in the book ends it: the error names the page. What was
// written before an error is refused by every reader.
//
// What speaks of places in the book is read before the ends are asked for, and so speaks of no page that is missing; the
// directory after that, since a user's verifier may be newer than what the book says of it, and not older.
func Write(ctx context.Context, cfg WriteConfig, to io.Writer) (Summary, error) {
	c := &copier{cfg: cfg, file: newFileWriter(to)}
	s := Summary{Head: Head{Made: cfg.Now.UnixNano(), Program: cfg.Program, Partitions: cfg.Layout.Partitions, Replicas: cfg.Layout.Replicas}}
	if err := c.file.frame(kindHead, &s.Head); err != nil {
		return s, err
	}
	first, last := bus.TruthsBeside()
	if err := c.beside(ctx, first); err != nil {
		return s, err
	}
	var ends cut
	var all uint64
	for p := range bus.Partition(cfg.Layout.Partitions) {
		last, err := cfg.Bus.Book(p).End(ctx)
		if err != nil {
			return s, err
		}
		ends.Ends = append(ends.Ends, last)
		all += last
	}
	if err := c.file.frame(kindCut, &ends); err != nil {
		return s, err
	}
	if err := c.beside(ctx, last); err != nil {
		return s, err
	}
	for p, last := range ends.Ends {
		part, err := c.pages(ctx, bus.Partition(p), last, all)
		if err != nil {
			return s, err
		}
		s.Parts = append(s.Parts, part)
	}
	s.Beside = c.besides
	if err := c.file.frame(kindEnd, &end{Parts: s.Parts, Beside: s.Beside}); err != nil {
		return s, err
	}
	return s, c.file.close()
}

// copier writes one backup.
type copier struct {
	cfg     WriteConfig
	file    *fileWriter
	besides uint64
	copied  uint64 // pages
}

func (c *copier) beside(ctx context.Context, streams []string) error {
	for _, stream := range streams {
		err := c.cfg.Bus.EachBeside(ctx, stream, func(m bus.Beside) error {
			c.besides++
			return c.file.frame(kindBeside, &beside{Stream: m.Stream, Subject: m.Subject, Header: m.Header, Data: m.Data})
		})
		if err != nil && !errors.Is(err, bus.ErrNotCreated) { // a book need not have all of them
			return fmt.Errorf("back up: %w", err)
		}
	}
	return nil
}

func (c *copier) pages(ctx context.Context, p bus.Partition, last, all uint64) (Part, error) {
	var part Part
	var tree tree
	err := c.cfg.Bus.Book(p).Read(ctx, 0, last, func(stored bus.StoredPage) error {
		decoded, err := bus.DecodePage(stored.Data)
		if err != nil {
			return fmt.Errorf("back up page %d of partition %s: %w", stored.Seq, p, err)
		}
		part.Pages++
		part.Events += uint64(len(decoded.Events))
		tree.add(p, stored.Seq, decoded.Events, stored.Data)
		c.copied++
		if c.cfg.Progress != nil {
			c.cfg.Progress(c.copied, all)
		}
		return c.file.frame(kindPage, &page{Partition: uint16(p), Seq: stored.Seq, Stored: stored.Stored.UnixNano(), Data: stored.Data})
	})
	part.Root = tree.root()
	return part, err
}
