package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"rollbook/bus"
)

const (
	// clockTight and clockWrong bound by how much clocks may differ: a session's deadline is judged by two of them.
	clockTight = time.Second
	clockWrong = 10 * time.Second
	// writerPatience is how long the doctor listens for writers, which speak every 50 ms.
	writerPatience = 3 * time.Second
)

// clock is about this machine's and the server's.
func (e *examination) clock(ctx context.Context) {
	ahead, within, err := e.bus.Skew(ctx)
	if err == nil {
		e.add(clockFinding("the clock of the bus", ahead, within))
	}
}

// clockFinding judges by how much another clock is ahead of this machine's.
func clockFinding(whose string, ahead, within time.Duration) finding {
	const why, do = "sessions end too early or too late by as much", "let all machines take the time from the same servers (NTP)"
	what := fmt.Sprintf("%s is %s ahead of this machine's", whose, ahead.Round(time.Millisecond))
	if ahead < 0 {
		what = fmt.Sprintf("%s is %s behind this machine's", whose, (-ahead).Round(time.Millisecond))
	}
	switch off := ahead.Abs() - within; {
	case off > clockWrong:
		return finding{wrong, "clock", what, why, do}
	case off > clockTight:
		return finding{warning, "clock", what, why, do}
	}
	return finding{Severity: fine, Check: "clock", What: what}
}

// heard is what a writer said last.
type heard struct {
	bus.Announcement
	at time.Time
}

// writers is about who writes, and how far.
func (e *examination) writers(ctx context.Context) {
	if e.alone {
		e.add(finding{note, "writers", "nothing runs on this data directory", "nobody can log in meanwhile; the operator's commands bring a writer of their own", ""})
		return
	}
	var mu sync.Mutex
	words := map[bus.Partition]heard{} // guarded by mu
	all := make(chan struct{})
	ends := map[bus.Partition]uint64{} // before anybody is heard: what is said later must be as far
	for p := range bus.Partition(e.layout.Partitions) {
		end, err := e.bus.Book(p).End(ctx)
		if err != nil {
			e.add(finding{wrong, "writers", fmt.Sprintf("the end of the book of partition %s: %s", p, sentence(err)), "its stream does not answer", "see which servers are down"})
			return
		}
		ends[p] = end
	}
	for p := range bus.Partition(e.layout.Partitions) {
		stop, err := e.bus.Book(p).Announcements(func(a bus.Announcement) {
			mu.Lock()
			defer mu.Unlock()
			_, known := words[p]
			words[p] = heard{a, time.Now()}
			if !known && len(words) == e.layout.Partitions {
				close(all)
			}
		})
		if err != nil {
			return // the connection is closed: the rights' check says so
		}
		defer stop()
	}
	select {
	case <-all:
	case <-time.After(writerPatience):
	case <-ctx.Done():
		return
	}
	mu.Lock()
	defer mu.Unlock()
	for _, f := range writerFindings(e.layout.Partitions, ends, words) {
		e.add(f)
	}
}

func writerFindings(partitions int, ends map[bus.Partition]uint64, words map[bus.Partition]heard) (list []finding) {
	var silent []string
	for p := range bus.Partition(partitions) {
		w, spoke := words[p]
		if !spoke {
			silent = append(silent, p.String())
			continue
		}
		if w.Last < ends[p] {
			list = append(list, finding{warning, "lag", fmt.Sprintf("the writer of partition %s knows %d pages, and the book has %d", p, w.Last, ends[p]),
				"it may have been deposed without having noticed, or two are announced", "look again; if it stays so, restart that process"})
		}
		if f := clockFinding("the clock of the writer of partition "+p.String(), time.Unix(0, w.Time).Sub(w.at), 0); f.Severity != fine {
			list = append(list, f)
		}
	}
	if len(silent) > 0 {
		return append(list, finding{wrong, "writers", fmt.Sprintf("no writer was heard within %s for partition %s", writerPatience, some(silent)),
			"nobody whose user id belongs there can log in, refresh or log out", "start rollbook serve, or see why it does not write: /readyz of its operations port"})
	}
	return append(list, finding{Severity: fine, Check: "writers", What: fmt.Sprintf("each of %d partitions has a writer that speaks", partitions)})
}

