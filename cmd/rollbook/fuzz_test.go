package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"rollbook/engine/session"
)

// FuzzConfigFile reads any text as the file of --config: what is taken means the same when it is written down again, and
// is refused with a key more that nobody knows.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{"", "port_base = 9160\n[log]\nlevel = \"debug\"\n[genesis]\nidle = \"2h\"\nallowed_origins = [\"https://app.example.com\", \"loopback\"]\n",
		"lockout.threshold = 3\nlockout.\"hard\" = 9\n", "[genesis]\nidle = 7200\n", "config = \"other.toml\"\n", "[tls]\n", "log = 1\n", "partitions = 0x10\n",
		"[genesis]\ncookies = true\n[genesis.cookies]\n", "[zenith]\nissuers = [\"https://id.example provider=P client=c alias=a max-age=5m\", 7]\n", "staleness = \"-2s\"\n", "\x00", "a = [[[[[[\n"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "config.toml")
	into := &cli{}
	parser, err := newParser(into) // one for all, because making it takes most of the time; parsing begins from nothing
	if err != nil {
		f.Fatal(err)
	}
	read := func(t *testing.T, text []byte) (cli, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		*into = cli{}
		_, err = parser.Parse([]string{"--config", path, "serve"})
		return *into, err
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := read(t, text)
		if err != nil {
			return
		}
		tree := map[string]any{}
		if _, err := toml.Decode(string(text), &tree); err != nil {
			t.Fatalf("%q is taken, and is not TOML: %v", text, err)
		}
		var again bytes.Buffer
		if err := toml.NewEncoder(&again).Encode(tree); err != nil {
			t.Fatal(err)
		}
		if back, err := read(t, again.Bytes()); err != nil || !reflect.DeepEqual(back, got) {
			t.Fatalf("%q is\n%+v\nand written as %q it is\n%+v\n%v", text, got, again.Bytes(), back, err)
		}
		if _, err := read(t, append(again.Bytes(), "\n[nobody.knows]\nthis = 1\n"...)); err == nil {
			t.Fatalf("%q is taken with an unknown key", text)
		}
	})
}

// FuzzParseResources reads any text as a file of resources, in either form: what is taken is valid, each name stands
// once, and it is the same when it is shown and read again.
func FuzzParseResources(f *testing.F) {
	f.Add(demoResources[:min(len(demoResources), 3000)], false)
	f.Add([]byte(`{"resources":[{"name":"A.b-1","type":"EVENT_HANDLER","fields":[{"name":"X","type":"ENUM","valid_values":["a","b"],"optional":true}]}]}`), false)
	f.Add([]byte(`{"resources":[{"name":"R","type":"REQUESTSERVER","request":[{"name":"a","type":"T"}],"reply":[{"name":"a","type":"T","nullable":true}]},{"name":"D","type":"DATASERVER"}]}`), false)
	f.Add([]byte(`{"resources":[{"name":"A","type":"DATASERVER"},{"name":"A","type":"DATASERVER"}]}`), false)
	f.Add([]byte(`{"resources":[]} x`), false)
	f.Add([]byte("[[resources]]\nname = \"A\"\ntype = \"DATASERVER\"\n[[resources.fields]]\nname = \"x\"\ntype = \"STRING\"\nvalid_values = []\n"), true)
	f.Add([]byte("[[resources]]\nname = \"A\"\nkind = 1\n"), true)
	f.Fuzz(func(t *testing.T, text []byte, isTOML bool) {
		list, err := parseResources(text, isTOML)
		if err != nil {
			if list != nil {
				t.Fatalf("%q is refused, and is %+v", text, list)
			}
			return
		}
		var file resourceFile
		var names []session.ResourceName
		for _, r := range list {
			if err := r.Validate(); err != nil || slices.Contains(names, r.Name) {
				t.Fatalf("%q holds %s, %v, after %v", text, r.Name, err, names)
			}
			names = append(names, r.Name)
			file.Resources = append(file.Resources, describe(r))
		}
		asJSON, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		var asTOML bytes.Buffer
		if err := toml.NewEncoder(&asTOML).Encode(file); err != nil {
			t.Fatal(err)
		}
		for form, shown := range map[string][]byte{"JSON": asJSON, "TOML": asTOML.Bytes()} {
			back, err := parseResources(shown, form == "TOML")
			if err != nil || len(back) != len(list) {
				t.Fatalf("%q is shown in %s as %q, which is %d resources: %v", text, form, shown, len(back), err)
			}
			for i := range back {
				if !reflect.DeepEqual(describe(back[i]), file.Resources[i]) {
					t.Fatalf("%q is shown in %s as %q, which is\n%+v", text, form, shown, back[i])
				}
			}
		}
	})
}

// FuzzParseIssuer reads any text as an issuer: what is taken is its words, each once and known, in any order.
func FuzzParseIssuer(f *testing.F) {
	for _, seed := range []string{"https://id.example provider=P client=c alias=a", "https://id.example by-email reusable max-age=5m", "https://id.example by-email=yes",
		"https://id.example alias", "https://id.example alias= ", "https://id.example alias=a alias=b", "", "  ", "x alias=a=b\tby-email", "x nobody=1"} {
		f.Add(seed)
	}
	known := []string{"provider", "client", "alias", "max-age", "by-email", "reusable"}
	f.Fuzz(func(t *testing.T, text string) {
		i, err := parseIssuer(text, known...)
		if err != nil {
			return
		}
		parts := []string{}
		for word, value := range i.words {
			flag := word == "by-email" || word == "reusable"
			if !slices.Contains(known, word) || flag != (value == "") || !i.has(word) {
				t.Fatalf("%q has the word %q with %q", text, word, value)
			}
			if !flag {
				word += "=" + value
			}
			parts = append(parts, word)
		}
		given := strings.Fields(text)
		slices.Sort(parts)
		if rest := slices.Sorted(slices.Values(given[1:])); i.url != given[0] || !slices.Equal(parts, rest) {
			t.Fatalf("%q is read as %q with %q", text, i.url, parts)
		}
		if back, err := parseIssuer(strings.Join(append([]string{i.url}, parts...), " "), known...); err != nil || !reflect.DeepEqual(back, i) {
			t.Fatalf("%q is %+v, and in another order %+v, %v", text, i, back, err)
		}
	})
}
