package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// layoutOf reads the layout from the first book.
func layoutOf(cfg jetstream.StreamConfig) (Layout, error) {
	version, ok := cfg.Metadata[metaLayout]
	if !ok {
		return Layout{}, fmt.Errorf("%w: %s was not made by rollbook: its metadata name no layout", ErrLayout, cfg.Name)
	}
	if version != layoutVersion && version != layoutRestoring {
		return Layout{}, fmt.Errorf("%w: %s has layout version %s, this program knows %s", ErrLayout, cfg.Name, version, layoutVersion)
	}
	n, err := strconv.Atoi(cfg.Metadata[metaPartitions])
	if err != nil || n < 1 || n > MaxPartitions {
		return Layout{}, fmt.Errorf("%w: %s names %q as its partition count", ErrLayout, cfg.Name, cfg.Metadata[metaPartitions])
	}
	l := Layout{Partitions: n, Replicas: cfg.Replicas}
	if version == layoutRestoring {
		return l, ErrRestoring
	}
	return l, nil
}

// checkBook compares what a book is with what it must be. An operator may set
// what bounds its growth (MaxBytes, MaxMsgs: appends are then refused, since the
// discard policy is "new"), its placement, compression and description.
func checkBook(cfg jetstream.StreamConfig, l Layout, p Partition) error {
	own, err := layoutOf(cfg)
	if err != nil {
		return err
	}
	return differences(cfg.Name, []rule{
		{own.Partitions == l.Partitions, "names another partition count than " + BookStream(0)},
		{own.Replicas == l.Replicas, "has another replica count than " + BookStream(0)},
		{slices.Equal(cfg.Subjects, []string{BookSubject(p)}), "does not have " + BookSubject(p) + " as its one subject"},
		{cfg.Storage == jetstream.FileStorage, "is not kept in files"},
		{cfg.PersistMode != jetstream.AsyncPersistMode, "acknowledges before it has written (persist mode async)"},
		{cfg.Retention == jetstream.LimitsPolicy, "does not keep pages that were read (retention)"},
		{cfg.Discard == jetstream.DiscardNew, "drops old pages when full (discard)"},
		{cfg.MaxAge == 0, "drops pages by age"},
		{cfg.MaxMsgsPerSubject <= 0, "drops pages by count (per subject)"},
		{cfg.MaxMsgSize <= 0 || cfg.MaxMsgSize >= bookMaxSize, "takes only small pages"},
		{cfg.DenyDelete, "lets pages be deleted"},
		{cfg.DenyPurge, "lets pages be purged"},
		{!cfg.AllowRollup, "lets pages be rolled up"},
		{!cfg.AllowMsgTTL, "lets pages expire"},
		{!cfg.AllowMsgSchedules && !cfg.AllowMsgCounter, "appends messages of its own"},
		{!cfg.AllowAtomicPublish && !cfg.AllowBatchPublish, "takes batches, which the fence does not cover"},
		{!cfg.NoAck, "does not acknowledge"},
		{!cfg.Sealed, "is sealed"},
		{cfg.Mirror == nil && len(cfg.Sources) == 0, "takes messages from another stream"},
		{cfg.SubjectTransform == nil, "transforms subjects"},
		{cfg.AllowDirect, "can not be read directly"},
		{cfg.RePublish != nil && cfg.RePublish.Destination == LiveSubject(p) && !cfg.RePublish.HeadersOnly, "does not republish its pages to " + LiveSubject(p)},
	})
}

func checkCommands(cfg jetstream.StreamConfig) error {
	return differences(cfg.Name, []rule{
		{slices.Equal(cfg.Subjects, []string{subjectAllCommands}), "does not have " + subjectAllCommands + " as its one subject"},
		{cfg.Retention == jetstream.LimitsPolicy, "does not keep commands until they are trimmed (retention)"},
		{cfg.Discard == jetstream.DiscardNew, "drops commands it has accepted (discard)"},
		{cfg.Storage == jetstream.MemoryStorage, "is kept in files: with sync always each command costs an fsync"},
		{!cfg.NoAck, "does not say when it refuses"},
		{!cfg.DenyPurge, "can not be trimmed"},
		{cfg.MaxAge > 0 && cfg.MaxMsgs > 0, "is not bounded"},
	})
}

// openDirectory checks the directory. One that was made before the server named
// its changes is told to, by whoever has the right to.
func (b *Bus) openDirectory(ctx context.Context, _ Layout, mend bool) error {
	info, err := b.stream(ctx, streamDirectory)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: the bucket %s is missing", ErrLayout, BucketDirectory)
	}
	if err != nil {
		return err
	}
	cfg := info.Config
	if cfg.RePublish == nil && b.embedded && mend {
		cfg.RePublish = bellOfDirectory()
		if _, err := b.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("have the directory's changes named: %w", err)
		}
	}
	return checkDirectory(cfg)
}

func checkDirectory(cfg jetstream.StreamConfig) error {
	bell := cfg.RePublish
	return differences(cfg.Name, []rule{
		{cfg.Storage == jetstream.FileStorage, "is not kept in files"},
		{cfg.MaxMsgsPerSubject == 1 || erasing(cfg), "keeps a history: an erased user would stay readable"},
		{cfg.MaxAge == 0, "drops users by age"},
		{cfg.AllowDirect, "can not be read directly"},
		{bell != nil && bell.Destination == subjectBellDirectory+">", "does not name its changes at " + subjectBellDirectory + ">"},
		{bell == nil || bell.HeadersOnly, "republishes users with their verifiers"},
	})
}

// rule is one thing a stream must be, and what it does when it is not.
type rule struct {
	holds bool
	wrong string
}

func differences(stream string, rules []rule) error {
	var wrong []string
	for _, r := range rules {
		if !r.holds {
			wrong = append(wrong, r.wrong)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s %s", ErrLayout, stream, strings.Join(wrong, "; "))
}

// checkServer refuses servers before 2.14. They answer an append that failed on
// the disk with the code of a full stream, and Append tells the two apart.
func (b *Bus) checkServer() error {
	version := b.nc.ConnectedServerVersion()
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	x, err1 := strconv.Atoi(major)
	y, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil || x < minServerMajor || (x == minServerMajor && y < minServerMinor) {
		return fmt.Errorf("the server's version is %q, %s or later is needed", version, minServerVersionIs)
	}
	return nil
}

// checkNothingBeside refuses a place without a book where a stream beside one holds
// something: snapshots, checkpoints and the feed's markers name pages, and would be
// taken for this book's as soon as it has come that far.
func (b *Bus) checkNothingBeside(ctx context.Context, l Layout) error {
	for _, cfg := range sideStreams(l) {
		info, err := b.stream(ctx, cfg.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return err
		case info.State.LastSeq > 0:
			return fmt.Errorf("%w: no book, but %s of one, which must be deleted first", ErrExists, cfg.Name)
		}
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
