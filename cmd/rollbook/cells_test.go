package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// TestHarmlessCells: no cell of a client's is a formula, also where the file is read with another separator.
func TestHarmlessCells(t *testing.T) {
	for cell, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "plain": "plain", "": "", "1=1": "1=1", "a-b": "a-b",
		"\tx": `\tx`, "\r=1": `\r=1`, "\n": `\n`, "\x1b[2J": `\x1b[2J`, "\u202egpj.exe": `\u202egpj.exe`,
		" =1": " '=1", `"=1`: `"'=1`, "x;=1": "x;'=1", `x,"+1`: `x,"'+1`, "x|@y": "x|'@y", "＝1": "'＝1", "Mozilla/5.0 (X11; Linux)": "Mozilla/5.0 (X11; Linux)",
		"2026-01-31T18:00:00Z": "2026-01-31T18:00:00Z",
	} {
		if got := harmless(cell); got != want {
			t.Errorf("%q is %q, want %q", cell, got, want)
		}
	}
}

// TestCSVTable: the rows come back cell by cell, none with a line end or a separator of its own.
func TestCSVTable(t *testing.T) {
	var out bytes.Buffer
	table := newCSV(&out, "a", "b")
	table.row("x,y", "say \"hi\"\r\n\x1b")
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 2 || rows[1][0] != "x,y" || rows[1][1] != `say "hi"\r\n\x1b` {
		t.Errorf("%q, %v", rows, err)
	}
}

// TestEscapedJSON: whatever stands in it, the line is printable, one line, and the value is exact.
func TestEscapedJSON(t *testing.T) {
	want := "plain größer 日本 <&> \x00\x1b[2J\r\n\t\x7f\u0085\u009b31m\u202e\u2066\u2028\ufeff\U000e0041 🙂 \\u202e"
	var out bytes.Buffer
	if err := printJSON(&out, map[string]string{"it": want}); err != nil {
		t.Fatal(err)
	}
	line, whole := strings.CutSuffix(out.String(), "\n")
	if !whole || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q", line)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(line), &got); err != nil || got["it"] != want {
		t.Errorf("%q, %v", got["it"], err)
	}
}
