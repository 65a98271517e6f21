package history

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible is text as a screen, a table or a page may have it, whoever has chosen it: what is not printable stands as its
// escape (\x1b, \n, \u202e, \xff for a byte that is no UTF-8). So nothing of it steers a terminal, breaks a line, turns the
// direction of what stands beside it or hides. Printable is what [unicode.IsPrint] says. A backslash stays a backslash: who
// needs to tell \u202e from six characters reads the JSON.
func Visible(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, hidden) {
		return text
	}
	var out strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, rest[0])
		case !hidden(r):
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
		rest = rest[size:]
	}
	return out.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }
