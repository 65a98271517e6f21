package bus

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzParsePosition: what is read is written in one way, and read back from it.
func FuzzParsePosition(f *testing.F) {
	for _, seed := range []string{"0/0.0", "12/345.6", "65535/18446744073709551615.4294967295", "65536/1.1", "1/2", "1.2/3", "-1/2.3", "01/02.03", "1/2.3.4", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			if p != (Position{}) {
				t.Fatalf("%q is refused, and is %v", text, p)
			}
			return
		}
		if again, err := ParsePosition(p.String()); err != nil || again != p || len(p.String()) > len(text) {
			t.Fatalf("%q is %v, and back %v, %v", text, p, again, err)
		}
	})
}

// FuzzParseDelivered holds the reader of reply subjects to the client library's, which is more lenient: it takes what is
// no number, and what is too large for one, for some other.
func FuzzParseDelivered(f *testing.F) {
	for _, seed := range []string{"$JS.ACK.COMMANDS.intake.1.22.33.44.5", "$JS.ACK._.hash.COMMANDS.intake.1.22.33.44.5",
		"$JS.ACK.domain.hash.COMMANDS.intake.1.22.33.44.5.random", "$JS.ACK.COMMANDS.intake.1.x.33.44.5", "$JS.ACK.C.i.1.2.3.18446744073709551615.5", "$JS.ACK", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		got, ok := parseDelivered(subject)
		if !strings.HasPrefix(subject, "$JS.ACK.") {
			return // the server sends no other
		}
		meta, err := (&nats.Msg{Reply: subject, Sub: &nats.Subscription{}}).Metadata()
		if ok && err != nil {
			t.Fatalf("%q is read as %+v, and by the library not: %v", subject, got, err)
		}
		if err != nil {
			return
		}
		theirs := deliveredAt{stream: meta.Sequence.Stream, consumer: meta.Sequence.Consumer, stored: meta.Timestamp.UnixNano()}
		if ok && got != theirs && got.stored != 1<<63-1 { // a time past all clocks
			t.Fatalf("%q is read as %+v, and by the library as %+v", subject, got, theirs)
		}
		if !ok {
			tokens, first := strings.Split(subject, "."), 5
			if len(tokens) > 9 {
				first = 7 // with domain and account hash
			}
			for _, token := range tokens[first : first+3] {
				if _, err := strconv.ParseUint(token, 10, 64); err != nil {
					return // the library takes it for some number, such as what is left of one that is too large
				}
			}
			t.Fatalf("%q is not read, and by the library as %+v", subject, theirs)
		}
	})
}

// FuzzOutcome: an acknowledgement says that the page is stored at its one place, or is exactly one kind of failure.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(`{"stream":"BOOK_3","seq":8}`), uint64(7))
	f.Add([]byte(`{"stream":"BOOK_3","seq":8,"duplicate":true}`), uint64(6))
	for _, code := range []string{"10071", "10164", "10077", "10047"} {
		f.Add([]byte(`{"error":{"code":400,"err_code":`+code+`,"description":"no"},"stream":"BOOK_3","seq":0}`), uint64(7))
	}
	f.Add([]byte(`{"error":{"code":503,"err_code":10008}}`), uint64(7))
	f.Add([]byte(`{"error":null,"stream":"BOOK_3","seq":0}`), ^uint64(0))
	f.Add([]byte(``), uint64(0))
	book := &Book{bus: &Bus{}, p: 3}
	book.bus.layout.Store(&Layout{Replicas: 1})
	f.Fuzz(func(t *testing.T, answer []byte, last uint64) {
		seq, err := book.outcome(answer, last)
		kinds := 0
		for _, kind := range []error{ErrConflict, ErrInFlight, ErrOutcomeUnknown, ErrNotStored} {
			if errors.Is(err, kind) {
				kinds++
			}
		}
		switch {
		case err == nil && (kinds != 0 || seq != last+1):
			t.Fatalf("%q after %d: stored at %d", answer, last, seq)
		case err != nil && (kinds != 1 || seq != 0):
			t.Fatalf("%q after %d: %d kinds of failure, at %d: %v", answer, last, kinds, seq, err)
		}
		if refused := refusalOf(&nats.Msg{Data: answer}); refused != nil && err == nil {
			t.Fatalf("%q is a refusal, and stores a page", answer)
		}
	})
}
