package bus

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzEnvelopes reads all kinds of message from any bytes: nothing panics, and
// what can be read is written back the same.
func FuzzEnvelopes(f *testing.F) {
	f.Add(appendCommand(nil, CommandID{1}, 7, "_INBOX.x.o", []byte("body")))
	f.Add(appendOutcome(appendOutcome(nil, 1, Reply{Body: []byte("a")}), 2, Reply{Position: Position{Page: 3, Index: 4}}))
	f.Add(append([]byte{announcementVersion}, "an epoch and last and time"...))
	f.Add(append([]byte{presenceVersion}, "engine-1 is ready\x01"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, token, inbox, body, err := decodeCommand(data); err == nil {
			if again := appendCommand(nil, id, token, string(inbox), body); !bytes.Equal(again, data) {
				t.Fatalf("command %x was written back as %x", data, again)
			}
		}
		var again []byte
		eachOutcome(data, func(token, page uint64, index uint32, body []byte) {
			again = appendOutcome(again, token, Reply{Position: Position{Page: page, Index: index}, Body: body})
		})
		if !bytes.HasPrefix(data, again) {
			t.Fatalf("outcomes %x were written back as %x", data, again)
		}
		if a, err := decodeAnnouncement(data); err == nil {
			again := binary.BigEndian.AppendUint64([]byte{announcementVersion}, a.Epoch)
			again = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(again, a.Last), uint64(a.Time))
			if !bytes.HasPrefix(data, again) {
				t.Fatalf("%x was read as %+v", data, a)
			}
		}
		if p, err := decodePresence(data); err == nil {
			again := binary.BigEndian.AppendUint64(append([]byte{presenceVersion}, p.Engine[:]...), p.Ready)
			if !bytes.HasPrefix(data, again) || p.Leaving != (data[len(again)] != 0) {
				t.Fatalf("%x was read as %+v", data, p)
			}
		}
	})
}

// TestParseDelivered reads both forms of the reply subject (ADR-15).
func TestParseDelivered(t *testing.T) {
	want := deliveredAt{stream: 22, consumer: 33, stored: 44}
	for _, reply := range []string{
		"$JS.ACK.COMMANDS.intake.1.22.33.44.5",
		"$JS.ACK._.hash.COMMANDS.intake.1.22.33.44.5",
		"$JS.ACK.domain.hash.COMMANDS.intake.1.22.33.44.5.random",
	} {
		if got, ok := parseDelivered(reply); !ok || got != want {
			t.Errorf("%s was read as %+v, %v", reply, got, ok)
		}
	}
	for _, reply := range []string{"", "$JS.ACK", "_INBOX.x", "$JS.ACK.COMMANDS.intake.1.x.33.44.5", "$JS.ACK.COMMANDS.intake.1.22.33.44.5.6"} {
		if got, ok := parseDelivered(reply); ok {
			t.Errorf("%q was read as %+v", reply, got)
		}
	}
}
