package main

import (
	"io"
	"sync"
	"time"
)

// watchedBar is a bar over work that only says how far it is when it is asked. What is written through it takes the bar away
// first, since both may be one screen.
type watchedBar struct {
	progress func() (done, of uint64)
	end      chan struct{}
	ended    sync.WaitGroup

	mu  sync.Mutex
	bar *bar // guarded by mu
}

// watchBar looks from now on until stop; never where nobody sees a bar.
func watchBar(quiet bool, progress func() (done, of uint64)) *watchedBar {
	b := &watchedBar{progress: progress, end: make(chan struct{}), bar: newBar(quiet, "reading the book")}
	if b.bar.on {
		b.ended.Go(b.run)
	}
	return b
}

func (b *watchedBar) run() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-b.end:
			return
		case <-tick.C:
		}
		b.mu.Lock()
		b.bar.show(b.progress())
		b.mu.Unlock()
	}
}

// stop ends it and takes the bar away.
func (b *watchedBar) stop() {
	close(b.end)
	b.ended.Wait()
	b.erase()
}

func (b *watchedBar) erase() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bar.clear()
}

// over is a writer that takes the bar away before each write.
func (b *watchedBar) over(to io.Writer) io.Writer { return &overBar{b, to} }

type overBar struct {
	bar *watchedBar
	to  io.Writer
}

func (w *overBar) Write(text []byte) (int, error) {
	w.bar.erase()
	return w.to.Write(text)
}
