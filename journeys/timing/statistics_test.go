package timing

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// samples are how long the replies took, by whether somebody has the name.
type samples struct{ known, unknown []time.Duration }

// finding is what two classes of samples say of each other.
type finding struct {
	// t is that one of Welch's statistics which is farthest from zero: of all samples, and of those below each of a hundred
	// quantiles. Positive: unknown names take longer. The noise of a machine is all in the slow replies, so what tells the
	// classes apart shows best in the fast ones (Reparaz, Balasch, Verbauwhede: Dude, is my code constant time?, 2017).
	t float64
	// auc is how probable it is that a reply about an unknown name took longer than one about a known name: 0.5 when the
	// time says nothing, 0 or 1 when it says all (Mann and Whitney, 1947).
	auc float64
	// median of each class.
	known, unknown time.Duration
}

func compare(s samples) finding {
	all := slices.Sorted(slices.Values(slices.Concat(s.known, s.unknown)))
	f := finding{t: welch(s.unknown, s.known), auc: auc(s.unknown, s.known),
		known: quantile(slices.Sorted(slices.Values(s.known)), 0.5), unknown: quantile(slices.Sorted(slices.Values(s.unknown)), 0.5)}
	for i := range 100 {
		limit := quantile(all, 1-math.Pow(0.5, 10*float64(i+1)/100))
		if t := welch(below(s.unknown, limit), below(s.known, limit)); math.Abs(t) > math.Abs(f.t) {
			f.t = t
		}
	}
	return f
}

func below(list []time.Duration, limit time.Duration) []time.Duration {
	return slices.DeleteFunc(slices.Clone(list), func(d time.Duration) bool { return d >= limit })
}

// quantile is that of a sorted list.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// welch is the difference of the means in units of its standard error; zero when there are too few samples for one.
func welch(a, b []time.Duration) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 0
	}
	meanA, errorA := mean(a)
	meanB, errorB := mean(b)
	if errorA+errorB == 0 {
		return 0
	}
	return (meanA - meanB) / math.Sqrt(errorA+errorB)
}

// mean gives the mean in nanoseconds and the square of its standard error.
func mean(list []time.Duration) (mean, squaredError float64) {
	for _, d := range list {
		mean += float64(d)
	}
	mean /= float64(len(list))
	for _, d := range list {
		squaredError += (float64(d) - mean) * (float64(d) - mean)
	}
	return mean, squaredError / float64(len(list)-1) / float64(len(list))
}

// auc is the share of pairs in which a's is the greater; a tie is half a pair.
func auc(a, b []time.Duration) float64 {
	type sample struct {
		took time.Duration
		ofA  bool
	}
	var all []sample
	for _, d := range a {
		all = append(all, sample{d, true})
	}
	for _, d := range b {
		all = append(all, sample{d, false})
	}
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.took, y.took) })
	ranks := 0.0
	for from := 0; from < len(all); {
		to, ofA := from, 0
		for ; to < len(all) && all[to].took == all[from].took; to++ {
			if all[to].ofA {
				ofA++
			}
		}
		ranks += float64(ofA) * float64(from+1+to) / 2
		from = to
	}
	n := float64(len(a))
	return (ranks - n*(n+1)/2) / n / float64(len(b))
}

func durations(values ...time.Duration) []time.Duration { return values }

// TestStatistics holds the figures against ones that were worked out by hand.
func TestStatistics(t *testing.T) {
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("welch", welch(durations(2, 4, 6), durations(1, 2, 3)), 2/math.Sqrt(4./3+1./3))
	near("welch the other way round", welch(durations(1, 2, 3), durations(2, 4, 6)), -2/math.Sqrt(4./3+1./3))
	near("welch of too little", welch(durations(1), durations(2, 3)), 0)
	near("auc of the greater", auc(durations(4, 5), durations(1, 2, 3)), 1)
	near("auc of the lesser", auc(durations(1, 2), durations(3)), 0)
	near("auc of a mixture", auc(durations(1, 3), durations(2, 4)), 0.25)
	near("auc with a tie", auc(durations(1, 2), durations(2, 3)), 0.125)
	near("auc of equals", auc(durations(7, 7, 7), durations(7, 7)), 0.5)
	if got := below(durations(3, 1, 2), 3); !slices.Equal(got, durations(1, 2)) {
		t.Errorf("below 3 are %v", got)
	}
}

// TestCropping: a difference that the mean cannot show for noise is found below the quantiles, in the right direction;
// where there is none, none is found. The chance is always the same one.
func TestCropping(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	draw := func(n int, more time.Duration) []time.Duration {
		list := make([]time.Duration, n)
		for i := range list {
			list[i] = 500*time.Microsecond + more + time.Duration(chance.NormFloat64()*float64(10*time.Microsecond))
			if chance.IntN(10) == 0 {
				list[i] += time.Duration(chance.ExpFloat64() * float64(20*time.Millisecond))
			}
		}
		return list
	}
	const n = 6000
	same := compare(samples{known: draw(n, 0), unknown: draw(n, 0)})
	if math.Abs(same.t) >= mostT || same.auc < leastAUC || same.auc > mostAUC {
		t.Errorf("classes that are the same: %+v", same)
	}
	slower := samples{known: draw(n, 0), unknown: draw(n, 2*time.Microsecond)}
	if got := math.Abs(welch(slower.unknown, slower.known)); got >= mostT {
		t.Errorf("the mean alone shows it, t %.1f: the noise is too small to prove anything", got)
	}
	if found := compare(slower); found.t < mostT || found.auc <= 0.5 {
		t.Errorf("2 microseconds more: %+v", found)
	}
	quicker := samples{known: slower.unknown, unknown: slower.known}
	if found := compare(quicker); found.t > -mostT || found.auc >= 0.5 {
		t.Errorf("2 microseconds less: %+v", found)
	}
}
