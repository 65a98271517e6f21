package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"rollbook/bus"
)

// examination is one look at a bus. It belongs to one goroutine.
type examination struct {
	bus       *bus.Bus
	log       *slog.Logger
	alone     bool          // the bus runs in this process, because nothing else runs on the data directory
	unbounded bool          // the credential is that of a data directory, which may everything
	role      bus.Role      // "": to be found out
	upgrade   string        // the command that adds what an older program did not make
	patience  time.Duration // for what follows the book

	layout   bus.Layout
	streams  []bus.StreamState
	findings []finding
}

func (e *examination) add(f finding) { e.findings = append(e.findings, f) }

func (e *examination) fine(check, format string, args ...any) {
	e.add(finding{Severity: fine, Check: check, What: fmt.Sprintf(format, args...)})
}

// connection is about the way to a bus elsewhere.
func (e *examination) connection() {
	if e.bus.Secured() {
		e.fine("connection", "the bus answers, by TLS or without leaving this machine")
		return
	}
	e.add(finding{warning, "connection", "the bus is on another machine and is reached in the clear",
		"whoever is on the way can read and change what goes over it: password verifiers, commands, pages",
		"give the servers a certificate (rollbook bus-config --server-cert) and this process their authority (--bus-tls-ca)"})
}

// all looks at everything on the bus, in an order in which the first error is the likeliest cause of the rest.
func (e *examination) all(ctx context.Context) {
	e.version()
	if e.stored(ctx) {
		e.servers(ctx)
		e.replicas()
		e.space()
		e.clock(ctx)
		e.writers(ctx)
		e.snapshots(ctx)
		e.beside(ctx)
	}
	e.rights(ctx)
}

func (e *examination) version() {
	version, err := e.bus.ServerVersion()
	if err != nil {
		e.add(finding{wrong, "version", sentence(err), "older servers answer failed writes in a way that cannot be told apart", "update nats-server"})
		return
	}
	e.fine("version", "nats-server %s, rollbook %s", version, thisBuild().Version)
}

// stored is about what the streams are. It reports whether there is a book to look at.
func (e *examination) stored(ctx context.Context) bool {
	var err error
	e.layout, err = e.bus.Inspect(ctx)
	if errors.Is(err, bus.ErrNoCommands) {
		if err = nil; !e.alone { // in a directory that nothing runs on it is never there
			e.add(finding{warning, "layout", "the command stream is missing: it does not outlive a server that stands alone",
				"until it is there no login succeeds", "the next writer to start makes it; if writers run, see their log"})
		}
	}
	switch {
	case err == nil:
		e.fine("layout", "a book of %d partitions with %d replicas, set up as it must be", e.layout.Partitions, e.layout.Replicas)
	case errors.Is(err, bus.ErrNotPermitted):
		e.add(finding{note, "layout", "this credential may not see the book", "it is that of a reader of the feed, or of something else", ""})
		return false
	case errors.Is(err, bus.ErrNotCreated):
		e.add(finding{wrong, "layout", "no book has been created here", "nothing can be written or read", "check the URL; if it is right, create the book with the owner's credential"})
		return false
	case errors.Is(err, bus.ErrUnfinished):
		e.add(finding{wrong, "layout", "the book was not created to the end", "nothing can be written", "create it again with the same partitions and replicas: that goes on where it was"})
		return false
	case errors.Is(err, bus.ErrLayout):
		e.add(finding{wrong, "layout", sentence(err), "what is stored could be lost, or be read by who must not; the service refuses to start on it",
			"set the stream as the text says, with the owner's credential; if something is missing, find out who removed it"})
		return false
	default:
		e.add(finding{wrong, "layout", "the streams do not answer: " + sentence(err), "a stream without a leader takes nothing and gives nothing",
			"see which servers are down: more than half of a stream's copies have to be up"})
		return false
	}
	if e.streams, err = e.bus.Streams(ctx, e.layout); err != nil {
		e.add(finding{wrong, "layout", "not all streams answer: " + sentence(err), "a stream without a leader takes nothing and gives nothing", "see which servers are down"})
	}
	return true
}

