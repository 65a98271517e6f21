package bus

import (
	"encoding/hex"
	"hash/fnv"
	"strconv"
	"strings"
)

// Every subject, stream and bucket name of the project is in this file, and
// nowhere else. The partition stands in each of them as a decimal number.

const (
	// StreamCommands is the stream of commands on their way to the writers of
	// all partitions: memory, bounded, refusing when full.
	StreamCommands = "COMMANDS"
	// BucketDirectory is the key-value bucket of users and their credential
	// verifiers.
	BucketDirectory = "DIRECTORY"
	// BucketKeys is the key-value bucket of the public halves of signing keys.
	BucketKeys = "KEYS"
	// BucketWebhooks is the key-value bucket of how far webhooks have come.
	BucketWebhooks = "WEBHOOKS"
	// StreamSnapshots is the stream of the snapshots of all partitions.
	StreamSnapshots = "SNAPSHOTS"
	// StreamCheckpoints is the stream of what the notary has signed.
	StreamCheckpoints = "CHECKPOINTS"
	// StreamFeed is the stream of the feed of all partitions.
	StreamFeed = "EVENTS"
	// StreamHistory is the stream of the history indexes of all partitions.
	StreamHistory = "HISTORY"

	streamBookPrefix      = "BOOK_"
	streamDirectory       = "KV_" + BucketDirectory
	streamKeys            = "KV_" + BucketKeys
	streamWebhooks        = "KV_" + BucketWebhooks
	subjectCommandPrefix  = "rollbook.command."
	subjectBookPrefix     = "rollbook.book."
	subjectLivePrefix     = "rollbook.live.book."
	subjectAnnouncePrefix = "rollbook.writer."
	subjectEnginePrefix   = "rollbook.engine."
	subjectPodPrefix      = "rollbook.pod."
	// Below it the server names the keys of the directory that change, without
	// their values.
	subjectBellDirectory = "rollbook.live.directory."

	// What other parts of the program put on the bus, and what rights.go knows of it.
	subjectSnapshots  = "rollbook.snapshot."
	subjectCheckpoint = "rollbook.checkpoint."
	subjectHistory    = "rollbook.history."
	tokenLeaves       = "leaves"
	subjectFeed       = "rollbook.event."
	subjectDirectory  = "$KV." + BucketDirectory + "."
	subjectKeys       = "$KV." + BucketKeys + "."
	subjectWebhooks   = "$KV." + BucketWebhooks + "."
	subjectFeedMarker = "rollbook.feed."
	subjectFeedBell   = "rollbook.live.feed."

	// noUser stands in the feed's subjects for events that concern no single user.
	noUser = "-"

	subjectAllCommands = subjectCommandPrefix + "*.*"
	subjectAllLive     = subjectLivePrefix + "*"
	subjectAllAnnounce = subjectAnnouncePrefix + "*"
	subjectAllEngines  = subjectEnginePrefix + "*"
	subjectAllPods     = subjectPodPrefix + "*"

	// Outcomes are only ever sent to inboxes: see checkInbox.
	inboxPrefix = "_INBOX."

	apiStreamInfo     = "$JS.API.STREAM.INFO."
	apiStreamPurge    = "$JS.API.STREAM.PURGE."
	apiStreamCreate   = "$JS.API.STREAM.CREATE."
	apiStreamUpdate   = "$JS.API.STREAM.UPDATE."
	apiStreamList     = "$JS.API.STREAM.LIST"
	apiDirectGet      = "$JS.API.DIRECT.GET."
	apiMessageGet     = "$JS.API.STREAM.MSG.GET."
	apiMessageDelete  = "$JS.API.STREAM.MSG.DELETE."
	apiConsumerNext   = "$JS.API.CONSUMER.MSG.NEXT."
	apiConsumerDelete = "$JS.API.CONSUMER.DELETE."
	ackPrefix         = "$JS.ACK."
	sysServerJSZ      = "$SYS.REQ.SERVER.PING.JSZ"
)

// MaxPartitions is the largest partition count a layout may have. The
// embedded server's consumer account names each book it opens, so the bound is
// also the length of that list.
const MaxPartitions = 64

// Partition is the number of one book and its writer, from 0 to the layout's
// partition count less one.
type Partition uint16

