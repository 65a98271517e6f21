package history

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestVisible: what steers, breaks, turns or hides stands as its escape, and all else as it is.
func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		"plain, größer, 日本 \\ 🙂":    "plain, größer, 日本 \\ 🙂",
		"\x1b[2J\x07":               `\x1b[2J\x07`,
		"a\r\n\tb\x7f\x00":          `a\r\n\tb\x7f\x00`,
		"\u009b31m\u0085":           `\u009b31m\u0085`,
		"\u202etxt.exe\u2066\u200f": `\u202etxt.exe\u2066\u200f`,
		"\u2028\u2029\u00a0":        `\u2028\u2029\u00a0`,
		"\ufeff\u200b\u200d":        `\ufeff\u200b\u200d`,
		"\U000e0041":                `\U000e0041`,
		"bad\xff\xc3":               `bad\xff\xc3`,
		"\ufffd":                    "\ufffd",
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

// FuzzVisible: whatever comes, what goes out is UTF-8 and printable, and stays as it is when it goes through again.
func FuzzVisible(f *testing.F) {
	f.Add("\x1b[2J\u202e\xff\U000e0001")
	f.Fuzz(func(t *testing.T, text string) {
		got := Visible(text)
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q gives %q", text, got)
			}
		}
		if !utf8.ValidString(got) || Visible(got) != got {
			t.Fatalf("%q gives %q", text, got)
		}
	})
}
