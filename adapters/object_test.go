package adapters_test

import (
	"strings"
	"testing"

	"rollbook/adapters"
)

func TestDecodeObject(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for text, want := range map[string]string{
		`{}`: "", " \t\r\n{\"a\":1} ": "", deep(4): "", `{"a":1,"a":null}`: "",
		``: "is not a JSON object", ` `: "is not a JSON object", `null`: "is not a JSON object", `[]`: "is not a JSON object",
		"\u00a0{}": "is not a JSON object", "\ufeff{}": "is not a JSON object", "{\"a\":\"\xff\"}": "is not UTF-8", deep(5): "is nested deeper than 4",
		`{"a":}`: "is not JSON from byte 6 on", `{} {}`: "is not JSON from byte 4 on", `{'a':1}`: "is not JSON from byte 2 on",
	} {
		o, err := adapters.DecodeObject([]byte(text), 4)
		if got := ""; err != nil {
			if got = err.Error(); got != want {
				t.Errorf("%q %s, want %q", text, got, want)
			}
		} else if want != "" || o == nil {
			t.Errorf("%q is %v, want %q", text, o, want)
		}
	}
	if _, err := adapters.DecodeObject([]byte(deep(100)), 0); err != nil {
		t.Errorf("without a bound: %v", err)
	}
}

// Names are compared exactly, the last of two counts, null and absent leave what is there.
func TestTake(t *testing.T) {
	o, err := adapters.DecodeObject([]byte(`{"a":"one","A":"two","b":"x","b":"y","n":null,"i":7}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "one", "A": "two", "b": "y", "n": "before", "c": "before"} {
		got := "before"
		if !o.Take(name, &got) || got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if got := ""; o.Take("i", &got) {
		t.Error("a number was taken for a text")
	}
}

func TestRenderJSON(t *testing.T) {
	if got := string(adapters.RenderJSON(map[string]string{"a": "<&>\n"})); got != `{"a":"<&>\n"}` {
		t.Errorf("rendered %s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("what has no JSON form was rendered")
		}
	}()
	adapters.RenderJSON(func() {})
}

func TestSetDefault(t *testing.T) {
	zero, set := 0, 3
	adapters.SetDefault(&zero, 7)
	adapters.SetDefault(&set, 7)
	if zero != 7 || set != 3 {
		t.Errorf("%d and %d", zero, set)
	}
}
