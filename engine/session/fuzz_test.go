package session

import (
	"testing"
)

// The decoders must never panic, and what they accept must survive being stored again; checkDecoded says so. Their memory
// is bounded by TestHostileBytes.

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range kindsOfEvents() {
		f.Add(AppendEvent(nil, e))
	}
	for _, x := range stored() {
		if e, ok := x.(Event); ok {
			f.Add(AppendEvent(nil, e))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecoded(t, Event(&UserEnabled{}), data)
		if e, err := DecodeEvent(data); err == nil {
			s := NewState(DefaultPolicies())
			s.Apply(e)
			s.Apply(e)
			s.Recall([]Event{e})
			if found := broken(s); found != "" {
				t.Fatal(found)
			}
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	for _, x := range stored() {
		if c, ok := x.(Command); ok {
			f.Add(string(c.Verb()), EncodeCommand(c))
			f.Add(string(c.Verb()), EncodeCommand(newCommand(c.Verb())))
		}
	}
	f.Add("dance", []byte{0x91, 1})
	crowded := NewState(DefaultPolicies())
	fill(f, crowded, &Register{User: "alice", Credential: 1})
	fill(f, crowded, crowd("alice", Genesis, 1))
	f.Fuzz(func(t *testing.T, verb string, data []byte) {
		cmd := newCommand(Verb(verb))
		if cmd == nil {
			if _, err := DecodeCommand(Verb(verb), data); err == nil {
				t.Fatalf("the verb %q is not known, and yet decodes", verb)
			}
			return
		}
		checkDecoded(t, cmd, data)
		if cmd, err := DecodeCommand(Verb(verb), data); err == nil {
			events, reply := crowded.Decide(cmd, begin)
			if len(events) > 0 && reply.Refusal != Accepted {
				t.Fatalf("%s leads to events, and is refused: %s", verb, reply.Refusal)
			}
			size := 0
			for _, e := range events {
				size += len(AppendEvent(nil, e))
			}
			if size > pageRoom {
				t.Fatalf("%s of %d bytes leads to %d bytes of events", verb, len(data), size)
			}
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(EncodeReply(Reply{}))
	f.Add(encode(stored()["reply"]))
	f.Fuzz(func(t *testing.T, data []byte) { checkDecoded(t, &Reply{}, data) })
}
