package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What bounds COMMANDS. A command is of use for as long as its sender waits;
// full means that the writers are not keeping up, and the sender learns it.
const (
	commandsMaxAge   = 2 * time.Minute
	commandsMaxCount = 1 << 17
	commandsMaxBytes = 64 << 20
	commandsMaxSize  = 64 << 10
)

// bookMaxSize bounds one page, in bytes, headers included.
const bookMaxSize = maxPayload

// What a book's metadata says about the layout.
const (
	layoutVersion      = "1"
	metaLayout         = "rollbook-layout"
	metaPartitions     = "rollbook-partitions"
	createPatience     = 10 * time.Second
	minServerMajor     = 2
	minServerMinor     = 14
	minServerVersionIs = "2.14"
)

// Layout is the shape of what is stored.
type Layout struct {
	Partitions int // books and writers, 1 to MaxPartitions; fixed for ever when the books are created
	Replicas   int // copies of each stream: 1 on the embedded server, 3 (or 5) in a cluster
}

// Create makes the streams of a new book and is the only thing that does. It
// returns ErrExists when there is one, and alters nothing then.
//
// BOOK_0 is made last and marks the book as created. A crash before that leaves
// empty streams, which Open refuses and which the same Create, repeated,
// completes.
func (b *Bus) Create(ctx context.Context, l Layout) error {
	if l.Partitions < 1 || l.Partitions > MaxPartitions {
		return fmt.Errorf("create the book: %d partitions are not from 1 to %d", l.Partitions, MaxPartitions)
	}
	if l.Replicas < 1 || l.Replicas > 5 {
		return fmt.Errorf("create the book: %d replicas are not from 1 to 5", l.Replicas)
	}
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	if err := b.checkServer(); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if err := b.checkEmpty(ctx); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if err := b.createCommands(ctx, l); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if _, err := b.js.CreateKeyValue(ctx, directoryConfig(l)); err != nil {
		return fmt.Errorf("create the book: the directory: %w", err)
	}
	if _, err := b.js.CreateStream(ctx, snapshotsConfig(l)); err != nil {
		return fmt.Errorf("create the book: %s: %w", StreamSnapshots, err)
	}
	for p := l.Partitions - 1; p >= 0; p-- {
		cfg := bookConfig(l, Partition(p))
		if _, err := b.js.CreateStream(ctx, cfg); err != nil {
			return fmt.Errorf("create the book: %s: %w", cfg.Name, err)
		}
	}
	b.layout.Store(&l)
	return nil
}

// Open finds what Create made and checks that it is still so. It returns
// ErrNotCreated when nothing is there, ErrUnfinished with the layout when a
// Create was cut short, and ErrLayout, with what differs, when it is not as it
// must be. COMMANDS lives in memory and is gone after a restart of
// an embedded server: it is made again, and so is SNAPSHOTS on an embedded
// server, where an older program has not made it. Elsewhere the program does
// without.
func (b *Bus) Open(ctx context.Context) (Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	l, err := b.open(ctx)
	if err != nil {
		return l, fmt.Errorf("open the book: %w", err)
	}
	b.layout.Store(&l)
	return l, nil
}

func (b *Bus) open(ctx context.Context) (Layout, error) {
	if err := b.checkServer(); err != nil {
		return Layout{}, err
	}
	books, err := b.books(ctx)
	if err != nil {
		return Layout{}, err
	}
	if len(books) == 0 {
		return Layout{}, ErrNotCreated
	}
	first, ok := books[BookStream(0)]
	if !ok {
		return unfinished(books)
	}
	l, err := layoutOf(first.Config)
	if err != nil {
		return Layout{}, err
	}
	if len(books) != l.Partitions {
		return Layout{}, fmt.Errorf("%w: %d streams are called %s*, the layout has %d partitions", ErrLayout, len(books), streamBookPrefix, l.Partitions)
	}
	for p := range Partition(l.Partitions) {
		info, ok := books[BookStream(p)]
		if !ok {
			return Layout{}, fmt.Errorf("%w: %s is missing", ErrLayout, BookStream(p))
		}
		if err := checkBook(info.Config, l, p); err != nil {
			return Layout{}, err
		}
	}
	if err := b.checkDirectory(ctx); err != nil {
		return Layout{}, err
	}
	if b.embedded {
		// The same configuration as what exists is no error and changes nothing.
		if _, err := b.js.CreateStream(ctx, snapshotsConfig(l)); err != nil {
			b.log.Warn("there will be no snapshots, and so a start reads the whole book", "error", err)
		}
	}
	return l, b.openCommands(ctx, l)
}

