package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"rollbook/adapters/genesis"
	"rollbook/engine/session"
)

var update = flag.Bool("update", false, "rewrite the table of settings in docs/configuration.md")

func parserOf(t testing.TB, into *cli) *kong.Kong {
	t.Helper()
	parser, err := newParser(into)
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// standardNames are the settings that a standard has a variable of its own for, which counts after ours.
var standardNames = map[string]string{"trace-endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}

// TestEverySettingIsNamedAlike holds flag, environment and file together, and that each setting is explained.
func TestEverySettingIsNamedAlike(t *testing.T) {
	list := settingsOf(parserOf(t, &cli{}).Model)
	if len(list) < 30 {
		t.Fatalf("only %d settings were found", len(list))
	}
	keys := map[string]string{}
	for _, flag := range list {
		want := []string{"ROLLBOOK_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
		if other := standardNames[flag.Name]; other != "" {
			want = append(want, other)
		}
		if !slices.Equal(flag.Envs, want) {
			t.Errorf("--%s has the environment names %q, not %q", flag.Name, flag.Envs, want)
		}
		if other, taken := keys[fileKey(flag.Name)]; taken {
			t.Errorf("--%s and --%s are one key of the file, %s", flag.Name, other, fileKey(flag.Name))
		}
		keys[fileKey(flag.Name)] = flag.Name
		explained := flag.HasDefault && flag.Default != "" || strings.Contains(flag.Help, "Default: ") || strings.Contains(flag.Help, "Empty: ") ||
			strings.Contains(flag.Help, "Empty")
		if !strings.HasSuffix(flag.Help, ".") || !explained {
			t.Errorf("--%s does not say what it is without being set: %q", flag.Name, flag.Help)
		}
		if flag.IsBool() || flag.Target.Kind().String() == "string" || flag.Target.Kind().String() == "slice" {
			continue
		}
		if !strings.Contains(flag.Help, "0: ") && !strings.Contains(flag.Help, "0 is refused") && flag.Name != "min-length" {
			t.Errorf("--%s does not say what zero means: %q", flag.Name, flag.Help)
		}
	}
}

// TestDefaultsAreTheDomainsOwn holds the command line's defaults to what the packages document.
func TestDefaultsAreTheDomainsOwn(t *testing.T) {
	var c cli
	if _, err := parserOf(t, &c).Parse([]string{"serve"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Serve.check(everything); err != nil {
		t.Fatal(err)
	}
	got, want := c.Serve.policies(), session.DefaultPolicies()
	if got.Lockout != want.Lockout {
		t.Errorf("lock-out:\n%+v\nnot\n%+v", got.Lockout, want.Lockout)
	}
	for venue, policy := range want.Venues {
		if got.Venues[venue] != policy {
			t.Errorf("%s:\n%+v\nnot\n%+v", venue, got.Venues[venue], policy)
		}
	}
	mine, theirs := c.Serve.genesisConfig(), genesis.DefaultConfig()
	mine.Product, theirs.Product = nil, nil
	if a, b := shown(mine), shown(theirs); a != b {
		t.Errorf("genesis:\n%s\nnot\n%s", a, b)
	}
}

// shown prints the fields that the command line sets.
func shown(c genesis.Config) string {
	return fmt.Sprintf("%v %v %v %v %v %v %v %v", c.StrictStatus, c.Cookies, c.AllowedOrigins, c.HeartbeatSecs, c.Linger,
		c.MaxBody, c.MessageRate, c.MaxSockets)
}

// TestConfigurationDocument holds the table of docs/configuration.md to the code; -update rewrites it.
func TestConfigurationDocument(t *testing.T) {
	const begin, end = "<!-- settings: written by go test ./cmd/rollbook -update -->\n", "<!-- end of settings -->\n"
	path := filepath.Join("..", "..", "docs", "configuration.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has lost the marks of its table", path)
	}
	want := before + begin + settingsTable(settingsOf(parserOf(t, &cli{}).Model)) + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says: run go test ./cmd/rollbook -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func settingsTable(list []*kong.Flag) string {
	var out strings.Builder
	out.WriteString("\n| flag and environment | file | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, flag := range list {
		value, key := "", fileKey(flag.Name)
		switch {
		case flag.Default != "":
			value = "`" + flag.Default + "`"
		case flag.IsBool():
			value = "`false`"
		default:
			value = "empty"
		}
		if flag.Name == "config" {
			key = ""
		} else {
			key = "`" + key + "`"
		}
		fmt.Fprintf(&out, "| `--%s`<br>`%s` | %s | %s | %s |\n", flag.Name, flag.Envs[0], key, value, strings.ReplaceAll(flag.Help, "|", "\\|"))
	}
	out.WriteString("\n")
	return out.String()
}

// TestDemoResources holds the demo's resources, the example in docs and the form of --json together.
func TestDemoResources(t *testing.T) {
	list, err := parseResources(demoResources, false)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range list {
		names = append(names, string(r.Name)+" "+r.Kind.String())
	}
	const want = "EVENT_ORDER_INSERT EVENT_HANDLER, EVENT_ORDER_AMEND EVENT_HANDLER, EVENT_ORDER_CANCEL EVENT_HANDLER, " +
		"COUNTERPARTY_DETAILS REQUEST_SERVER, MY_TRADES DATASERVER"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("the demo has %s", got)
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "docs", "examples", "resources.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(example, demoResources) {
		t.Error("docs/examples/resources.json and demo_resources.json differ")
	}
}
