package session

import (
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const eventDoc = "../../docs/events.md"

// TestEventReference holds docs/events.md, the reference of all events, to the code: the fields and their order are those
// that [Describe] gives, which another test compares with the codec; the texts are the comments of the types and fields; the
// forms are those of the goldens. With -update the file is written. A field without a comment has no place in it.
func TestEventReference(t *testing.T) {
	words := readComments(t)
	var b strings.Builder
	b.WriteString(eventDocHead)
	for _, name := range EventTypes() {
		writeEvent(t, &b, words, EmptyEvent(name))
	}
	b.WriteString("## Codes\n")
	for _, c := range []struct {
		title string
		first int
		name  func(uint8) string
	}{
		{"venue", 1, func(n uint8) string { return Venue(n).String() }},
		{"refusal", 0, func(n uint8) string { return Refusal(n).String() }},
		{"reason", 1, func(n uint8) string { return EndReason(n).String() }},
		{"kind of resource", 1, func(n uint8) string { return ResourceKind(n).String() }},
	} {
		fmt.Fprintf(&b, "\n%s:", c.title)
		for n := c.first; ; n++ {
			name := c.name(uint8(n))
			if strings.HasSuffix(name, fmt.Sprintf("-%d", n)) {
				break
			}
			fmt.Fprintf(&b, " %d `%s`", n, name)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nverdict: 1 the credential matched, 2 it did not, 3 nobody has that name (the user is then derived from the name)\n")
	if *update {
		if err := os.WriteFile(eventDoc, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(eventDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("%s is not what the code says: run make golden, and read the diff", eventDoc)
	}
}

// comments are the texts of a struct and its fields.
type comments struct {
	text   string
	fields map[string]string
}

func readComments(t *testing.T) map[string]comments {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all, set := map[string]comments{}, token.NewFileSet()
	for _, name := range files {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, spec := range group.Specs {
				s, ok := spec.(*ast.TypeSpec)
				if structure, isStruct := s.Type.(*ast.StructType); ok && isStruct {
					all[s.Name.Name] = comments{oneLine(group.Doc.Text()), fieldComments(structure)}
				}
			}
		}
	}
	return all
}

func fieldComments(s *ast.StructType) map[string]string {
	fields := map[string]string{}
	for _, f := range s.Fields.List {
		text := f.Comment.Text()
		if text == "" {
			text = f.Doc.Text()
		}
		for _, name := range f.Names {
			fields[name.Name] = oneLine(text)
		}
	}
	return fields
}

var link = regexp.MustCompile(`\[([A-Z][A-Za-z.]*)\]`)

// oneLine is a comment as a table has it.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(text, "[Forever]", "2^63-1")
	return strings.ReplaceAll(link.ReplaceAllString(text, "$1"), "|", "\\|")
}

// writeEvent is an event's section.
func writeEvent(t *testing.T, b *strings.Builder, words map[string]comments, e Event) {
	t.Helper()
	name := string(e.Type())
	_, text, _ := strings.Cut(words[name].text, ": ")
	if text == "" {
		t.Errorf("%s has no comment of the form \"%[1]s: ...\"", name)
		return
	}
	fmt.Fprintf(b, "## %s\n\nKind %d. %s%s\n\n| place | field | stored as | meaning | since form |\n| --- | --- | --- | --- | --- |\n",
		name, e.kind(), strings.ToUpper(text[:1]), text[1:])
	lengths := formLengths(t, name)
	place := 2
	var walk func(in, prefix string, structure reflect.Type)
	walk = func(in, prefix string, structure reflect.Type) {
		for i := range structure.NumField() {
			f := structure.Field(i)
			switch {
			case f.Anonymous:
				walk(f.Type.Name(), prefix, f.Type)
				continue
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type.Name(), prefix+snake(f.Name)+"_", f.Type)
				continue
			}
			meaning := words[in].fields[f.Name]
			if meaning == "" {
				t.Errorf("%s.%s has no comment", in, f.Name)
			}
			fmt.Fprintf(b, "| %d | `%s` | %s | %s | %d |\n", place, prefix+snake(f.Name), storedAs(t, f.Type), meaning, since(lengths, place))
			place++
		}
	}
	walk(name, "", reflect.TypeOf(e).Elem())
	b.WriteString("\n")
}

// formLengths are the lengths of the array in each form that was ever written, the oldest first.
func formLengths(t *testing.T, name string) (lengths []int) {
	t.Helper()
	for _, line := range readLines(t, filepath.Join(goldens, "event-"+name+".hex")) {
		data, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		lengths = append(lengths, len(parse(t, data)))
	}
	return lengths
}

// since is the first form, from 1, with a place.
func since(lengths []int, place int) int {
	for i, n := range lengths {
		if place < n {
			return i + 1
		}
	}
	return len(lengths) + 1
}

// storedAs is how msgpack has a type, and its unit.
func storedAs(t *testing.T, of reflect.Type) string {
	switch of {
	case reflect.TypeFor[Instant]():
		return "int, unix ns; 0: none"
	case reflect.TypeFor[time.Duration]():
		return "int, ns"
	case reflect.TypeFor[Venue]():
		return "uint, a venue; 0: none"
	case reflect.TypeFor[Refusal]():
		return "uint, a refusal"
	case reflect.TypeFor[EndReason]():
		return "uint, a reason"
	case reflect.TypeFor[Verdict]():
		return "uint, a verdict"
	case reflect.TypeFor[ResourceKind]():
		return "uint, a kind of resource"
	}
	switch of.Kind() {
	case reflect.String:
		return "str"
	case reflect.Bool:
		return "bool"
	case reflect.Uint32, reflect.Uint64:
		return "uint"
	case reflect.Array:
		return fmt.Sprintf("bin, %d bytes; nil: none", of.Len())
	case reflect.Slice:
		switch item := of.Elem(); {
		case item.Kind() == reflect.Uint8:
			return "bin"
		case item.Kind() == reflect.Struct:
			names := make([]string, item.NumField())
			for i := range names {
				names[i] = snake(item.Field(i).Name)
			}
			return "array of [" + strings.Join(names, ", ") + "]"
		default:
			return "array of [" + storedAs(t, item) + "]"
		}
	}
	t.Errorf("%s is stored in a way that the reference has no words for", of)
	return ""
}

const eventDocHead = `# Events

What the book holds and the feed tells. This file is made from the code, and a test fails when it is not what the code says:
` + "`go test ./engine/session -run EventReference -args -update`" + ` writes it.

## Reading the feed

Each event is one message of the stream ` + "`EVENTS`" + `, on ` + "`rollbook.event.<partition>.<user>.<type>`" + `. The user is ` + "`-`" + ` where the event
concerns no single user; whatever a user id has beside letters, digits, ` + "`-` and `_`" + ` stands as ` + "`%`" + ` and two hexadecimal digits there.
The headers say where and when it happened:

| header | |
| --- | --- |
| ` + "`Rollbook-Position`" + ` | ` + "`partition/page.index`, as in `0/17.3`" + `. Within a partition positions are totally ordered; between partitions there is no order. An event has the same position for ever, in the book, in the feed and in every report: drop what is not after the last one seen of its partition, and each event counts once |
| ` + "`Rollbook-Time`" + ` | when it happened by the book's clock, RFC 3339 with nanoseconds |

The stream may be made anew: its ` + "`created`" + ` is another time then, and its sequences begin again. Positions stay, but for a book that was
restored from a backup: behind the last page of the backup other events stand at them. The stream's metadata name each restore in
the past of its book, as ` + "`partition/page/id`, separated by spaces, in `rollbook-restored`" + `; a restore that was not there before, of a page
before the last position seen, means that what was seen behind that page is not in the book ([backup.md](backup.md)).

Messages on ` + "`rollbook.feed.<partition>`" + ` are the publisher's markers and no events. Listen to ` + "`rollbook.live.feed.*`" + `, which tells
of each batch of events once it is stored, and read the stream; do not listen to the events' own subjects, over which batches pass
that come to nothing. The Go package ` + "`rollbook/projections/feed/subscribe`" + ` does that; [examples](examples/consumers) in Go,
JavaScript and with the nats command line are run by tests.

## Reading an event

The body is a [msgpack](https://msgpack.org) array: ` + "`[kind, version, field, field, ...]`" + `. The kind says which event it is, the version is 1.
Fields are told apart by their place, from 2 on. Later programs append fields: skip what comes after those you know, and take what
is not there as 0, empty or nil. A form of an event is how long its array was at a time; the first one is form 1. A place never
changes its meaning, and only a change that cannot be made so would raise the version: stop then, and upgrade.

Times are unix nanoseconds of the book's clock, durations nanoseconds, in signed integers of up to 64 bits: where numbers are
floating point, read them as big integers. Ids are 16 bytes and print as UUIDs. Of tokens there are SHA-256 hashes (32 bytes), and
nothing can be done with those. A sealed origin can be opened with the user's key alone, until that user is erased.

`
