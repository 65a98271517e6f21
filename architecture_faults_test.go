package rollbook_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// faults are trees that break one rule in one place, and what the rule has to say about it. Words that the rules look
// for in every file, this one too, are put together from halves.
var faults = []struct {
	rule  string // the name of the rule that must speak; no other rule may
	name  string
	files map[string]string
	want  []string // what the one sentence holds
}{
	{"import table", "a leaf imports a room",
		map[string]string{"bus/bus.go": file("bus", `import "rollbook/engine/session"`)},
		[]string{"bus/bus.go imports rollbook/engine/session", "bus may import nothing"}},
	{"import table", "the flow turns round",
		map[string]string{"engine/writer.go": file("engine", `import _ "rollbook/adapters"`)},
		[]string{"engine/writer.go imports rollbook/adapters", "engine may import engine/session, bus"}},
	{"import table", "a protocol imports its neighbour",
		map[string]string{"adapters/zenith/zenith.go": file("zenith", `import "rollbook/adapters/nebula"`)},
		[]string{"adapters/zenith/zenith.go imports rollbook/adapters/nebula"}},
	{"import table", "product code imports a test kit",
		map[string]string{"cmd/rollbook/main.go": command(`import "rollbook/bus/bustest"`)},
		[]string{"cmd/rollbook/main.go imports rollbook/bus/bustest"}},
	{"import table", "a room imports the root",
		map[string]string{"bus/bus.go": file("bus", `import "rollbook"`)},
		[]string{"bus/bus.go imports rollbook,"}},
	{"import table", "a room nobody planned",
		map[string]string{"bus/queue/queue.go": file("queue", "")},
		[]string{"bus/queue/queue.go", "without a line in the import table"}},

	{"docs state the import table", "a line is missing",
		map[string]string{"docs/design.md": strings.Replace(importTable, "bus                     <- nothing", "", 1)},
		[]string{`docs/design.md should have the line "bus <- nothing"`}},
	{"docs state the import table", "a line says more",
		map[string]string{"docs/design.md": strings.Replace(importTable, "<- adapters, engine/session", "<- adapters, engine/session, bus", 1)},
		[]string{`"adapters/<protocol> <- adapters, engine/session"`, `has "adapters, engine/session, bus"`}},
	{"docs state the import table", "a line too many",
		map[string]string{"docs/design.md": importTable + "    bus/queue <- bus\n"},
		[]string{`docs/design.md has the line "bus/queue <- bus"`}},

	{"package comments", "none",
		map[string]string{"bus/bus.go": "package bus\n"},
		[]string{`no file of bus has the package comment: it begins with "Package bus "`}},
	{"package comments", "one that says something else",
		map[string]string{"bus/bus.go": "// This is the bus.\npackage bus\n"},
		[]string{"no file of bus"}},
	{"package comments", "only a test has it",
		map[string]string{"bus/bus.go": "package bus\n", "bus/bus_test.go": file("bus", "")},
		[]string{"no file of bus"}},
	{"package comments", "a command's",
		map[string]string{"cmd/rollbook/main.go": "// Package main starts.\npackage main\n"},
		[]string{`no file of cmd/rollbook has the package comment: it begins with "Command rollbook "`}},

	{"package names", "by name",
		map[string]string{"bus/bus_test.go": "// Package util_test is vague.\npackage util_test\n"},
		[]string{"bus/bus_test.go", `"util"`}},
	{"package names", "by folder",
		map[string]string{"bus/internal/wiretest/wire.go": file("wiretest", "")},
		[]string{"bus/internal/wiretest/wire.go", `"internal"`}},

	{"test modules stay in tests", "a module",
		map[string]string{"bus/bus.go": file("bus", `import _ "pgregory.net/rapid"`)},
		[]string{"bus/bus.go imports pgregory.net/rapid"}},
	{"test modules stay in tests", "a package below one",
		map[string]string{"engine/writer.go": file("engine", `import "github.com/rogpeppe/go-internal/testscript"`)},
		[]string{"engine/writer.go imports github.com/rogpeppe/go-internal/testscript"}},
	{"test modules stay in tests", "the standard library's",
		map[string]string{"engine/writer.go": file("engine", `import "testing/synctest"`)},
		[]string{"engine/writer.go imports testing/synctest"}},

	{"metrics are no globals", "registered by init",
		map[string]string{"bus/bus.go": file("bus", prom+"func init() { prometheus.MustRegister(nil) }")},
		[]string{"bus/bus.go:4 uses prometheus.MustRegister"}},
	{"metrics are no globals", "a package variable",
		map[string]string{"bus/bus.go": file("bus", prom+"var lag = prometheus.NewGauge(prometheus.GaugeOpts{})")},
		[]string{"bus/bus.go:4 uses prometheus.NewGauge"}},
	{"metrics are no globals", "the default registry in a constructor, renamed",
		map[string]string{"bus/bus.go": file("bus", `import p "github.com/prometheus/client_golang/prometheus/promauto"`+
			"\n\nfunc New() { p.NewCounter(opts) }")},
		[]string{"bus/bus.go:6 uses promauto.NewCounter"}},

	{"the language is pure", "a package that reads",
		map[string]string{"engine/session/mint.go": file("session", `import "crypto/rand"`)},
		[]string{"engine/session/mint.go imports crypto/rand"}},
	{"the language is pure", "the clock",
		map[string]string{"engine/session/decide.go": file("session", "import \"time\"\n\nvar now = time.Now")},
		[]string{"engine/session/decide.go:6 uses time.Now"}},
	{"the language is pure", "a timer under another name",
		map[string]string{"engine/session/decide.go": file("session", "import clock \"time\"\n\nvar _ = clock.NewTimer(1)")},
		[]string{"engine/session/decide.go:6 uses time.NewTimer"}},
	{"the language is pure", "a name out of sight",
		map[string]string{"engine/session/decide.go": file("session", `import . "time"`)},
		[]string{"engine/session/decide.go imports time as ."}},
	{"the language is pure", "a lock",
		map[string]string{"engine/session/decide.go": file("session", "import \"sync\"\n\nvar mu sync.Mutex")},
		[]string{"engine/session/decide.go:6 uses sync.Mutex"}},
	{"the language is pure", "a goroutine",
		map[string]string{"engine/session/decide.go": file("session", "func f() { go f() }")},
		[]string{"engine/session/decide.go:4 starts a goroutine"}},

	{"no machine paths, no loose marks", "where it was built",
		map[string]string{"docs/start.md": "One.\nRun it in /wo" + "rk/main.\n"},
		[]string{`docs/start.md:2 holds the path of one machine: "/wo` + `rk/"`}},
	{"no machine paths, no loose marks", "somebody's home",
		map[string]string{".ci/run": "cd /ho" + "me/me/rollbook\n"},
		[]string{".ci/run:1 holds the path of one machine"}},
	{"no machine paths, no loose marks", "a mark without an issue",
		map[string]string{"bus/bus.go": file("bus", "// TO"+"DO(me): later")},
		[]string{"bus/bus.go:4 holds a TO" + "DO without the number of its issue"}},

	{"a corpus for each fuzz target", "none",
		map[string]string{"bus/page_test.go": fuzzTarget},
		[]string{"bus.FuzzPage has no corpus in bus/testdata/fuzz/FuzzPage"}},
	{"a corpus for each fuzz target", "another's",
		map[string]string{"bus/page_test.go": fuzzTarget, "bus/testdata/fuzz/FuzzPage/a": fuzzInput, "bus/testdata/fuzz/FuzzPages/b": fuzzInput},
		[]string{"bus/testdata/fuzz/FuzzPages is the corpus of no fuzz target"}},
	{"a corpus for each fuzz target", "a large input",
		map[string]string{"bus/page_test.go": fuzzTarget, "bus/testdata/fuzz/FuzzPage/a": fuzzInput + strings.Repeat("\n", maxInput)},
		[]string{"bus/testdata/fuzz/FuzzPage/a has", "more than the 4096 of an input"}},
	{"a corpus for each fuzz target", "many inputs", corpora(1, maxCorpus+1, fuzzInput),
		[]string{"bus/testdata/fuzz/FuzzPage0 has 49 inputs, more than 48"}},
	{"a corpus for each fuzz target", "many large ones", corpora(9, 45, fuzzInput+strings.Repeat("\n", maxInput-len(fuzzInput))),
		[]string{"the corpora have 1658880 bytes, more than 1572864"}},
}

