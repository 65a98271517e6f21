package bus

import (
	"context"
	"errors"
	"fmt"
)

// A program that is older than a stream beside the book did not make it. On an
// embedded server Open does; elsewhere whoever may make streams is the owner, and
// does it on purpose: a start that made them would need that right for ever, and a
// stream that was lost would come back empty with nobody told.

// Missing names the streams beside the book that are not there, of the given ones,
// or of all. One that this user may not ask about counts as there. It needs a
// layout: Open or Inspect comes first.
func (b *Bus) Missing(ctx context.Context, names ...string) ([]string, error) {
	if len(names) == 0 {
		names = besideNames()
	}
	var missing []string
	for _, name := range names {
		_, err := b.info(ctx, name)
		switch {
		case errors.Is(err, ErrNotCreated):
			missing = append(missing, name)
		case err != nil && !errors.Is(err, ErrNotPermitted):
			return nil, fmt.Errorf("look for what is missing: %w", err)
		}
	}
	return missing, nil
}

// AddMissing makes the streams beside the book that are not there, and names them.
// What is there stays as it is, whatever its settings. A crash leaves some made;
// the same again makes the rest. Errors: ErrNotPermitted, ErrNotCreated before
// Open or Inspect has found a book, or what the server says.
func (b *Bus) AddMissing(ctx context.Context) (made []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	l := b.layout.Load()
	if l == nil {
		return nil, fmt.Errorf("add what is missing: %w", ErrNotCreated)
	}
	missing, err := b.Missing(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range missing {
		if err := b.createNamed(ctx, name, *l); err != nil {
			return made, fmt.Errorf("add %s: %w", name, err)
		}
		made = append(made, name)
	}
	return made, nil
}

// createNamed makes one stream beside the book.
func (b *Bus) createNamed(ctx context.Context, name string, l Layout) error {
	if name == streamKeys {
		return b.createKeys(ctx, l)
	}
	for _, cfg := range sideStreams(l) {
		if cfg.Name != name {
			continue
		}
		return b.permitted(ctx, apiStreamCreate+name, func(ctx context.Context) error {
			_, err := b.js.CreateStream(ctx, cfg)
			return err
		})
	}
	return fmt.Errorf("%s is no stream beside the book", name)
}

// besideNames are the streams that a book can be without, in the order of Streams.
func besideNames() []string {
	names := []string{streamKeys}
	for _, cfg := range sideStreams(Layout{}) {
		names = append(names, cfg.Name)
	}
	return names
}
