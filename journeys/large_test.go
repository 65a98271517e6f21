package journeys

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// TestLargeStart makes a book of ROLLBOOK_LARGE events with a tenth as many live sessions and measures how long the
// program takes from its start to being ready, and the most memory it holds, without and with a snapshot. It is skipped
// unless that is set, and proves nothing by a figure: docs/performance.md has some.
//
//	ROLLBOOK_LARGE=10000000 go test -run TestLargeStart -v -timeout 1h ./journeys
func TestLargeStart(t *testing.T) {
	events, err := strconv.Atoi(os.Getenv("ROLLBOOK_LARGE"))
	if err != nil {
		t.Skip("opt in with ROLLBOOK_LARGE=10000000")
	}
	in := newInstance(t)
	in.patience = time.Hour
	begin := time.Now()
	live, users := makeLargeBook(t, in.data, events)
	t.Logf("made %d events, %d users, %d live sessions in %s", events, users, live, time.Since(begin).Round(time.Millisecond))
	none := []string{"--snapshot-events", strconv.Itoa(100 * events)}
	measure := func(what string) {
		t.Helper()
		in.log = &locked{}
		start := time.Now()
		in.start()
		t.Logf("%s: ready after %s and %.1f s of the CPUs, at the most %d MB\n%s", what, time.Since(start).Round(10*time.Millisecond),
			in.worked().Seconds(), in.peak(), in.said("read the book|began with a snapshot"))
	}
	in.args = none
	measure("without a snapshot")
	in.stop()
	in.args = []string{"--snapshot-events", "1"}
	measure("without a snapshot, and then writing one")
	for !strings.Contains(in.log.String(), "wrote a snapshot") {
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%sin all %.1f s of the CPUs, at the most %d MB", in.said("wrote a snapshot"), in.worked().Seconds(), in.peak())
	in.stop()
	in.args = none
	measure("with a snapshot")
	in.stop()
	measure("with a snapshot, again")
	in.stop()
	if !strings.Contains(in.log.String(), fmt.Sprintf("sessions=%d", live)) {
		t.Errorf("the start with a snapshot has other than %d sessions:\n%s", live, in.log)
	}
	sameBothWays(t, in.data)
}

// said are the lines of the log that match.
func (in *instance) said(pattern string) (lines string) {
	match := regexp.MustCompile(pattern)
	for line := range strings.Lines(in.log.String()) {
		if match.MatchString(line) {
			lines += "    " + line
		}
	}
	return lines
}

// peak is the most memory that the process has held so far, in megabytes.
func (in *instance) peak() (mb int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.cmd.Process.Pid))
	if err != nil {
		in.t.Logf("no figure of memory: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &mb); err == nil {
			return mb >> 10
		}
	}
	return 0
}

// worked is how long the process has kept the CPUs busy.
func (in *instance) worked() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", in.cmd.Process.Pid))
	fields := strings.Fields(string(stat))
	if err != nil || len(fields) < 15 {
		in.t.Logf("no figure of time: %v", err)
		return 0
	}
	user, _ := strconv.Atoi(fields[13]) // in hundredths of a second (proc_pid_stat(5)); the program's name has no space
	system, _ := strconv.Atoi(fields[14])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// makeLargeBook makes the book of a day, 1,000 events a page: a user for each 20 events; each session is refreshed once,
// and five of seven end, so that a tenth as many live as there are events.
func makeLargeBook(t *testing.T, dir string, events int) (live, users int) {
	t.Helper()
	ctx := t.Context()
	b, stop := stoppedBus(t, dir)
	defer stop()
	if err := b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	start, book := session.At(time.Now().Add(-day)), b.Book(0)
	at := start
	seq, n, page := uint64(0), 0, bus.Page{Epoch: 1}
	put := func(e session.Event) {
		page.Events = append(page.Events, session.AppendEvent(nil, e))
		if n++; len(page.Events) < 1000 && n != events {
			return
		}
		page.Time = int64(at)
		data, err := bus.EncodePage(page)
		if err != nil {
			t.Fatal(err)
		}
		after := seq
		seq, err = book.Append(ctx, after, data)
		for errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine: the book knows
			if seq, err = book.End(ctx); err == nil && seq == after {
				seq, err = book.Append(ctx, after, data)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		page.Events = page.Events[:0]
		at = start.Add(day / time.Duration(events) * time.Duration(n))
	}
	mint := func(kind byte, n int) session.TokenHash {
		return sha256.Sum256(fmt.Appendf(nil, "%c%d", kind, n))
	}
	name := func(n int) session.UserID { return session.UserID(fmt.Sprintf("user-%012d", n)) }
	for users = 0; users < events/20; users++ {
		put(&session.UserRegistered{Header: session.Header{At: at, User: name(users)}, Credential: 1})
	}
	for k := 0; n+3 <= events; k++ {
		head, id, handle := session.Header{At: at, User: name(k % users)}, mint('i', k), mint('h', k)
		put(&session.SessionStarted{Header: head, Session: session.SessionID(id[:16]), Venue: session.Genesis, Client: "desk", Credential: 1,
			Until: at.Add(720 * time.Hour), Idle: 120 * time.Hour, Access: mint('a', k), AccessIdle: 30 * time.Minute, Refresh: mint('r', k)})
		put(&session.SessionRefreshed{Header: head, Session: session.SessionID(id[:16]), Generation: 2, Handle: session.Handle(handle[:16]),
			Access: mint('b', k)})
		if k%7 < 2 {
			live++
		} else {
			put(&session.SessionEnded{Header: head, Session: session.SessionID(id[:16]), Reason: session.LoggedOut})
		}
	}
	for n < events {
		put(&session.UserEnabled{Header: session.Header{At: at, User: name(0)}})
	}
	return live, users
}
