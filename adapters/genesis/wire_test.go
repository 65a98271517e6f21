package genesis

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"rollbook/adapters/adapterstest"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

var goldens = adapterstest.Goldens{Dir: "../../testdata/wire/genesis", Update: update}

// TestWireGoldens sends the requests of each folder in order, byte for byte but for the line ends, and compares the
// replies. The clock and the tokens are the samples'; the only volatile value is the header Date.
func TestWireGoldens(t *testing.T) {
	for _, folder := range []string{"seed", "clients", "refusals"} {
		t.Run(folder, func(t *testing.T) {
			server, gate, _ := serve(t, quick())
			gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0") // the token that the metadata samples use
			for _, file := range goldens.Requests(t, folder, "*", 5) {
				response, body := adapterstest.Exchange(t, server, goldens.Read(t, file))
				goldens.Compare(t, file, dump(response, body))
			}
		})
	}
	t.Run("strict", func(t *testing.T) {
		cfg := quick()
		cfg.StrictStatus = true
		server, gate, _ := serve(t, cfg)
		gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0")
		for _, file := range goldens.Requests(t, "refusals", "*", 5) {
			response, body := adapterstest.Exchange(t, server, goldens.Read(t, file))
			var n nack
			if err := json.Unmarshal([]byte(body), &n); err != nil || len(n.Error) != 1 {
				t.Fatalf("%s: %s", file, body)
			}
			if got := response.Status; !strings.HasPrefix(n.Error[0].StatusCode, got[:3]+" ") || got[0] != '4' {
				t.Errorf("%s: status %s where the reply says %s", file, got, n.Error[0].StatusCode)
			}
		}
	})
	t.Run("socket", func(t *testing.T) {
		server, _, _ := serve(t, quick())
		conn := dial(t, server, "//gwf/")
		for _, file := range goldens.Requests(t, "socket", "*", 5) {
			send(t, conn, strings.TrimSpace(goldens.Read(t, file)))
			goldens.Compare(t, file, indent(t, receive(t, conn)))
		}
	})
}

// TestSeedSamples compares the replies with those that the venue's document shows: each of its fields is there, in its
// order and with its value. Of the refresh three values differ: the document's reply echoes the wrong SOURCE_REF, is
// four seconds later, and comes from another installation.
func TestSeedSamples(t *testing.T) {
	server, gate, _ := serve(t, quick())
	gate.plant("83eLYBnlqjIWt1tqtJhKwTXJj2IL2WA0")
	for _, file := range goldens.Requests(t, "seed", "*", 5) {
		_, body := adapterstest.Exchange(t, server, goldens.Read(t, file))
		differ := map[string]bool{}
		if strings.Contains(file, "refresh") {
			differ = map[string]bool{".SOURCE_REF": true, ".DETAILS.SYSTEM.DATE": true, ".DETAILS.PRODUCT[0].NAME": true}
			if !strings.Contains(body, `"SOURCE_REF":"123456-789042"`) {
				t.Errorf("the refresh does not echo its own SOURCE_REF: %s", body)
			}
		}
		want, got := ordered(t, goldens.Read(t, strings.TrimSuffix(file, ".request")+".sample")), ordered(t, body)
		covers(t, file, want, got, differ)
	}
}

// member is one field of an object, with its place kept.
type member struct {
	name  string
	value any
}

// ordered decodes JSON with objects as []member.
func ordered(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	var value func() any
	value = func() any {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		switch token {
		case json.Delim('{'):
			members := []member{}
			for d.More() {
				name, _ := d.Token()
				members = append(members, member{name.(string), value()})
			}
			_, _ = d.Token()
			return members
		case json.Delim('['):
			items := []any{}
			for d.More() {
				items = append(items, value())
			}
			_, _ = d.Token()
			return items
		}
		return token
	}
	return value()
}

// covers fails unless got has all that want has, in the same order. Below the paths in differ only the type counts.
func covers(t *testing.T, path string, want, got any, differ map[string]bool) {
	t.Helper()
	switch want := want.(type) {
	case []member:
		rest, ok := got.([]member)
		if !ok {
			t.Errorf("%s is %T, not an object", path, got)
			return
		}
		for _, m := range want {
			i := 0
			for ; i < len(rest) && rest[i].name != m.name; i++ {
			}
			if i == len(rest) {
				t.Errorf("%s.%s is missing or out of order", path, m.name)
				return
			}
			covers(t, path+"."+m.name, m.value, rest[i].value, differ)
			rest = rest[i+1:]
		}
	case []any:
		items, ok := got.([]any)
		if !ok || len(items) != len(want) {
			t.Errorf("%s is %v, not a list of %d", path, got, len(want))
			return
		}
		for i := range want {
			covers(t, fmt.Sprintf("%s[%d]", path, i), want[i], items[i], differ)
		}
	default:
		_, field, _ := strings.Cut(path, ".request")
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) || want != got && !differ[field] {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

// dump is the reply as a golden holds it: the body indented.
func dump(response *http.Response, body string) []byte {
	out := adapterstest.Head(response)
	if len(body) > 0 {
		out = append(append(out, '\n'), indentJSON([]byte(body))...)
	}
	return out
}

func indentJSON(body []byte) []byte {
	var buf bytes.Buffer
	if json.Indent(&buf, body, "", "    ") != nil {
		return body
	}
	return buf.Bytes()
}

func indent(t *testing.T, frame string) []byte {
	t.Helper()
	if !json.Valid([]byte(frame)) {
		t.Fatalf("not JSON: %s", frame)
	}
	return regexp.MustCompile(`\n?$`).ReplaceAll(indentJSON([]byte(frame)), []byte("\n"))
}
