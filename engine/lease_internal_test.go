package engine

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rollbook/engine/session"
)

// TestRoll: a pod is lost after a lease of silence, but only of a silence that this writer was there to hear.
func TestRoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lease = 30 * time.Second
		old, lively := session.PodID{1}, session.PodID{2}
		r := newRoll([]session.PodID{old}, time.Now())
		listen := func(d time.Duration, pods ...session.PodID) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				r.hearSelf()
				for _, pod := range pods {
					r.hear(pod)
				}
			}
		}
		lost := func(want ...session.PodID) {
			t.Helper()
			if got := r.lost(lease); !slices.Equal(got, want) {
				t.Errorf("lost %v, want %v", got, want)
			}
		}
		listen(lease-time.Second, lively)
		lost()
		listen(2*time.Second, lively)
		lost(old)
		r.forget(old)
		lost()

		listen(20*time.Second, lively)
		time.Sleep(time.Minute) // paused, or the bus is away
		lost()
		listen(20 * time.Second)
		lost()
		listen(11 * time.Second)
		lost(lively)
	})
}
