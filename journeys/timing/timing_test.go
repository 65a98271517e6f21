// Package timing asks whether the time of a refused login tells if somebody has the name.
//
// One process holds the real directory, gate, writer, embedded bus and the five venues (house_test.go), with the cheapest
// password hash that the directory takes, so that what stands beside the hash shows. At every way to log in
// (ways_test.go) names that somebody has and names that nobody has are tried with a wrong secret, over a loopback
// connection, one after the other in an order drawn at random. The replies must be the same to the byte, and their times
// must not tell the classes apart (statistics_test.go).
//
// Invariants:
//   - Chance alone deals the classes, so whatever else the machine does disturbs both alike: that only blunts the measure.
//   - Each test's own eyes are tested: a house that is quicker with unknown names, or says something else, is found out.
package timing

import (
	"context"
	"flag"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/directory"
)

var full = flag.Int("timing-samples", 0, "samples of each class at each way to log in; from 20000 on the bounds are those of security measurements. 0: a few, and wide bounds")

// The bounds of the full size, which is many samples: those of dudect for t, and for the area 6.9 times its standard error
// with so many of each class, 0.0029.
const (
	many              = 20000
	mostT             = 4.5
	leastAUC, mostAUC = 0.48, 0.52
)

// The short form. When the classes do not differ the area is that of labels dealt at random over fixed times, whatever
// the times are: with n of each class its standard error is the root of (2n+1)/(12n²), here 0.0334. The bounds are six
// of these away, which chance exceeds twice in 10^9; what they can show is a hash, or a write to the book, left out.
const (
	few                     = 150
	leastFewAUC, mostFewAUC = 0.3, 0.7
)

// cheapest is the least that the directory takes for a hash.
var cheapest = directory.Parameters{Memory: 8, Time: 1, Threads: 1}

// size is the number of samples of each class.
func size(short int) int {
	if *full > 0 {
		return *full
	}
	return short
}

// told says what of a finding from n samples of each class tells the classes apart; empty: nothing does.
func (f finding) told(n int) string {
	switch {
	case n < many && (f.auc < leastFewAUC || f.auc > mostFewAUC), n >= many && (f.auc < leastAUC || f.auc > mostAUC):
		return "their order"
	case n >= many && math.Abs(f.t) >= mostT:
		return "their means"
	}
	return ""
}

// TestSameTime: a name that nobody has and a wrong secret get the same bytes after the same time, at every way to log in.
func TestSameTime(t *testing.T) {
	n := size(few)
	h := build(t, design{names: max(50, *full/4), hash: cheapest})
	asked := 0
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s, replies := h.measure(t, w, n)
			if !w.silent {
				asked += n
			}
			f := compare(s)
			t.Logf("| %s | %d | %d µs | %d µs | %.2f | %.4f |", w.name, n, f.known.Microseconds(), f.unknown.Microseconds(), f.t, f.auc)
			if len(replies) != 1 {
				t.Errorf("the replies differ: %q", replies)
			}
			if by := f.told(n); by != "" {
				t.Errorf("%s tells unknown names from known ones: %+v", by, f)
			}
		})
	}
	// That the times are alike proves something when both were judged in full, down to the page on disk.
	if known, unknown := h.refusals(); known < asked || unknown < asked {
		t.Errorf("the book has %d refusals of users and %d of nobody, of at least %d each", known, unknown, asked)
	}
}

// challenge is what advAuth has its clients answer: another one each time.
var challenge = regexp.MustCompile(`[0-9a-f]{32}`)