// fuzzInput is an input of a fuzz target for the fault trees, and fuzzTarget the target.
const fuzzInput = "go test fuzz v1\n[]byte(\"\")\n"

var fuzzTarget = file("bus", "import \"testing\"\n\nfunc FuzzPage(f *testing.F) {}")

// corpora are so many targets with so many inputs each.
func corpora(targets, inputs int, input string) map[string]string {
	files := map[string]string{}
	for t := range targets {
		files[fmt.Sprintf("bus/page%d_test.go", t)] = strings.Replace(fuzzTarget, "FuzzPage", fmt.Sprintf("FuzzPage%d", t), 1)
		for i := range inputs {
			files[fmt.Sprintf("bus/testdata/fuzz/FuzzPage%d/%d", t, i)] = input
		}
	}
	return files
}

// prom is an import for the fault trees.
const prom = `import "github.com/prometheus/client_golang/prometheus"; `

// file is a Go file with a package comment; what follows begins on line 4.
func file(name, rest string) string {
	return "// Package " + name + " is here to be judged.\npackage " + name + "\n\n" + rest + "\n"
}

// command is a Go file of cmd/rollbook.
func command(rest string) string {
	return "// Command rollbook is here to be judged.\npackage main\n\n" + rest + "\n"
}

func TestRulesCatchFaults(t *testing.T) {
	proven := map[string]bool{}
	for _, fault := range faults {
		proven[fault.rule] = true
		t.Run(fault.rule+"/"+fault.name, func(t *testing.T) {
			house := mustRead(t, fault.files)
			for _, rule := range rules {
				sentences := rule.broken(house)
				if rule.name != fault.rule {
					if len(sentences) != 0 {
						t.Errorf("%q speaks up about a fault that is not its own: %q", rule.name, sentences)
					}
					continue
				}
				if len(sentences) != 1 {
					t.Fatalf("want one sentence, got %q", sentences)
				}
				for _, part := range fault.want {
					if !strings.Contains(sentences[0], part) {
						t.Errorf("the sentence %q does not hold %q", sentences[0], part)
					}
				}
			}
		})
	}
	for _, rule := range rules {
		if !proven[rule.name] {
			t.Errorf("no fault proves that %q can fail", rule.name)
		}
	}
}

