// Package rollbook_test holds the shape of the house: who may import whom, and what no file may hold.
//
// It reads the module's files itself, parses the Go ones and hands the tree to the rules, each of which answers with
// one sentence per violation. It opens the files, rather than asking `go list`, so that the test cache knows what the
// answer was made from and asks again when a file changes.
//
// Invariants:
//   - A rule is a function of a tree, and is fed a tree that breaks it: a check that can not fail is a defect.
//   - A folder without a line in the import table is a violation, so a new room is added on purpose.
//   - Folders of the table that are not built yet are simply absent.
package rollbook_test

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// module is the module's path in go.mod; what an import path starts with when it is ours.
const module = "rollbook"

// importTable reads "a <- b, c": a may import b and c, and nothing else of ours. docs/design.md states the same table.
const importTable = `
    engine/session          <- nothing
    bus                     <- nothing
    engine                  <- engine/session, bus
    projections             <- engine/session, bus
    projections/<name>      <- projections, engine/session, bus
    projections/feed/subscribe <- engine/session
    docs/examples/consumers/go <- engine/session, projections/feed/subscribe
    projections/proof/backup <- projections/proof, engine/session, bus
    adapters                <- engine/session, bus
    adapters/<protocol>     <- adapters, engine/session
    cmd/rollbook            <- anything
`

// rules are all the rules, in the order a reader would look for them; the faults that prove each are in
// architecture_faults_test.go.
var rules = []struct {
	name string
	// broken answers with one sentence for each violation, and with nothing for a sound tree.
	broken func(tree) []string
}{
	{"import table", brokenImports},
	{"docs state the import table", brokenDocs},
	{"package comments", brokenComments},
	{"package names", brokenNames},
	{"test modules stay in tests", brokenTestModules},
	{"metrics are no globals", brokenMetrics},
	{"the language is pure", brokenPurity},
	{"no machine paths, no loose marks", brokenTexts},
	{"a corpus for each fuzz target", brokenCorpora},
}

func TestArchitecture(t *testing.T) {
	house, err := read(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	// A tree read from the wrong folder, or under another module name, would satisfy every rule by being empty.
	if !strings.HasPrefix(house.texts["go.mod"], "module "+module+"\n") || house.texts["architecture_test.go"] == "" {
		t.Fatalf("this is not the root of module %s", module)
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, sentence := range rule.broken(house) {
				t.Error(sentence)
			}
		})
	}
}

var (
	tableLine   = regexp.MustCompile(`(?m)^[ \t]*([a-z]+(?:/[a-z<>]+)*)[ \t]+<-[ \t]+([a-z/, ]+[a-z])`)
	placeholder = regexp.MustCompile(`<[a-z]+>`)
)

// tableIn finds the lines "a <- b, c" of a text; what follows the names, such as a remark in brackets, is left out.
func tableIn(text string) map[string]string {
	table := map[string]string{}
	for _, line := range tableLine.FindAllStringSubmatch(text, -1) {
		table[line[1]] = line[2]
	}
	return table
}

// mayImport answers with the right-hand side of the table's line for a folder.
func mayImport(dir string) (list string, known bool) {
	if dir == "." { // the module's root has documentation at most
		return "nothing", true
	}
	table := tableIn(importTable)
	for _, room := range slices.Sorted(maps.Keys(table)) {
		if match, _ := path.Match(placeholder.ReplaceAllString(room, "*"), dir); match {
			return table[room], true
		}
	}
	return "", false
}

func brokenImports(house tree) (sentences []string) {
	strangers := map[string]bool{}
	for _, file := range house.product() {
		list, known := mayImport(file.dir)
		if !known && !strangers[file.dir] {
			strangers[file.dir] = true
			sentences = append(sentences, fmt.Sprintf("%s is in a folder without a line in the import table of "+
				"architecture_test.go and docs/design.md: put the code in a room that is there, or add one on purpose", file.path))
		}
		for _, target := range slices.Sorted(maps.Keys(file.imports())) {
			dir, ours := strings.CutPrefix(target+"/", module+"/")
			dir = path.Clean(dir)
			allowed := list == "anything" && !kit(dir) || slices.Contains(strings.Split(list, ", "), dir)
			if ours && known && !allowed {
				sentences = append(sentences, fmt.Sprintf("%s imports %s, but the import table says that %s may import %s",
					file.path, target, file.dir, list))
			}
		}
	}
	return sentences
}

