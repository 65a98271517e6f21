package main

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// configFile is the flag --config: it has settings that neither a flag nor the environment gives read from a file.
type configFile string

// fileTables are the tables of the file: a flag --log-level is the key "level" of the table [log].
var fileTables = []string{"log", "lockout", "tls", "genesis", "te", "advauth", "zenith", "nebula"}

// fileKey is where a flag's value stands in the file.
func fileKey(flag string) string {
	for _, table := range fileTables {
		if rest, ok := strings.CutPrefix(flag, table+"-"); ok {
			return table + "." + strings.ReplaceAll(rest, "-", "_")
		}
	}
	return strings.ReplaceAll(flag, "-", "_")
}

// settingsOf lists the settings of all commands: the flags that have an environment name. Each stands once, though
// several commands may have it.
func settingsOf(app *kong.Application) []*kong.Flag {
	var list []*kong.Flag
	seen := map[string]bool{}
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if len(flag.Envs) > 0 && !seen[flag.Name] {
				seen[flag.Name] = true
				list = append(list, flag)
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	return list
}

// BeforeResolve is called by kong before it looks settings up: it reads the file and checks every key in it, also those
// that the command at hand has no use for.
func (configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	path := string(ctx.FlagValue(trace.Flag).(configFile))
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	tree := map[string]any{}
	if _, err := toml.Decode(string(text), &tree); err != nil {
		return fmt.Errorf("read the configuration %s: %w", path, err)
	}
	known := map[string]*kong.Flag{}
	for _, flag := range settingsOf(ctx.Model) {
		known[fileKey(flag.Name)] = flag
	}
	delete(known, "config") // a file cannot name another
	values := map[string]any{}
	flatten("", tree, values)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		flag := known[key]
		if flag == nil {
			return fmt.Errorf("the configuration %s has an unknown key %q", path, key)
		}
		if takes, fits := takenBy(flag.Target.Type(), values[key]); !fits {
			given := fmt.Sprint(values[key])
			if text, ok := values[key].(string); ok {
				given = strconv.Quote(text)
			}
			return fmt.Errorf("the configuration %s: %s takes %s, not %s", path, key, takes, given)
		}
	}
	ctx.AddResolver(fileValues(values))
	return nil
}

// takenBy says what a setting takes in the file, and whether the value is that. kong alone would take a number for a time,
// as nanoseconds, and texts for truth values.
func takenBy(target reflect.Type, value any) (takes string, fits bool) {
	switch {
	case target == reflect.TypeFor[time.Duration]():
		_, fits = value.(string)
		return `a time as a string, such as "30s"`, fits
	case target.Kind() == reflect.Slice:
		list, fits := value.([]any)
		for _, entry := range list {
			_, text := entry.(string)
			fits = fits && text
		}
		return "an array of strings", fits
	case target.Kind() == reflect.Bool:
		_, fits = value.(bool)
		return "true or false", fits
	case target.Kind() == reflect.String:
		_, fits = value.(string)
		return "a string", fits
	}
	_, fits = value.(int64)
	return "a whole number", fits
}

// flatten lists the tree's leaves by their dotted keys. An empty table is no leaf of its own, unless nothing of that
// name is known: then it is listed, so that it is refused.
func flatten(prefix string, tree map[string]any, into map[string]any) {
	for key, value := range tree {
		if table, ok := value.(map[string]any); ok && (len(table) > 0 || slices.Contains(fileTables, prefix+key)) {
			flatten(prefix+key+".", table, into)
			continue
		}
		into[prefix+key] = value
	}
}

// fileValues are the file's values by dotted key.
type fileValues map[string]any

// Validate implements [kong.Resolver]; the keys were checked when the file was read.
func (fileValues) Validate(*kong.Application) error { return nil }

// Resolve implements [kong.Resolver]. kong asks it for every flag that is not on the command line, and would let it win
// over the environment.
func (v fileValues) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return v[fileKey(flag.Name)], nil
}
