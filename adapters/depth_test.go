package adapters_test

import (
	"strings"
	"testing"

	"rollbook/adapters"
)

// TestDepth: brackets count, but not those in strings, whatever is escaped there.
func TestDepth(t *testing.T) {
	for text, want := range map[string]int{
		``: 0, `1`: 0, `{}`: 1, `[[],[]]`: 2, `{"a":{"b":[1]}}`: 3, `{"a":"[[{"}`: 1, `{"a":"\"[["}`: 1, `{"a":"\\","b":[]}`: 2,
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000): 5000,
	} {
		if got := adapters.Depth([]byte(text)); got != want {
			t.Errorf("%.20s is %d deep, want %d", text, got, want)
		}
	}
}
