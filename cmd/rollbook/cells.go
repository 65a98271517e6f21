package main

import (
	"encoding/csv"
	"io"
	"strings"

	"rollbook/projections/history"
)

// printable is text that anybody may have chosen, as a screen may have it: [history.Visible] decides for the tables, the CSV
// and the HTML alike. JSON has the exact text (escaped below).
func printable(cell string) string { return history.Visible(cell) }

// csvTable writes comma-separated values that are safe to open in a spreadsheet.
type csvTable struct{ w *csv.Writer }

func newCSV(to io.Writer, header ...string) csvTable {
	t := csvTable{csv.NewWriter(to)}
	_ = t.w.Write(header) // an error stays with the writer until end asks for it
	return t
}

// row writes one row. Its cells may be anybody's.
func (t csvTable) row(cells ...string) {
	for i := range cells {
		cells[i] = harmless(cells[i])
	}
	_ = t.w.Write(cells)
}

// end is the error of any of the rows so far, which are written out by then.
func (t csvTable) end() error {
	t.w.Flush()
	return t.w.Error()
}

// harmless is a cell that no spreadsheet takes for a formula (OWASP, CSV Injection): what begins one has an apostrophe in
// front, at the start of the cell and behind what another spreadsheet takes for the end of one. The wide forms of the signs
// count: a spreadsheet with an East Asian locale reads them so. What is not printable is made visible, tabs and line ends too.
func harmless(cell string) string {
	cell = printable(cell)
	if !strings.ContainsAny(cell, formulaSigns) {
		return cell
	}
	var out strings.Builder
	start := true // nothing but blanks and quotes stands before, in this cell or in what may be read as one
	for _, r := range cell {
		if start && strings.ContainsRune(formulaSigns, r) {
			out.WriteByte('\'')
		}
		switch r {
		case ',', ';', '|':
			start = true
		case ' ', '"', '\'':
		default:
			start = false
		}
		out.WriteRune(r)
	}
	return out.String()
}

// formulaSigns begin a formula.
const formulaSigns = "=+-@＝＋－＠"