// String is the partition's decimal number, as it stands in subjects.
func (p Partition) String() string { return strconv.FormatUint(uint64(p), 10) }

// PartitionOf is the home of key (a user id) among n partitions: FNV-1a, 32
// bits, modulo n. It is part of the stored layout: a user's events are in one
// book for ever, so neither the function nor n may change once a book exists.
// It panics when n is not positive: a layout has at least one partition.
func PartitionOf(key string, n int) Partition {
	if n <= 0 {
		panic("bus: PartitionOf needs a layout with at least one partition")
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // a hash never fails to write
	return Partition(h.Sum32() % uint32(n))
}

// CommandSubject is where a command for p is published. The verb is one
// subject token in lower case, for the eyes of operators and the filters of
// permissions; the writer reads it from there.
func CommandSubject(p Partition, verb string) string {
	return subjectCommandPrefix + p.String() + "." + verb
}

// commandFilter matches every command of one partition.
func commandFilter(p Partition) string { return CommandSubject(p, "*") }

// BookSubject is where the pages of p are appended.
func BookSubject(p Partition) string { return subjectBookPrefix + p.String() }

// BookStream is the stream that holds the pages of p.
func BookStream(p Partition) string { return streamBookPrefix + p.String() }

// LiveSubject is where the server republishes each page of p once it is
// stored, with the headers Nats-Sequence and Nats-Time-Stamp.
func LiveSubject(p Partition) string { return subjectLivePrefix + p.String() }

// AnnounceSubject is where the writer of p says that it lives.
func AnnounceSubject(p Partition) string { return subjectAnnouncePrefix + p.String() }

// SnapshotSubject is where the list of the snapshots of p stands.
func SnapshotSubject(p Partition) string { return subjectSnapshots + p.String() }

// SnapshotChunkSubject is where chunk n, from 0, of the snapshot in a slot of p
// stands. There are two slots, 0 and 1.
func SnapshotChunkSubject(p Partition, slot, n int) string {
	return SnapshotSubject(p) + "." + strconv.Itoa(slot) + "." + strconv.Itoa(n)
}

// CheckpointSubject is where the notary puts its checkpoints of p.
func CheckpointSubject(p Partition) string { return subjectCheckpoint + p.String() }

// LeavesSubject is where the notary puts the leaf hashes of the tree of p.
func LeavesSubject(p Partition) string { return CheckpointSubject(p) + "." + tokenLeaves }

// partitionOfCheckpoint reads both of them.
func partitionOfCheckpoint(subject string) (p Partition, leaves, ok bool) {
	rest, ok := strings.CutPrefix(subject, subjectCheckpoint)
	rest, leaves = strings.CutSuffix(rest, "."+tokenLeaves)
	n, err := strconv.ParseUint(rest, 10, 16)
	return Partition(n), leaves, ok && err == nil && n < MaxPartitions
}

// FeedSubject is where the feed has an event: the partition, the user and the
// event's type are a token each.
func FeedSubject(p Partition, user, event string) string {
	return subjectFeed + p.String() + "." + userToken(user) + "." + event
}

// FeedMarkerSubject is where the feed says how far it has come with p.
func FeedMarkerSubject(p Partition) string { return subjectFeedMarker + p.String() }

// FeedBellSubject is where the server tells each marker once it is stored, and
// with it the events before it: headers alone, Nats-Sequence among them.
func FeedBellSubject(p Partition) string { return subjectFeedBell + p.String() }

// HistorySubject is where the mark of the history index of p stands: how far it
// goes.
func HistorySubject(p Partition) string { return subjectHistory + p.String() }

// HistoryBucketSubject is where the lists of one bucket of the history index of p
// stand.
func HistoryBucketSubject(p Partition, bucket int) string {
	return HistorySubject(p) + "." + strconv.Itoa(bucket)
}

// EngineSubject is where a process with writers says that it is there.
func EngineSubject(id EngineID) string { return subjectEnginePrefix + id.String() }

// PodSubject is where an adapter pod says that it lives.
func PodSubject(id [16]byte) string { return subjectPodPrefix + hex.EncodeToString(id[:]) }

// isToken reports whether s can stand as one token of a command subject:
// lower-case letters, digits, '_' and '-', 1 to 64 of them.
func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
