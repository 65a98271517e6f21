package engine

import (
	"testing"
	"time"
)

// TestVigilOnABusyMachine: a silence that is noticed in time is over; one that is noticed late is listened to for as long
// again, and for no longer than the bound in all.
func TestVigilOnABusyMachine(t *testing.T) {
	v := newVigil(time.Hour) // it never fires here: the test says when it is noticed
	defer v.timer.Stop()
	if !v.over(v.due.Add(lateBy - 1)) {
		t.Error("a silence that is noticed in time is not over")
	}
	noticed := v.due.Add(300 * time.Millisecond)
	if v.over(noticed) {
		t.Fatal("a silence that is noticed 300 ms late is over")
	}
	if v.due != noticed.Add(300*time.Millisecond) {
		t.Errorf("it is listened to for %s more", v.due.Sub(noticed))
	}
	if !v.over(v.due) {
		t.Error("it goes on although nothing is late any more")
	}
	first, times := v.due, 1
	for ; !v.over(v.due.Add(400 * time.Millisecond)); times++ {
		if times > 10 {
			t.Fatal("a machine that is always late never takes over")
		}
	}
	if added := v.more; added > lateMost || times < 2 {
		t.Errorf("%s were added in %d steps after %s", added, times, first)
	}
	v.wait(time.Hour)
	if v.more != 0 || v.over(v.due.Add(lateBy)) {
		t.Error("a word from the writer does not begin it anew")
	}
}
