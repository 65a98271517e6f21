package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"rollbook/engine/session"
	"rollbook/projections/history"
)

type auditStats struct {
	auditScope `embed:""`
	stretch    `embed:""`
	forms      `embed:""`
	Venue      string `help:"Only this venue's." placeholder:"VENUE"`
	By         string `help:"Count by hour or by day. Default: by hour for up to three days, else by day." placeholder:"hour|day" enum:"hour,day," default:""`
}

// Run counts.
func (c *auditStats) Run(ctx context.Context, app *cli) error {
	now := time.Now()
	what := history.Counted{Zone: now.Location()}
	var err error
	if what.From, what.To, err = c.read(now); err != nil {
		return err
	}
	if what.Venue, err = venueOf(c.Venue); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.By == "day" {
		what.By = history.ByDay
	}
	return c.ask(ctx, app, func(a *archive, b *watchedBar) error {
		counts, err := a.reader.Count(ctx, what)
		if err != nil {
			return err
		}
		if by := what.By; c.By == "" && by == history.ByHour && len(counts.Stretches) > 72 {
			counts = counts.ByDays(what.Zone)
			what.By = history.ByDay
		}
		b.erase()
		if len(counts.Stretches) == 0 {
			err = a.empty(ctx, subject{}, session.SessionID{}, "no events: the book has none in this time")
		} else {
			err = a.notYet(ctx, subject{}, what.To)
		}
		switch {
		case err != nil:
			return err
		case c.JSON:
			return printCountsJSON(os.Stdout, counts)
		case c.CSV:
			return printCountsCSV(os.Stdout, counts)
		case len(counts.Stretches) == 0:
			return nil
		}
		wide := 100
		if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && width > 0 {
			wide = width
		}
		return printCounts(os.Stdout, counts, what, wide)
	})
}

// stretchLine is an hour or a day of counts.
type stretchLine struct {
	From    time.Time `json:"from"`
	Logins  uint64    `json:"logins"`
	Refused uint64    `json:"refused"`
	Ended   uint64    `json:"ended"`
	Peak    uint64    `json:"peak"` // the most sessions at once
	PeakAt  time.Time `json:"peak_at"`
}

// countsLine is all of it.
type countsLine struct {
	From      *time.Time        `json:"from"`
	To        *time.Time        `json:"to"`
	Logins    uint64            `json:"logins"`
	Refreshes uint64            `json:"refreshes"`
	Refusals  map[string]uint64 `json:"refusals"`
	Ends      map[string]uint64 `json:"ends"`
	Peak      uint64            `json:"peak"`
	PeakAt    *time.Time        `json:"peak_at"`
	Stretches []stretchLine     `json:"stretches"`
}

func stretchLines(c history.Counts) []stretchLine {
	lines := []stretchLine{}
	for _, s := range c.Stretches {
		lines = append(lines, stretchLine{s.From.Time(), s.Logins, s.Refused, s.Ended, s.Peak, s.PeakAt.Time()})
	}
	return lines
}

func printCountsJSON(to io.Writer, c history.Counts) error {
	return printJSON(to, countsLine{instant(c.From), instant(c.To), c.Logins, c.Refreshes, named(c.Refusals), named(c.Ends), c.Peak,
		instant(c.PeakAt), stretchLines(c)})
}

func printCountsCSV(to io.Writer, c history.Counts) error {
	t := newCSV(to, "from", "logins", "refused", "ended", "peak", "peak_at")
	for _, l := range stretchLines(c) {
		n := func(v uint64) string { return strconv.FormatUint(v, 10) }
		t.row(l.From.Format(time.RFC3339), n(l.Logins), n(l.Refused), n(l.Ended), n(l.Peak), l.PeakAt.Format(time.RFC3339Nano))
	}
	return t.end()
}

// named has the counts by the stable names of what was counted.
func named[K interface {
	comparable
	String() string
}](counts map[K]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, n := range counts {
		out[k.String()] = n
	}
	return out
}

// printCounts draws them: totals, a line of the sessions at once, and a bar of the logins for each stretch.
func printCounts(to io.Writer, c history.Counts, what history.Counted, wide int) error {
	form, zone := "2006-01-02 15:04", what.Zone
	if what.By == history.ByDay {
		form = "2006-01-02 Mon"
	}
	at := func(i session.Instant, form string) string { return i.Time().In(zone).Format(form) }
	total := table{header: []string{"logins", fmt.Sprint(c.Logins)}}
	total.row("refreshes", fmt.Sprint(c.Refreshes))
	total.row("refused", byCount(named(c.Refusals)))
	total.row("ended", byCount(named(c.Ends)))
	total.row("most at once", fmt.Sprintf("%d, at %s", c.Peak, at(c.PeakAt, "2006-01-02 15:04:05.000")))
	if err := total.print(to); err != nil {
		return err
	}
	peaks := make([]uint64, len(c.Stretches))
	var most uint64
	for i, s := range c.Stretches {
		peaks[i] = s.Peak
		most = max(most, s.Logins)
	}
	if _, err := fmt.Fprintf(to, "at once       %s\n\n", sparkline(peaks, max(wide-14, 10))); err != nil {
		return err
	}
	return drawnStretches(c, most, wide, func(s history.Stretch) string { return at(s.From, form) }).print(to)
}

// drawnStretches are the stretches with a bar each, where the screen has room for one. A narrow screen has no refusals and ends
// either: a line that is broken in two says less than one that is cut.
func drawnStretches(c history.Counts, most uint64, wide int, from func(history.Stretch) string) *table {
	const leastBar = 8
	t := &table{header: []string{"FROM", "LOGINS", "REFUSED", "ENDED", "PEAK"}}
	for _, s := range c.Stretches {
		t.row(from(s), fmt.Sprint(s.Logins), fmt.Sprint(s.Refused), fmt.Sprint(s.Ended), fmt.Sprint(s.Peak))
	}
	room := wide
	for i, title := range t.header {
		column := len(title)
		for _, row := range t.rows {
			column = max(column, len(row[i]))
		}
		room -= column + 2
	}
	if room < -2 {
		t.header = slices.Delete(t.header, 2, 4)
	}
	for i, s := range c.Stretches {
		switch {
		case room < -2:
			t.rows[i] = slices.Delete(t.rows[i], 2, 4)
		case room >= leastBar:
			t.rows[i] = append(t.rows[i], blocks(s.Logins, most, room))
		}
	}
	return t
}

// byCount lists counts, the largest first.
func byCount(counts map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var total uint64
	parts := make([]string, len(names))
	for i, name := range names {
		total += counts[name]
		parts[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	if total == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", total, strings.Join(parts, ", "))
}

// blocks is a bar of eighths of a column.
func blocks(n, most uint64, width int) string {
	if most == 0 || n == 0 {
		return ""
	}
	eighths := max(int(float64(n)/float64(most)*float64(8*width)), 1)
	bar := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		bar += string([]rune("▏▎▍▌▋▊▉")[part-1])
	}
	return bar
}

// sparkline draws values in a row of so many columns at the most; where there are more, a column is the most of its share.
func sparkline(values []uint64, width int) string {
	columns := min(len(values), width)
	shares := make([]uint64, columns)
	var most uint64
	for i, v := range values {
		at := i * columns / len(values)
		shares[at] = max(shares[at], v)
		most = max(most, v)
	}
	var out strings.Builder
	for _, v := range shares {
		level := 0
		if most > 0 {
			level = int(float64(v) / float64(most) * 7)
		}
		out.WriteRune([]rune("▁▂▃▄▅▆▇█")[level])
	}
	return out.String()
}
