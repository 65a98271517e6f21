package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"rollbook/engine/session"
)

// operatorLog is the log of an operator's command: quiet unless something is wrong.
func (c *cli) operatorLog() *slog.Logger { return c.Log.logger(os.Stderr, slog.LevelWarn) }

// told ends a command: its error, or the engine's refusal, or the sentence that says what was done.
func told(reply session.Reply, err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	if reply.Refusal == session.UnknownUser {
		return refuseBy(reply.Refusal, "the book does not know the user")
	}
	if err := refuseBy(reply.Refusal, "the writer refused"); err != nil {
		return err
	}
	_, err = fmt.Println(printable(fmt.Sprintf(format, args...)))
	return err
}

// ended says how many sessions were ended.
func ended(n uint64) string {
	switch n {
	case 0:
		return "no session ended"
	case 1:
		return "1 session ended"
	}
	return fmt.Sprintf("%d sessions ended", n)
}

// table is aligned text, two spaces between columns, as wide as what is in it.
type table struct {
	header []string
	rows   [][]string
	none   string // printed in place of a table without rows
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(to io.Writer) error {
	if len(t.rows) == 0 {
		_, err := fmt.Fprintln(to, t.none)
		return err
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(w, strings.Join(row, "\t")) // into memory: it cannot fail
	}
	w.Flush()
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(to, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints a value on one line.
func printJSON(to io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := to.Write(escaped(text.Bytes()))
	return err
}

// escaped is JSON with an escape, \u and four digits, for whatever is not printable: to who decodes it the same values, and to a
// screen that it is shown on nothing that steers it. The encoder does so for line ends and the first 32 characters alone.
func escaped(text []byte) []byte {
	steers := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if bytes.IndexFunc(text, steers) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+32)
	for _, r := range string(text) {
		switch {
		case !steers(r):
			out = utf8.AppendRune(out, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return out
}

// printJSONLines prints one object a line.
func printJSONLines[T any](to io.Writer, lines []T) error {
	for _, line := range lines {
		if err := printJSON(to, line); err != nil {
			return err
		}
	}
	return nil
}

// instant is a moment as JSON has it: nil for none.
func instant(at session.Instant) *time.Time {
	if at == 0 {
		return nil
	}
	t := at.Time()
	return &t
}

// moment is a time as tables have it, in this machine's zone.
func moment(at *time.Time) string {
	if at == nil {
		return "never"
	}
	return at.Local().Format("2006-01-02 15:04:05")
}

// span is a length of time in its largest fitting unit.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
