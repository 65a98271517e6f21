package adapterstest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Wrong makes input that is wrong in some way, by chance and yet the same in every run.
type Wrong struct{ *rand.Rand }

// NewWrong makes the input of one test; another seed makes another.
func NewWrong(seed, stream uint64) Wrong { return Wrong{rand.New(rand.NewPCG(seed, stream))} }

// Pick gives one of these.
func (w Wrong) Pick(of ...string) string { return of[w.IntN(len(of))] }

// Object is a JSON object of up to five members, with these names, some of them twice, and what value makes.
func (w Wrong) Object(value func() string, names ...string) string {
	members := make([]string, w.IntN(6))
	for i := range members {
		members[i] = fmt.Sprintf("%q:%s", w.Pick(names...), value())
	}
	return "{" + strings.Join(members, ",") + "}"
}

// Spoil leaves half of the texts as they are. Others are cut off, hold bytes that are no UTF-8, or are something else
// altogether: what nobody expects, or one of the others.
func (w Wrong) Spoil(text string, others ...string) string {
	switch w.IntN(6) {
	case 0:
		return text[:w.IntN(len(text)+1)]
	case 1:
		at := w.IntN(len(text))
		return text[:at] + string(rune(w.IntN(256))) + "\xff" + text[at:]
	case 2:
		return w.Pick(append([]string{"[]", "null", "7", `"x"`, text + text, "\ufeff" + text, "<xml/>", strings.Repeat("{", 5000),
			strings.Repeat(`{"a":`, 5000), "\x00"}, others...)...)
	}
	return text
}

// Presented is a secret for wrong input to hold. No reply may.
const Presented = "hunter2"

// leastRequests is how many requests prove anything.
const leastRequests = 1000

// Malformed is a run of requests, or messages, that are wrong in some way, and what must hold of the answers. That none
// hangs is seen by the kit's own patience in whatever sends them.
type Malformed struct {
	// Requests is how many there are: 1000 at least.
	Requests int
	// Documented are the kinds of answer that the venue's documents know.
	Documented []string
	// WarmUp is after how many requests the memory in use is measured for the first time.
	WarmUp int
	// Growth is by how many bytes it may be more in the end.
	Growth uint64
}

// Answer is what one of them got.
type Answer struct {
	Asked string // for the failure's text
	Kind  string // by the venue's own measure, such as "401 1003"
	Reply string // the whole of it
	// Status is that of HTTP; zero for a message.
	Status int
	// Echoes says that the venue gives back what the test has presented in that place on purpose.
	Echoes bool
}

// Run asks n times and judges every answer: its kind is a documented one, it is no redirect and no failure of the server,
// and it does not hold what was presented. In the end the memory in use is about what it was. Run counts the answers by
// kind; it is for the test to say how many of which there must be.
func (m Malformed) Run(t testing.TB, ask func(n int) Answer) (counts map[string]int) {
	t.Helper()
	if m.Requests < leastRequests || m.WarmUp >= m.Requests || m.Growth == 0 {
		t.Fatalf("%d requests, measured after %d, with room for %d bytes: that proves nothing", m.Requests, m.WarmUp, m.Growth)
	}
	counts = map[string]int{}
	var before uint64
	for n := range m.Requests {
		if n == m.WarmUp {
			before = heap()
		}
		a := ask(n)
		counts[a.Kind]++
		if wrong := m.judge(a); wrong != "" {
			t.Errorf("request %d: %s: %s: %.500s", n, a.Asked, wrong, a.Reply)
		}
	}
	if after := heap(); after > before+m.Growth {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	t.Logf("answers by kind: %v", counts)
	return counts
}

// judge says what is wrong with an answer; empty when nothing is.
func (m Malformed) judge(a Answer) string {
	switch {
	case !slices.Contains(m.Documented, a.Kind):
		return fmt.Sprintf("no documented answer, but %q", a.Kind)
	case a.Status/100 == 3 || a.Status >= 500:
		return fmt.Sprintf("status %d", a.Status)
	case strings.Contains(a.Reply, Presented) && !a.Echoes:
		return "the reply holds what was presented"
	}
	return ""
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