// measure takes n samples of each class in an order drawn at random, and collects the different replies with the name
// taken out.
func (h *house) measure(t *testing.T, w way, n int) (s samples, replies []string) {
	t.Helper()
	ask := w.open(t, h.urls[w.venue])
	try := func(name string) (string, time.Duration) {
		for {
			request := w.request(name)
			start := time.Now()
			reply, err := ask(request)
			took := time.Since(start)
			must(t, err)
			if !strings.Contains(reply, w.away) {
				return challenge.ReplaceAllString(strings.ReplaceAll(reply, name, "NAME"), "CHALLENGE"), took
			}
			h.stands()
			time.Sleep(time.Millisecond) // a slow machine, or the first key is still being made
		}
	}
	for i := range max(20, n/100) {
		try(h.known[i%len(h.known)])
		try(h.unknown[i%len(h.unknown)])
	}
	order := make([]bool, 2*n)
	for i := range n {
		order[i] = true
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	different := map[string]bool{}
	for _, known := range order {
		names, list := h.unknown, &s.unknown
		if known {
			names, list = h.known, &s.known
		}
		reply, took := try(names[len(*list)%len(names)])
		*list = append(*list, took)
		if !different[reply] && len(different) < 10 {
			different[reply] = true
			replies = append(replies, reply)
		}
	}
	return s, replies
}

// hasty is a directory that has its answer ready for a name that nobody has, and saves itself the hash.
type hasty struct{ adapters.Directory }

func (d hasty) Check(ctx context.Context, venue session.Venue, name, password string) (session.Credential, error) {
	if _, known := d.Find(name); !known {
		return session.Credential{User: d.Decoy(name), Verdict: session.NoSuchUser}, d.Current(ctx)
	}
	return d.Directory.Check(ctx, venue, name, password)
}

// secretive keeps logins by a name that nobody has from the book, and refuses them itself.
type secretive struct {
	adapters.Submitter
	refusal session.Refusal
}

func (s secretive) Submit(ctx context.Context, cmd bus.Command) (bus.Reply, error) {
	if c, err := session.DecodeCommand(session.Verb(cmd.Verb), cmd.Body); err == nil {
		if login, ok := c.(*session.Login); ok && login.Verdict == session.NoSuchUser {
			return bus.Reply{Body: session.EncodeReply(session.Reply{Refusal: s.refusal})}, nil
		}
	}
	return s.Submitter.Submit(ctx, cmd)
}

// TestPlantedDifferences: the same measure finds out a house that makes a difference. A machine that is very busy may blur
// it once; so it is looked for a few times. Chance alone is no help: at all ten together it exceeds the bound once in 10^5.
//
// At full size it also says whether the cheapest hash, left out, would show.
func TestPlantedDifferences(t *testing.T) {
	const n, tries = 100, 10
	dear := directory.Parameters{Memory: 8 << 10, Time: 1, Threads: 1}
	submitting := func(refusal session.Refusal) func(adapters.Submitter) adapters.Submitter {
		return func(s adapters.Submitter) adapters.Submitter { return secretive{s, refusal} }
	}
	haste := func(d adapters.Directory) adapters.Directory { return hasty{d} }
	for what, c := range map[string]struct {
		design
		way   int
		bytes bool // that they differ too
		n     int
	}{
		"no hash":             {design: design{names: 20, hash: dear, directory: haste}, way: 2, n: n},
		"nothing in the book": {design: design{names: 20, hash: cheapest, submit: submitting(session.WrongCredentials)}, way: 6, n: n},
		"another reply":       {design: design{names: 20, hash: cheapest, submit: submitting(session.Locked)}, way: 0, bytes: true, n: n},
		"no cheapest hash":    {design: design{names: max(20, *full/4), hash: cheapest, directory: haste}, way: 2, n: *full},
	} {
		if c.n == 0 {
			continue
		}
		t.Run(what, func(t *testing.T) {
			h := build(t, c.design)
			found := false
			for try := 0; try < tries && !found; try++ {
				s, replies := h.measure(t, ways[c.way], c.n)
				f := compare(s)
				t.Logf("| %s, %s | %d | %d µs | %d µs | %.2f | %.4f |", ways[c.way].name, what, c.n, f.known.Microseconds(), f.unknown.Microseconds(), f.t, f.auc)
				if differ := len(replies) > 1; differ != c.bytes {
					t.Errorf("the replies differ: %t, %q", differ, replies)
				}
				found = f.told(c.n) != "" && f.auc < 0.5
			}
			if !found {
				t.Error("unknown names are not seen to be quicker")
			}
		})
	}
}