// servers is about how the servers are set up: what acknowledged means, versions, space.
func (e *examination) servers(ctx context.Context) {
	const why = "a server that loses power forgets what it has acknowledged: logins that were answered, sessions that were ended"
	switch err := e.bus.CheckDurability(ctx); {
	case err == nil:
		e.fine("sync", "acknowledged means on disk, on every server that holds a copy")
	case errors.Is(err, bus.ErrNotDurable):
		e.add(finding{wrong, "sync", sentence(err), why, "set jetstream { sync_interval: always } on every server and reload it"})
	default:
		if e.unbounded { // it runs in the service's process, and answers nobody else about itself
			e.fine("sync", "acknowledged means on disk: the embedded bus always syncs")
			break
		}
		e.add(finding{warning, "sync", "whether acknowledged means on disk: " + sentence(err), why,
			"run doctor with the engine's or the operator's credential, or look for sync_interval: always in each server's configuration"})
	}
	servers, err := e.bus.Servers(ctx)
	if err != nil {
		return // said above, where it matters
	}
	for _, f := range serverFindings(servers) {
		e.add(f)
	}
}

// serverFindings is about versions and space.
func serverFindings(servers []bus.ServerState) (list []finding) {
	versions := map[string][]string{}
	for _, s := range servers {
		versions[s.Version] = append(versions[s.Version], s.Name)
		list = append(list, limitFinding("the streams in files on "+s.Name, s.File, s.MaxFile), limitFinding("the streams in memory on "+s.Name, s.Memory, s.MaxMemory))
	}
	if len(versions) > 1 {
		var each []string
		for v, names := range versions {
			each = append(each, v+" ("+some(names)+")")
		}
		list = append(list, finding{warning, "version", "the servers run different versions: " + strings.Join(each, ", "),
			"what one of them can, another may not: a change of leader changes how the bus behaves", "finish the update"})
	}
	return list
}

// limitFinding is about how full something is whose end stops logins.
func limitFinding(what string, used uint64, most int64) finding {
	if most <= 0 {
		return finding{Severity: fine, Check: "space", What: fmt.Sprintf("%s take %s, without a bound", what, size(used))}
	}
	text := fmt.Sprintf("%s take %s of %s", what, size(used), size(uint64(most)))
	const why, do = "when it is full nothing more is stored: no login succeeds", "raise the limit in the server's jetstream block, or the stream's own; make room on the disk"
	switch part := float64(used) / float64(most); {
	case part > 0.95:
		return finding{wrong, "space", text, why, do}
	case part > 0.80:
		return finding{warning, "space", text, why, do}
	}
	return finding{Severity: fine, Check: "space", What: text}
}

// space is about the streams' own bounds.
func (e *examination) space() {
	for _, s := range e.streams {
		if s.Discards {
			continue // it makes room by itself
		}
		if s.MaxBytes > 0 {
			if f := limitFinding("the messages in "+s.Name, s.Bytes, s.MaxBytes); f.Severity != fine {
				e.add(f)
			}
		}
		if s.MaxMsgs > 0 && s.Messages*2 > uint64(s.MaxMsgs) {
			e.add(finding{warning, "space", fmt.Sprintf("%s holds %d messages of at most %d", s.Name, s.Messages, s.MaxMsgs),
				"when it is full, what comes is refused; commands pile up when no writer takes them", "see to the writers"})
		}
	}
}

// replicas is about the copies of what is stored.
func (e *examination) replicas() {
	whole := true
	for _, s := range e.streams {
		if f, bad := replicaFinding(s); bad {
			e.add(f)
			whole = false
		}
	}
	if whole {
		e.fine("replicas", "%d streams have a leader, and every copy of them is there and up to date", len(e.streams))
	}
}

func replicaFinding(s bus.StreamState) (finding, bool) {
	const lose = "one more server down, and nothing is stored any more"
	var away, behind []string
	for _, c := range s.Copies {
		if c.Offline {
			away = append(away, c.Server)
		} else if !c.Current {
			behind = append(behind, fmt.Sprintf("%s by %d", c.Server, c.Lag))
		}
	}
	up := 1 + len(s.Copies) - len(away)
	switch {
	case s.Leader == "":
		return finding{wrong, "replicas", s.Name + " has no leader", "it takes nothing and gives nothing until its servers have chosen one",
			"wait ten seconds and look again; else see which servers are down"}, true
	case 1+len(s.Copies) < s.Replicas:
		return finding{warning, "replicas", fmt.Sprintf("%s has %d copies of %d", s.Name, 1+len(s.Copies), s.Replicas), lose, "add a server, or bring one back"}, true
	case len(away) > 0:
		return finding{warning, "replicas", fmt.Sprintf("%s has %d of %d copies up; away: %s", s.Name, up, s.Replicas, some(away)), lose, "bring the server back"}, true
	case len(behind) > 0:
		return finding{warning, "replicas", fmt.Sprintf("a copy of %s is behind: %s", s.Name, some(behind)), lose,
			"wait until it has caught up; if it does not, see that server's log"}, true
	}
	return finding{}, false
}