func brokenDocs(house tree) (sentences []string) {
	const doc = "docs/design.md"
	text, written := house.texts[doc]
	if !written {
		return nil
	}
	want, got := tableIn(importTable), tableIn(text)
	for _, room := range slices.Sorted(maps.Keys(want)) {
		if got[room] != want[room] {
			sentences = append(sentences, fmt.Sprintf("%s should have the line %q of the import table, and has %q",
				doc, room+" <- "+want[room], got[room]))
		}
	}
	for _, room := range slices.Sorted(maps.Keys(got)) {
		if want[room] == "" {
			sentences = append(sentences, fmt.Sprintf("%s has the line %q, which is not in the import table of architecture_test.go",
				doc, room+" <- "+got[room]))
		}
	}
	return sentences
}

func brokenComments(house tree) (sentences []string) {
	rooms := map[string][]source{}
	for _, file := range house.source {
		rooms[file.dir] = append(rooms[file.dir], file)
	}
	for _, dir := range slices.Sorted(maps.Keys(rooms)) {
		files := rooms[dir]
		// Only where there is nothing but tests may a test hold the comment.
		if product := slices.DeleteFunc(slices.Clone(files), source.isTest); len(product) > 0 {
			files = product
		}
		opening := "Package " + files[0].syntax.Name.Name + " "
		if files[0].syntax.Name.Name == "main" {
			opening = "Command " + path.Base(dir) + " "
		}
		if !slices.ContainsFunc(files, func(file source) bool { return strings.HasPrefix(file.syntax.Doc.Text(), opening) }) {
			sentences = append(sentences, fmt.Sprintf("no file of %s has the package comment: it begins with %q", dir, opening))
		}
	}
	return sentences
}

// vague names say nothing about what a package is for; "internal" hides a room from the table.
var vague = []string{"util", "utils", "common", "helper", "helpers", "type", "types", "model", "models", "internal"}

func brokenNames(house tree) (sentences []string) {
	for _, file := range house.source {
		parts := append(strings.Split(file.dir, "/"), strings.TrimSuffix(file.syntax.Name.Name, "_test"))
		for _, part := range parts {
			if slices.Contains(vague, part) {
				sentences = append(sentences, fmt.Sprintf("%s is in a package called %q: name the package after what it does",
					file.path, part))
				break
			}
		}
	}
	return sentences
}

// testModules are import paths, each standing for everything below it too, that the binary does without.
var testModules = []string{
	"testing", "net/http/httptest", "github.com/anishathalye/porcupine", "github.com/cockroachdb/datadriven", "github.com/google/go-cmp",
	"github.com/gorilla/websocket", "github.com/lestrrat-go/jwx", "github.com/rogpeppe/go-internal", "go.uber.org/goleak", "pgregory.net/rapid",
}

func brokenTestModules(house tree) (sentences []string) {
	for _, file := range house.product() {
		for _, target := range slices.Sorted(maps.Keys(file.imports())) {
			for _, banned := range testModules {
				if target == banned || strings.HasPrefix(target, banned+"/") {
					sentences = append(sentences, fmt.Sprintf("%s imports %s, which only tests may import", file.path, target))
				}
			}
		}
	}
	return sentences
}

var (
	metricModules = []string{"prometheus", "prometheus/promauto", "prometheus/promhttp"}
	globalMetrics = regexp.MustCompile(`^(prometheus\.((Must)?Register|Unregister|Default\w+)|` +
		`promauto\.New\w+|promhttp\.Handler)$`)
	newMetrics = regexp.MustCompile(`^(prometheus\.New(Counter|Gauge|Histogram|Summary|Untyped|Registry|Pedantic)\w*|` +
		`promauto\.\w+)$`)
)

