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

// Streams names everything that Create makes, in the order in which it is made.
func (l Layout) Streams() []string {
	names := []string{StreamCommands, streamDirectory, streamKeys}
	for _, cfg := range sideStreams(l) {
		names = append(names, cfg.Name)
	}
	for p := l.Partitions - 1; p >= 0; p-- {
		names = append(names, BookStream(Partition(p)))
	}
	return names
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
	// A cluster elects a leader for each stream, which takes a part of a second.
	ctx, cancel := context.WithTimeout(ctx, createPatience+time.Duration(l.Partitions)*time.Second)
	defer cancel()
	if err := b.checkServer(); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if err := b.checkEmpty(ctx); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if err := b.checkNothingBeside(ctx, l); err != nil {
		return fmt.Errorf("create the book: %w", err)
	}
	if err := b.createBeside(ctx, l); err != nil {
		return fmt.Errorf("create the book: %w", err)
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

// createBeside makes all that a book needs beside it. What is there as it must be
// stays as it is.
func (b *Bus) createBeside(ctx context.Context, l Layout) error {
	if err := b.createCommands(ctx, l); err != nil {
		return err
	}
	if _, err := b.js.CreateStream(ctx, directoryConfig(l)); err != nil {
		return fmt.Errorf("the directory: %w", err)
	}
	if err := b.createKeys(ctx, l); err != nil {
		return fmt.Errorf("the keys: %w", err)
	}
	for _, cfg := range sideStreams(l) {
		if _, err := b.js.CreateStream(ctx, cfg); err != nil && !boundElsewhere(cfg, err) {
			return fmt.Errorf("%s: %w", cfg.Name, err)
		}
	}
	return nil
}

// Open finds what Create made and checks that it is still so. It returns
// ErrNotCreated when nothing is there, ErrUnfinished with the layout when a
// Create was cut short, and ErrLayout, with what differs, when it is not as it
// must be. COMMANDS lives in memory and is gone after a restart of a server
// that stands alone: it is made again, by whoever has the right to, and so is on
// an embedded server the streams beside the book, which an older program has not
// made. Elsewhere the program does without.
// What this user may not ask about is not checked: an auditor opens the books
// alone. ErrNotPermitted says that even those are not this user's to see.
func (b *Bus) Open(ctx context.Context) (Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, createPatience)
	defer cancel()
	l, err := b.open(ctx, true)
	if err != nil {
		return l, fmt.Errorf("open the book: %w", err)
	}
	b.layout.Store(&l)
	return l, nil
}

// open looks at what is there; with mend it makes and changes what may be.
func (b *Bus) open(ctx context.Context, mend bool) (Layout, error) {
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
	for _, check := range []func(context.Context, Layout, bool) error{b.openDirectory, b.openCommands} {
		if err := check(ctx, l, mend); err != nil && !errors.Is(err, ErrNotPermitted) {
			return l, err
		}
	}
	if b.embedded && mend {
		for _, cfg := range sideStreams(l) {
			// The same configuration as what exists is no error and changes nothing.
			if _, err := b.js.CreateStream(ctx, cfg); err != nil && !boundElsewhere(cfg, err) {
				b.log.Warn("a stream beside the book cannot be made, and what it is for is done without", "stream", cfg.Name, "error", err)
			}
		}
	}
	return l, nil
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
// A pod, which has to wait for a writer to make it, comes up meanwhile.
func (b *Bus) openCommands(ctx context.Context, l Layout, mend bool) error {
	info, err := b.stream(ctx, StreamCommands)
	if errors.Is(err, jetstream.ErrStreamNotFound) && !mend {
		return ErrNoCommands
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = b.createCommands(ctx, l)
		if err == nil {
			b.log.Info("the command stream was made anew: it does not outlive its server")
		}
		return err
	}
	if err != nil {
		return err
	}
	return checkCommands(info.Config)
}

// createCommands does nothing when COMMANDS is there as it must be: the server
// answers a create of the same configuration with what exists.
func (b *Bus) createCommands(ctx context.Context, l Layout) error {
	err := b.permitted(ctx, apiStreamCreate+StreamCommands, func(ctx context.Context) error {
		_, err := b.js.CreateStream(ctx, commandsConfig(l))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", StreamCommands, err)
	}
	return nil
}

// stream asks for a stream's configuration and state.
func (b *Bus) stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := b.permitted(ctx, apiStreamInfo+name, func(ctx context.Context) error {
		s, err := b.js.Stream(ctx, name)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return info, nil
}

// books is every stream whose name says that it is a book.
func (b *Bus) books(ctx context.Context) (map[string]*jetstream.StreamInfo, error) {
	books := map[string]*jetstream.StreamInfo{}
	err := b.permitted(ctx, apiStreamList, func(ctx context.Context) error {
		list := b.js.ListStreams(ctx)
		for info := range list.Info() {
			if strings.HasPrefix(info.Config.Name, streamBookPrefix) {
				books[info.Config.Name] = info
			}
		}
		return list.Err()
	})
	switch {
	case errors.Is(err, ErrNotPermitted):
		return b.booksByName(ctx)
	case err != nil && !errors.Is(err, jetstream.ErrEndOfData):
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	return books, nil
}

// booksByName asks for the books that the first one's layout names, for a user
// who may not list what there is. A book too many is not found this way, nor a
// create that was cut short: that is for those to find who may do something
// about it.
func (b *Bus) booksByName(ctx context.Context) (map[string]*jetstream.StreamInfo, error) {
	books := map[string]*jetstream.StreamInfo{}
	for p, n := 0, 1; p < n; p++ {
		info, err := b.stream(ctx, BookStream(Partition(p)))
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		books[info.Config.Name] = info
		if p == 0 {
			l, err := layoutOf(info.Config)
			if err != nil {
				return nil, err
			}
			n = l.Partitions
		}
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

// sideStreams are the streams beside the book. The book's truth is not lost with
// them; of what does not follow from it, see TruthsBeside.
func sideStreams(l Layout) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{snapshotsConfig(l), checkpointsConfig(l), feedConfig(l), webhooksConfig(l), historyConfig(l)}
}

// snapshotsConfig is the stream of snapshots: of every subject the newest message.
func snapshotsConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              StreamSnapshots,
		Description:       "Rollbook: folded states, so that a start need not read the whole book",
		Subjects:          []string{subjectSnapshots + ">"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        maxPayload,
		Replicas:          l.Replicas,
		AllowDirect:       true,
	}
}

// directoryConfig is the stream beneath the bucket, as the client library would
// make it, but that its messages can be erased, and that two revisions of a key
// are kept for the moment until the older one is: bucketerase.go.
func directoryConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              streamDirectory,
		Description:       "Rollbook: users and credential verifiers",
		Subjects:          []string{subjectDirectory + ">"},
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		MaxMsgsPerSubject: 2,
		Duplicates:        2 * time.Minute,
		Replicas:          l.Replicas,
		AllowRollup:       true,
		AllowDirect:       true,
		RePublish:         bellOfDirectory(),
	}
}

// erasing reports whether a stream can have messages erased as bucketerase.go
// does it. One that was made before that can not, and never will: the server
// does not take a deny of deletion back.
func erasing(cfg jetstream.StreamConfig) bool { return cfg.MaxMsgsPerSubject == 2 && !cfg.DenyDelete }

// bellOfDirectory has the server name each change of the directory, without its
// value, so that whoever reads it looks at once.
func bellOfDirectory() *jetstream.RePublish {
	return &jetstream.RePublish{Source: ">", Destination: subjectBellDirectory + ">", HeadersOnly: true}
}
