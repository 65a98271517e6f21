package adapters_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"rollbook/adapters"
)

// FuzzDepth: of JSON it is what a decoder counts, of anything else it is no less, as far as that decoder gets.
func FuzzDepth(f *testing.F) {
	for _, seed := range []string{``, `{}`, `[[],[]]`, `{"a":{"b":[1]}}`, `{"a":"\"[["}`, `{"a":"\\","b":[]}`, `]][[`, `{"a":"[`, "[\"\\u005b\"]", strings.Repeat("[", 100)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		decoder := json.NewDecoder(bytes.NewReader(data))
		deepest, now := 0, 0
		for {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				now++
				deepest = max(deepest, now)
			case json.Delim('}'), json.Delim(']'):
				now--
			}
		}
		if got := adapters.Depth(data); got < deepest || json.Valid(data) && got != deepest {
			t.Fatalf("%q is %d deep, and not %d", data, got, deepest)
		}
	})
}