// snapshots is about how much of the book a start has to read.
func (e *examination) snapshots(ctx context.Context) {
	var pages uint64
	oldest, missing := time.Duration(0), 0
	for p := range bus.Partition(e.layout.Partitions) {
		at, err := e.bus.SnapshotTime(ctx, p)
		if errors.Is(err, bus.ErrNotPermitted) {
			return
		}
		if err != nil || at.IsZero() {
			missing++
		} else {
			oldest = max(oldest, time.Since(at))
		}
	}
	for _, s := range e.streams {
		if strings.HasPrefix(s.Name, "BOOK_") {
			pages += s.Last
		}
	}
	if missing > 0 {
		e.add(finding{note, "snapshots", fmt.Sprintf("%d of %d partitions have no snapshot; the books hold %d pages", missing, e.layout.Partitions, pages),
			"a start reads those books from the first page, which takes time and loses nothing", ""})
		return
	}
	e.fine("snapshots", "the oldest of the newest snapshots is from %s ago", span(oldest))
}

// rights is about what this credential may do.
func (e *examination) rights(ctx context.Context) {
	if e.unbounded {
		e.fine("rights", "the data directory's own key may do everything, as it must: keep the directory to the service's user")
		return
	}
	has, err := e.bus.Probe(ctx)
	if err != nil {
		e.add(finding{wrong, "rights", sentence(err), "what this credential may do is not known", "look again"})
		return
	}
	for _, f := range rightsFindings(e.role, has) {
		e.add(f)
	}
}

// rightsFindings compares what a credential may do with what a role needs, or with what the likeliest role does.
func rightsFindings(role bus.Role, has []bus.Right) []finding {
	asked := role != ""
	if !asked {
		role = nearest(has)
	}
	lacks, extra := compare(has, role)
	switch {
	case len(lacks)+len(extra) == 0:
		return []finding{{Severity: fine, Check: "rights", What: fmt.Sprintf("the credential has the rights of the role %s, and no others", role)}}
	case !asked:
		return []finding{{warning, "rights", fmt.Sprintf("the credential has the rights of no role; nearest is %s, without: %s; beyond it: %s", role, orNothing(lacks), orNothing(extra)),
			"what a stolen or mistaken process can do is what its credential may", "use the users that rollbook bus-config makes, or say with --role what it is for"}}
	}
	var list []finding
	if len(lacks) > 0 {
		list = append(list, finding{wrong, "rights", fmt.Sprintf("the role %s needs what this credential may not: %s", role, some(lacks)),
			"the process will fail at that, perhaps only when it first needs it", "give it the credential of its role, or print the servers' configuration again with rollbook bus-config"})
	}
	if len(extra) > 0 {
		list = append(list, finding{wrong, "rights", fmt.Sprintf("this credential may what the role %s must not: %s", role, some(extra)),
			"what a stolen or mistaken process can do is what its credential may", "give it the credential of its role"})
	}
	return list
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return some(names)
}

// compare names the rights in which a credential and a role differ.
func compare(has []bus.Right, role bus.Role) (lacks, extra []string) {
	for i, needs := range bus.RightsOf(role, podVerbNames()) {
		switch {
		case needs.Has && !has[i].Has:
			lacks = append(lacks, needs.Name)
		case !needs.Has && has[i].Has:
			extra = append(extra, needs.Name)
		}
	}
	return lacks, extra
}

// nearest is the role that differs the least.
func nearest(has []bus.Right) (best bus.Role) {
	least := len(has) + 1
	for _, role := range bus.Roles() {
		if role == bus.RoleSystem {
			continue
		}
		if lacks, extra := compare(has, role); len(lacks)+len(extra) < least {
			best, least = role, len(lacks)+len(extra)
		}
	}
	return best
}