// unfinished is what to make of books without BOOK_0, which Create makes last:
// when nothing has been written to any of them, the layout that they name.
func unfinished(books map[string]*jetstream.StreamInfo) (l Layout, err error) {
	for name, info := range books {
		own, err := layoutOf(info.Config)
		if err != nil {
			return Layout{}, err
		}
		if info.State.LastSeq > 0 || l != (Layout{}) && own != l {
			return Layout{}, fmt.Errorf("%w: %s is missing beside %s, which holds pages or belongs to another layout: a book was lost", ErrLayout, BookStream(0), name)
		}
		l = own
	}
	return l, ErrUnfinished
}

// openCommands makes COMMANDS when it is missing and checks it when it is not.
func (b *Bus) openCommands(ctx context.Context, l Layout) error {
	s, err := b.js.Stream(ctx, StreamCommands)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		b.log.Info("the command stream is made anew: it does not outlive its server")
		return b.createCommands(ctx, l)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", StreamCommands, err)
	}
	return checkCommands(s.CachedInfo().Config)
}

// createCommands does nothing when COMMANDS is there as it must be: the server
// answers a create of the same configuration with what exists.
func (b *Bus) createCommands(ctx context.Context, l Layout) error {
	if _, err := b.js.CreateStream(ctx, commandsConfig(l)); err != nil {
		return fmt.Errorf("%s: %w", StreamCommands, err)
	}
	return nil
}

// checkEmpty refuses when a book is there. Books without BOOK_0 and without
// pages are an unfinished create, which may be completed.
func (b *Bus) checkEmpty(ctx context.Context) error {
	books, err := b.books(ctx)
	if err != nil {
		return err
	}
	if _, ok := books[BookStream(0)]; ok {
		return ErrExists
	}
	for name, info := range books {
		if info.State.LastSeq > 0 {
			return fmt.Errorf("%w: %s holds pages", ErrExists, name)
		}
	}
	return nil
}

// books is every stream whose name says that it is a book.
func (b *Bus) books(ctx context.Context) (map[string]*jetstream.StreamInfo, error) {
	books := map[string]*jetstream.StreamInfo{}
	list := b.js.ListStreams(ctx)
	for info := range list.Info() {
		if strings.HasPrefix(info.Config.Name, streamBookPrefix) {
			books[info.Config.Name] = info
		}
	}
	if err := list.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	return books, nil
}

// bookConfig is the stream of one book. Its limits are none: nothing leaves a
// book. DenyDelete and DenyPurge can not be unset again, by anyone.
func bookConfig(l Layout, p Partition) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        BookStream(p),
		Description: "Rollbook: the pages of partition " + p.String(),
		Subjects:    []string{BookSubject(p)},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxMsgs:     -1,
		MaxBytes:    -1,
		MaxMsgSize:  bookMaxSize,
		Replicas:    l.Replicas,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: BookSubject(p), Destination: LiveSubject(p)},
		Metadata:    map[string]string{metaLayout: layoutVersion, metaPartitions: strconv.Itoa(l.Partitions)},
	}
}

func commandsConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        StreamCommands,
		Description: "Rollbook: commands on their way to the writers",
		Subjects:    []string{subjectAllCommands},
		Storage:     jetstream.MemoryStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      commandsMaxAge,
		MaxMsgs:     commandsMaxCount,
		MaxBytes:    commandsMaxBytes,
		MaxMsgSize:  commandsMaxSize,
		Replicas:    l.Replicas,
	}
}

// snapshotsConfig is the stream of snapshots: of every subject the newest message.
func snapshotsConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamSnapshots,
		Description:       "Rollbook: folded states, so that a start need not read the whole book",
		Subjects:          []string{subjectAllSnapshots},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        maxPayload,
		Replicas:          l.Replicas,
		AllowDirect:       true,
	}
}

func directoryConfig(l Layout) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      BucketDirectory,
		Description: "Rollbook: users and credential verifiers",
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    l.Replicas,
	}
}
