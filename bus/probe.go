package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Right is one thing that some role may do on the bus, and whether a user may.
type Right struct {
	Name string // such as "append to a book"
	Has  bool
}

// probe is a right and how to find out whether somebody has it, without doing it.
type probe struct {
	name    string
	subject string
	listen  bool // subscribe to it; else publish
	data    string
}

// Every probe that publishes is made so that nothing takes it: what goes to a
// stream names another stream as the one it expects, and what goes to JetStream
// is not a request, or one about a stream that is not there. A server checks the
// right before it looks at any of this.
var probes = []probe{
	{name: "append to a book", subject: BookSubject(0)},
	{name: "submit a client's command", subject: CommandSubject(0, "login")},
	{name: "submit an operator's command", subject: CommandSubject(0, "disable")},
	{name: "answer commands", subject: inboxPrefix + "doctor.x"},
	{name: "announce a writer", subject: AnnounceSubject(0)},
	{name: "forge a live page", subject: LiveSubject(0)},
	{name: "store a snapshot", subject: subjectSnapshots + "doctor"},
	{name: "sign a checkpoint", subject: CheckpointSubject(0)},
	{name: "write the history index", subject: subjectHistory + "doctor"},
	{name: "write the directory", subject: subjectDirectory + "doctor"},
	{name: "show a signing key", subject: subjectKeys + "doctor"},
	{name: "publish to the feed", subject: subjectFeed + "doctor"},
	{name: "ask about a book", subject: apiStreamInfo + BookStream(0)},
	{name: "read a book", subject: apiDirectGet + BookStream(0)},
	{name: "read the directory", subject: apiDirectGet + streamDirectory},
	{name: "read the signing keys", subject: apiDirectGet + streamKeys},
	{name: "read snapshots", subject: apiDirectGet + StreamSnapshots},
	{name: "read the history index", subject: apiDirectGet + StreamHistory},
	{name: "read checkpoints", subject: apiDirectGet + StreamCheckpoints},
	{name: "read the feed", subject: apiDirectGet + StreamFeed},
	{name: "take the feed", subject: apiConsumerNext + StreamFeed + ".doctor"},
	{name: "take commands", subject: apiConsumerNext + StreamCommands + ".doctor"},
	{name: "remove commands", subject: apiStreamPurge + StreamCommands, data: purgesNothing},
	{name: "create streams", subject: apiStreamCreate + "ROLLBOOK_DOCTOR"},
	{name: "change streams", subject: "$JS.API.STREAM.UPDATE.ROLLBOOK_DOCTOR"},
	{name: "delete streams", subject: "$JS.API.STREAM.DELETE.ROLLBOOK_DOCTOR"},
	{name: "make consumers of a book", subject: "$JS.API.CONSUMER.CREATE." + BookStream(0) + ".doctor"},
	{name: "make consumers of the directory", subject: "$JS.API.CONSUMER.CREATE." + streamDirectory + ".doctor"},
	{name: "ask the servers how they fare", subject: sysServerJSZ},
	{name: "hear live pages", subject: LiveSubject(0), listen: true},
	{name: "hear the writers", subject: AnnounceSubject(0), listen: true},
	{name: "hear commands", subject: CommandSubject(0, "login"), listen: true},
	{name: "hear the directory being written", subject: subjectDirectory + "doctor", listen: true},
	{name: "hear the replies to others", subject: inboxPrefix + "doctor.x", listen: true},
}

// notARequest is what a probe publishes that names nothing else. JetStream refuses
// it, with one exception: a purge reads what is not JSON as "everything", and does
// it. So that one gets a request which contradicts itself, and whose filter would
// match nothing.
const (
	notARequest   = "rollbook doctor"
	purgesNothing = `{"filter":"rollbook.doctor","seq":1,"keep":1}`
)

// probePatience is how long the server may take to answer one probe; it is long
// because "not known" is no answer, and a bus in trouble is when one asks.
const probePatience = 10 * time.Second

// Probe finds out which rights this user has, one after the other. It changes
// nothing. It belongs on a connection that nobody else uses.
func (b *Bus) Probe(ctx context.Context) ([]Right, error) {
	var list []Right
	for _, p := range probes {
		has, err := b.probe(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("try whether this user may %s: %w", p.name, err)
		}
		list = append(list, Right{p.name, has})
	}
	return list, nil
}

// RightsOf is what Probe should find for a user of the role, with the commands
// that pods may submit; none: all.
func RightsOf(role Role, podVerbs []string) []Right {
	r := rightsOf(role, MaxPartitions, podVerbs)
	var list []Right
	for _, p := range probes {
		has := false
		if p.listen {
			for _, s := range r.hears {
				has = has || matches(s, p.subject)
			}
		} else {
			for _, a := range r.asks {
				has = has || matches(a.subject, p.subject)
			}
		}
		list = append(list, Right{p.name, has})
	}
	return list
}

// probe tries one right. The server answers in order: once it has answered the
// flush, it has refused what it refuses.
func (b *Bus) probe(ctx context.Context, p probe) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	if p.listen {
		sub, err := b.nc.SubscribeSync(p.subject)
		if err != nil {
			return false, closedOr(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	} else if err := b.nc.PublishMsg(&nats.Msg{Subject: p.subject, Data: []byte(cmp.Or(p.data, notARequest)), Header: nats.Header{
		headerExpectedStream:  {"ROLLBOOK_DOCTOR"},
		headerExpectedLastSeq: {"18446744073709551615"},
	}}); err != nil {
		return false, closedOr(err)
	}
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return false, closedOr(err)
	}
	last := b.nc.LastError() // set before the flush returns, which what the error handler does is not
	refused := errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), `"`+p.subject+`"`) &&
		strings.Contains(last.Error(), "Subscription") == p.listen
	return !refused, nil
}

// matches reports whether a subject with wildcards covers one without.
func matches(pattern, subject string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		if token == ">" {
			return len(got) > i
		}
		if i >= len(got) || token != "*" && token != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}