// brokenMetrics finds metrics that exist before New was called: those of the default registry anywhere, and those made
// by a package's variables or init.
func brokenMetrics(house tree) (sentences []string) {
	for _, file := range house.product() {
		named := file.imports()
		for _, decl := range file.syntax.Decls {
			early := true // does it run before main?
			if function, ok := decl.(*ast.FuncDecl); ok {
				early = function.Recv == nil && function.Name.Name == "init"
			}
			for _, name := range metricModules {
				local, ok := named["github.com/prometheus/client_golang/"+name]
				for _, use := range uses(decl, local) {
					full := path.Base(name) + "." + use.Sel.Name
					if ok && (globalMetrics.MatchString(full) || early && newMetrics.MatchString(full)) {
						sentences = append(sentences, fmt.Sprintf("%s uses %s outside a constructor or on the default registry: "+
							"metrics are a struct made by New and registered where it is told", house.at(use), full))
					}
				}
			}
		}
	}
	return sentences
}

var (
	// pure is what engine/session may import: nothing that reads a clock, chance, a file or a network. Of sync the codec
	// may have Pool, whose buffers nobody can tell apart; locks have no place where there is one goroutine.
	pure = []string{
		"bytes", "cmp", "container/heap", "crypto/sha256", "crypto/subtle", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json",
		"errors", "fmt", "hash/crc32", "hash/fnv", "iter", "maps", "math", "math/bits", "net/netip", "reflect", "slices", "sort", "strconv", "strings",
		"sync", "time", "unicode", "unicode/utf8", "github.com/vmihailenco/msgpack/v5",
	}
	impure = regexp.MustCompile(`^(` +
		`time\.(Now|Since|Until|After|AfterFunc|Sleep|Tick|Timer|Ticker|NewTimer|NewTicker|Local|LoadLocation)|` +
		`fmt\.(Print|Scan|Fscan)\w*|sync\.(Cond|Map|Mutex|Once\w*|RWMutex|WaitGroup))$`)
)

func brokenPurity(house tree) (sentences []string) {
	for _, file := range house.product() {
		if file.dir != "engine/session" {
			continue
		}
		for target, local := range file.imports() {
			if !slices.Contains(pure, target) || local == "." || local == "_" {
				sentences = append(sentences, fmt.Sprintf("%s imports %s as %s, which is not on the short list of pure packages",
					file.path, target, local))
			}
			for _, use := range uses(file.syntax, local) {
				if full := target + "." + use.Sel.Name; impure.MatchString(full) {
					sentences = append(sentences, fmt.Sprintf("%s uses %s: the time is an argument, nothing is read or written, nobody waits",
						house.at(use), full))
				}
			}
		}
		ast.Inspect(file.syntax, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				sentences = append(sentences, fmt.Sprintf("%s starts a goroutine in the pure core", house.at(n)))
			}
			return true
		})
	}
	slices.Sort(sentences)
	return sentences
}

var (
	// The brackets keep these expressions from matching themselves.
	machinePath = regexp.MustCompile(`/wor[k]/|(?:^|[^\w.~-])/(?:home|root|Users)/`)
	looseMark   = regexp.MustCompile(`\b(?:TO[D]O|FIX[M]E)\b(?:\(#[0-9]+\))?`)
)

func brokenTexts(house tree) (sentences []string) {
	for _, name := range slices.Sorted(maps.Keys(house.texts)) {
		number := 0
		for line := range strings.Lines(house.texts[name]) {
			number++
			if found := machinePath.FindString(line); found != "" {
				sentences = append(sentences, fmt.Sprintf("%s:%d holds the path of one machine: %q", name, number, found))
			}
			for _, found := range looseMark.FindAllString(line, -1) {
				if !strings.HasSuffix(found, ")") {
					sentences = append(sentences, fmt.Sprintf("%s:%d holds a %s without the number of its issue: write it as %s(#12), "+
						"or do it", name, number, found, found))
				}
			}
		}
	}
	return sentences
}
