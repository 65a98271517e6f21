package session

import (
	"regexp"
	"strings"
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

// FuzzWords reads the words and numbers by which operators and clients name things. Each has one spelling, but the digits
// of an id, which may be of either case.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{"00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF", "00112233445566778899aabbccddeeff",
		"0011223-34455-6677-8899-aabbccddeeff", "genesis", "nebula", "REQUEST_SERVER", "REQUESTSERVER", "u-abc_D9", "u.1", ""} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseSessionID(text)
		if err == nil && id.String() != strings.ToLower(text) || err != nil && id != (SessionID{}) {
			t.Fatalf("%q is the session %s, %v", text, id, err)
		}
		if h, handleErr := ParseHandle(text); (handleErr == nil) != (err == nil) || h != Handle(id) {
			t.Fatalf("%q is the handle %s, %v, and the session %s, %v", text, h, handleErr, id, err)
		}
		if v, err := ParseVenue(text); err == nil && v.String() != text || err != nil && v != NoVenue {
			t.Fatalf("%q is the venue %s, %v", text, v, err)
		}
		if k, err := ParseResourceKind(text); err == nil && k.String() != strings.ReplaceAll(text, "REQUESTSERVER", "REQUEST_SERVER") || err != nil && k != 0 {
			t.Fatalf("%q is the kind %s, %v", text, k, err)
		}
		if UserID(text).Valid() != form.MatchString(text) {
			t.Fatalf("%q as a user id: %v", text, UserID(text).Valid())
		}
	})
}
