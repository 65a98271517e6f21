package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"rollbook/engine/session"
	"rollbook/projections/history"
)

// TestMoments: the ways to write a time, in a zone that is not UTC.
func TestMoments(t *testing.T) {
	zone := time.FixedZone("east", 2*3600)
	now := time.Date(2026, 3, 10, 9, 30, 0, 0, zone)
	for text, want := range map[string]string{
		"2026-01-31T18:00:00Z":      "2026-01-31T18:00:00Z",
		"2026-01-31T18:00:00+01:00": "2026-01-31T17:00:00Z",
		"2026-01-31T18:00:00":       "2026-01-31T16:00:00Z",
		"2026-01-31 18:00:00.250":   "2026-01-31T16:00:00.25Z",
		"2026-01-31 18:00":          "2026-01-31T16:00:00Z",
		"2026-01-31":                "2026-01-30T22:00:00Z",
		"09:29:59.5":                "2026-03-10T07:29:59.5Z",
		"09:30":                     "2026-03-10T07:30:00Z",
		"14:32:05.250":              "2026-03-09T12:32:05.25Z", // has not come today
		"today":                     "2026-03-09T22:00:00Z",
		"yesterday":                 "2026-03-08T22:00:00Z",
		"now":                       "2026-03-10T07:30:00Z",
		"2h":                        "2026-03-10T05:30:00Z",
		"2h ago":                    "2026-03-10T05:30:00Z",
		" 90m ":                     "2026-03-10T06:00:00Z",
		"3d":                        "2026-03-07T07:30:00Z",
		"1d2h30m":                   "2026-03-09T05:00:00Z",
	} {
		got, err := readMoment("--from", text, now)
		if err != nil || got.Time().Format(time.RFC3339Nano) != want {
			t.Errorf("%q is %s, %v; want %s", text, got.Time().Format(time.RFC3339Nano), err, want)
		}
	}
	for _, text := range []string{"2x", "-2h", "25:00", "2026-13-01", "1600-01-01", "9999-01-01", "d", "999999999d", "2h3d", "ago", "tomorrow"} {
		if got, err := readMoment("--from", text, now); err == nil {
			t.Errorf("%q is %s", text, got.Time())
		}
	}
	if got, err := readMoment("--from", "", now); got != 0 || err != nil {
		t.Errorf("no time is %d, %v", got, err)
	}
}