// TestRulesPassSoundTree holds what the rules must let through.
func TestRulesPassSoundTree(t *testing.T) {
	house := mustRead(t, map[string]string{
		".gitignore":      "/bin/\n/rollbook\n",
		"bin/leftover.go": "no Go at all",
		"rollbook":        "a binary, built in /ro" + "ot/",
		"docs/design.md":  importTable + "\nThe gate (adapters) <- what a venue presents.\n",
		"engine/session/session.go": file("session", "import (\n\t\"sync\"\n\t\"time\"\n)\n\n"+
			"var buffers sync.Pool\n\nvar zero = time.Unix(0, 0) // TO"+"DO(#12): years before 1970"),
		"engine/session/session_test.go": "package session_test\n\nimport (\n\t\"testing\"\n\t\"time\"\n\t\"rollbook/engine\"\n)\n\n" +
			"func f() { go time.Now() }\n",
		"engine/writer.go": file("engine", `import ("rollbook/bus"; "rollbook/engine/session")`),
		"bus/bus.go": file("bus", prom+"var d = prometheus.NewDesc; "+
			"func New(r any) { prometheus.NewGauge(o); r.MustRegister(g) }"),
		"bus/bustest/bustest.go":           file("bustest", `import ("testing"; "rollbook/bus"; "rollbook/engine")`),
		"adapters/adapters.go":             file("adapters", `import "rollbook/bus"`),
		"adapters/genesis/genesis.go":      file("genesis", `import "rollbook/adapters"`),
		"adapters/genesis/testdata/odd.go": "no Go at all",
		"bus/page_test.go":                 fuzzTarget,
		"bus/testdata/fuzz/FuzzPage/a":     fuzzInput,
		"journeys/journeys_test.go": "// Package journeys_test walks.\npackage journeys_test\n\n" +
			"import \"rollbook/adapters/genesis\"\n",
		"cmd/rollbook/main.go":    command(`import "rollbook/adapters/genesis"`),
		"testdata/wire/login.txt": "GET https://venue.example/home/login\n",
		"testdata/wire/frame.bin": "\x00/ho" + "me/",
	})
	for _, rule := range rules {
		for _, sentence := range rule.broken(house) {
			t.Errorf("%s: %s", rule.name, sentence)
		}
	}
}

func mustRead(t *testing.T, files map[string]string) tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	house, err := read(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return house
}
