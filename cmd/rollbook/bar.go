package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	barAfter = 400 * time.Millisecond // what is done sooner needs no bar
	barEvery = 100 * time.Millisecond
	barWidth = 30
	eraseRow = "\r\x1b[K"
)

// bar shows on standard error how far long work has come, where that is a terminal. What is written through it erases the
// bar first, since both may be one screen.
type bar struct {
	progress func() (done, of uint64)
	end      chan struct{}
	ended    sync.WaitGroup

	mu    sync.Mutex
	drawn bool // guarded by mu: a row of the screen is the bar's
}

// startBar draws from now on until stop; never where nobody looks.
func startBar(quiet bool, progress func() (done, of uint64)) *bar {
	b := &bar{progress: progress, end: make(chan struct{})}
	if !quiet && term.IsTerminal(int(os.Stderr.Fd())) {
		b.ended.Go(b.run)
	}
	return b
}

func (b *bar) run() {
	start := time.Now()
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.end:
			return
		case <-tick.C:
		}
		if took := time.Since(start); took >= barAfter {
			done, of := b.progress()
			b.mu.Lock()
			b.drawn = true
			fmt.Fprint(os.Stderr, eraseRow+barText(done, of, took))
			b.mu.Unlock()
		}
	}
}

// barText is the bar's row: how much, how fast, how much longer.
func barText(done, of uint64, took time.Duration) string {
	if of == 0 || done > of {
		return fmt.Sprintf("%d pages", done)
	}
	full := int(done * barWidth / of)
	text := fmt.Sprintf("[%s%s] %3d%%  %d of %d pages", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done*100/of, done, of)
	if done > 0 && done < of {
		left := time.Duration(float64(took) * float64(of-done) / float64(done))
		text += "  " + span(left) + " left"
	}
	return text
}

// stop takes the bar off the screen.
func (b *bar) stop() {
	close(b.end)
	b.ended.Wait()
	b.erase()
}

func (b *bar) erase() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		fmt.Fprint(os.Stderr, eraseRow)
		b.drawn = false
	}
}

// over is a writer that erases the bar before each write.
func (b *bar) over(to io.Writer) io.Writer { return &overBar{b, to} }

type overBar struct {
	bar *bar
	to  io.Writer
}

func (w *overBar) Write(text []byte) (int, error) {
	w.bar.erase()
	return w.to.Write(text)
}