// TestReplayTable: columns that stay in place, lines that fit the screen, and nothing of a client's that steers it.
func TestReplayTable(t *testing.T) {
	entry := history.Entry{Session: session.SessionID{0xab}, Venue: session.TraderEvolution, Event: &session.SessionStarted{
		Header: session.Header{At: 1_790_000_000_000_000_000, User: "u1"}, Client: "\x1b[2J\u202eevil\nnew line \u00e9\u00e9", Until: session.Forever}}
	for _, wide := range []int{40, 60, 80, 120} {
		var out bytes.Buffer
		table := replayTable{out: &out, wide: wide, screen: true, times: "2006-01-02 15:04:05.000"}
		for range 2 {
			if err := table.print(entry, "a user of a rather long name", history.Detail(entry)); err != nil {
				t.Fatal(err)
			}
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 3 {
			t.Fatalf("%d wide: %d lines:\n%s", wide, len(lines), out.String())
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > wide {
				t.Errorf("%d wide: a line of %d: %s", wide, n, line)
			}
			if strings.ContainsAny(line, "\x1b\u202e") {
				t.Errorf("%d wide: %q steers the terminal", wide, line)
			}
		}
		if wide == 120 && !strings.Contains(lines[1], "traderevolution  ab000000  ") {
			t.Errorf("%s", lines[1])
		}
	}
	var out bytes.Buffer
	table := replayTable{out: &out, wide: 200, colours: true, times: time.RFC3339}
	if err := table.print(entry, "u", "what"); err != nil || !strings.Contains(out.String(), "\x1b[32m") || strings.Count(out.String(), "\x1b") != 2 {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// TestDrawing: bars and sparklines at their ends.
func TestDrawing(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{blocks(0, 10, 4), ""}, {blocks(10, 10, 4), "████"}, {blocks(5, 10, 4), "██"}, {blocks(1, 1_000_000, 4), "▏"}, {blocks(3, 8, 1), "▍"},
		{sparkline([]uint64{0, 1, 2, 7}, 10), "▁▂▃█"}, {sparkline([]uint64{0, 0}, 10), "▁▁"}, {sparkline([]uint64{1, 9, 2, 3}, 2), "█▃"}, {sparkline(nil, 3), ""},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestStatsFit: lines that fit the screen, with bars where there is room for them, however large the numbers are.
func TestStatsFit(t *testing.T) {
	c := history.Counts{Logins: 9, Peak: 4}
	for _, n := range []uint64{1, 2, 70, 123_456_789_000} {
		c.Stretches = append(c.Stretches, history.Stretch{From: 1_790_000_000_000_000_000, Logins: n, Refused: n, Ended: n, Peak: n})
	}
	for wide, want := range map[int]struct{ bars, ends bool }{150: {true, true}, 90: {true, true}, 76: {false, true}, 60: {false, false}, 40: {false, false}} {
		var out bytes.Buffer
		if err := printCounts(&out, c, history.Counted{Zone: time.UTC}, wide); err != nil {
			t.Fatal(err)
		}
		_, list, _ := strings.Cut(out.String(), "\n\n")
		if strings.Contains(list, "█") != want.bars || strings.Contains(list, "ENDED") != want.ends {
			t.Errorf("%d wide:\n%s", wide, list)
		}
		for line := range strings.Lines(list) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(wide, 48) { // the least that such numbers take
				t.Errorf("%d wide: a line of %d: %s", wide, n, line)
			}
		}
	}
}

// TestNothingButFilesIsReplaced: a pipe or a directory stays what it is, and a report is nobody's to read before it is whole.
func TestNothingButFilesIsReplaced(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{file: true, filepath.Join(dir, "none"): true, pipe: false, dir: false} {
		if err := replaceable(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	var no *refused
	if err := writeWhole(pipe, nil); !errors.As(err, &no) {
		t.Errorf("a pipe is replaced: %v", err)
	}
}

// TestNoFileIsReplacedUnasked: what is there stays as it is without --force, also when it comes while the new one is being
// written; an error on the way leaves it in any case, and nothing beside it.
func TestNoFileIsReplacedUnasked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	fill := func(text string, before func() error) func(io.Writer) error {
		return func(to io.Writer) error {
			_, err := io.WriteString(to, text)
			return errors.Join(err, before())
		}
	}
	nothingElse := func() error { return nil }
	has := func(want string) {
		t.Helper()
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("it has %q, %v; want %q", text, err, want)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("beside it: %v, %v", list, err)
		}
	}
	taken := func(err error) {
		t.Helper()
		var no *refused
		if !errors.As(err, &no) || no.code != "exists" || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%v", err)
		}
	}
	if err := (outfile{}).fill(path, fill("first", nothingElse)); err != nil {
		t.Fatal(err)
	}
	has("first")
	taken(outfile{}.mayWrite(path))
	taken(outfile{}.fill(path, fill("second", nothingElse)))
	has("first")
	if err := (outfile{Force: true}).fill(path, fill("third", func() error { return io.ErrUnexpectedEOF })); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	has("first")
	if err := (outfile{Force: true}).fill(path, fill("fourth", nothingElse)); err != nil {
		t.Fatal(err)
	}
	has("fourth")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	taken(outfile{}.fill(path, fill("sixth", func() error { return os.WriteFile(path, []byte("fifth"), 0o600) })))
	has("fifth")
	var no *refused
	if err := (outfile{}).mayWrite(filepath.Join(dir, "none", "file")); !errors.As(err, &no) || no.code != "output" {
		t.Errorf("into no directory: %v", err)
	}
}

// TestPublicKeyFollows: a notary.key that was put into a directory has its notary.vkey there, also over that of another.
func TestPublicKeyFollows(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	log := slog.New(slog.DiscardHandler)
	want, err := notaryKey("", dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := notaryKey("", other, log); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, fileNotaryKey))
	if err == nil {
		err = os.WriteFile(filepath.Join(other, fileNotaryKey), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := notaryKey("", other, log); err != nil {
			t.Fatal(err)
		}
		if got, err := publicKey(filepath.Join(other, fileNotaryVKey)); err != nil || got.String() != want.Public().String() {
			t.Errorf("%v, %v", got, err)
		}
		if err := os.Remove(filepath.Join(other, fileNotaryVKey)); err != nil {
			t.Fatal(err)
		}
	}
}
