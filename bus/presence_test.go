package bus_test

import (
	"testing"
	"time"

	"rollbook/bus"
)

// TestPods: a pod is heard by its id, and what is no pod's subject is passed over.
func TestPods(t *testing.T) {
	_, b := startBus(t, "")
	heard := make(chan [16]byte, 8)
	stop, err := b.Pods(func(id [16]byte) { heard <- id })
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"rollbook.pod.x", "rollbook.pod.0102", "rollbook.pod.zz030405060708090a0b0c0d0e0f1011"} {
		if err := b.Conn().Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := [16]byte{1, 2, 0xab}
	if got := bus.PodSubject(want); got != "rollbook.pod.0102ab00000000000000000000000000" {
		t.Errorf("the subject is %s", got)
	}
	if err := b.AnnouncePod(want); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if got != want {
			t.Errorf("heard %x", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was heard")
	}
	stop()
}
