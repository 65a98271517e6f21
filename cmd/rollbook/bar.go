package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// bar shows on a terminal how much of a long work is done; elsewhere it does nothing. It belongs to one goroutine.
type bar struct {
	what  string
	shown time.Time
	began time.Time
	on    bool
}

func newBar(quiet bool, what string) *bar {
	return &bar{what: what, began: time.Now(), on: !quiet && term.IsTerminal(int(os.Stderr.Fd()))}
}

// show notes that so much is done. It draws a few times a second, and first when the work takes longer than one looks.
func (b *bar) show(done, of uint64) {
	if !b.on || of == 0 || time.Since(b.began) < 500*time.Millisecond || time.Since(b.shown) < 100*time.Millisecond {
		return
	}
	b.shown = time.Now()
	const width = 30
	full := int(min(done, of) * width / of)
	left := time.Duration(float64(time.Since(b.began)) * float64(of-min(done, of)) / float64(max(done, 1)))
	fmt.Fprintf(os.Stderr, "\r\x1b[K%s [%s%s] %d%% %s left", b.what, strings.Repeat("#", full), strings.Repeat(".", width-full),
		min(done, of)*100/of, span(left))
}

// clear takes the bar away, for what is printed next.
func (b *bar) clear() {
	if b.on {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
