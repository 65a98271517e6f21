package bus_test

import (
	"errors"
	"strings"
	"testing"

	"rollbook/bus"
)

const someTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestTraceTravels: what a command and a page say of their trace arrives with them, by every way that there is, and
// nothing arrives of one that says nothing.
func TestTraceTravels(t *testing.T) {
	b := created(t, 1)
	s, err := b.NewSubmitter(bus.SubmitterConfig{})
	ok(t, err)
	defer s.Close()
	long := strings.Repeat("x", 513)
	k := b.Book(0)
	for i, c := range []struct{ sent, arrives bus.TraceContext }{
		{},
		{bus.TraceContext{Parent: someTrace}, bus.TraceContext{Parent: someTrace}},
		{bus.TraceContext{Parent: someTrace, State: "a=b"}, bus.TraceContext{Parent: someTrace, State: "a=b"}},
		{bus.TraceContext{Parent: someTrace, State: long[1:]}, bus.TraceContext{Parent: someTrace, State: long[1:]}},
		{bus.TraceContext{Parent: someTrace, State: long}, bus.TraceContext{Parent: someTrace}},
		{bus.TraceContext{Parent: long}, bus.TraceContext{}},
		{bus.TraceContext{State: "a=b"}, bus.TraceContext{}},
	} {
		in, err := b.Intake(t.Context(), 0, uint64(i)+1, 0, 0)
		ok(t, err)
		done := make(chan error, 1)
		go func() {
			// The largest body there is has room for the headers too.
			_, err := s.Submit(soon(t), bus.Command{ID: bus.CommandID{byte(i)}, Verb: "v", Body: make([]byte, bus.MaxCommand), Trace: c.sent})
			done <- err
		}()
		var got bus.Received
		for got.ID != (bus.CommandID{byte(i)}) || got.Body == nil { // the stream keeps those of before
			all := takeN(t, in, 1)
			got = all[len(all)-1]
		}
		if got.Trace != c.arrives {
			t.Errorf("sent %+v, and %+v arrived", c.sent, got.Trace)
		}
		ok(t, in.Reply(got, bus.Reply{}))
		ok(t, in.Flush())
		ok(t, <-done)
		in.Close()
		_, err = k.Append(bus.WithTrace(t.Context(), c.sent), uint64(i), []byte("page"))
		ok(t, err)
	}

	// A page is read from the book, and heard live: it says the same, and never the trace's state.
	stop := errors.New("enough")
	follow := func(after uint64, began func()) {
		t.Helper()
		next := after
		want(t, k.Follow(soon(t), after, func(p bus.StoredPage) error {
			if next++; next == 7 {
				began()
			}
			if traced := p.Seq >= 2 && p.Seq <= 5; (p.Trace.Parent == someTrace) != traced || p.Trace.State != "" {
				t.Errorf("page %d says %+v", p.Seq, p.Trace)
			}
			if p.Seq == 8 {
				return stop
			}
			return nil
		}), stop)
	}
	follow(0, func() {
		_, err := k.Append(t.Context(), 7, []byte("live"))
		ok(t, err)
	})
}
