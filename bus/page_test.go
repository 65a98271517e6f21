package bus_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rollbook/bus"
)

var update = flag.Bool("update", false, "write the golden files that do not exist yet")

// goldens are pages as they were once written. A file that exists is never
// written again: its bytes are in somebody's book, and must decode for ever.
var goldens = map[string]bus.Page{
	"page-v1-opening": {Epoch: 1, Time: 1516567765917000000, Incarnation: 1516567000000000000},
	"page-v1-full": {
		Epoch: 9, Time: 1516567765917000001, Incarnation: 1516567000000000000, CommandsRead: 70000,
		Answers: []bus.Answer{{ID: bus.CommandID{1, 2, 3, 255}, Events: 2}, {ID: bus.CommandID{4}}, {ID: bus.CommandID{5}, Events: 1}},
		Events:  [][]byte{[]byte("started"), {}, bytes.Repeat([]byte{0xc1}, 300)},
	},
}

func TestGoldenPages(t *testing.T) {
	for name, page := range goldens {
		path := filepath.Join("testdata", name+".hex")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && *update {
			data, err := bus.EncodePage(page)
			ok(t, err)
			text = []byte(hex.Dump(data))
			ok(t, os.WriteFile(path, text, 0o644))
		} else {
			ok(t, err)
		}
		data := undump(t, string(text))
		got, err := bus.DecodePage(data)
		ok(t, err)
		if !reflect.DeepEqual(got, page) {
			t.Errorf("%s decodes to %+v, want %+v", name, got, page)
		}
		if now, err := bus.EncodePage(page); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%s is written differently today:\n%s%v", name, hex.Dump(now), err)
		}
	}
}

// undump reads what hex.Dump wrote.
func undump(t *testing.T, text string) (data []byte) {
	t.Helper()
	for line := range strings.Lines(text) {
		columns, _, _ := strings.Cut(line, "|")
		fields := strings.Fields(columns)
		b, err := hex.DecodeString(strings.Join(fields[min(1, len(fields)):], ""))
		ok(t, err)
		data = append(data, b...)
	}
	return data
}

func drawPage(t *rapid.T) bus.Page {
	p := bus.Page{
		Epoch:        rapid.Uint64().Draw(t, "epoch"),
		Time:         rapid.Int64().Draw(t, "time"),
		Incarnation:  rapid.Int64().Draw(t, "incarnation"),
		CommandsRead: rapid.Uint64().Draw(t, "read"),
	}
	for range rapid.IntRange(0, 40).Draw(t, "answers") {
		p.Answers = append(p.Answers, bus.Answer{
			ID:     bus.CommandID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
			Events: rapid.Uint32().Draw(t, "n"),
		})
	}
	for range rapid.IntRange(0, 40).Draw(t, "events") {
		p.Events = append(p.Events, rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "event"))
	}
	return p
}

func TestPageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPage(t)
		prefix := []byte("before")
		data, err := bus.AppendPage(prefix, p)
		if err != nil || !bytes.HasPrefix(data, prefix) {
			t.Fatalf("append: %v", err)
		}
		data = data[len(prefix):]
		if len(data) > p.Size() {
			t.Fatalf("the page has %d bytes, Size promised at most %d", len(data), p.Size())
		}
		got, err := bus.DecodePage(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, p) {
			t.Fatalf("got %+v, want %+v", got, p)
		}
		// Any one byte changed is noticed, and so is any end cut off.
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		data[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := bus.DecodePage(data); !errors.Is(err, bus.ErrDamagedPage) {
			t.Fatalf("byte %d changed, and decoding gave %v", at, err)
		}
		if _, err := bus.DecodePage(data[:at]); !errors.Is(err, bus.ErrDamagedPage) {
			t.Fatalf("cut at %d, and decoding gave %v", at, err)
		}
	})
}

func TestPageEventsAreSlicesOfTheInput(t *testing.T) {
	data, err := bus.EncodePage(bus.Page{Events: [][]byte{[]byte("event")}})
	ok(t, err)
	p, err := bus.DecodePage(data)
	ok(t, err)
	at := bytes.Index(data, []byte("event"))
	if &p.Events[0][0] != &data[at] || cap(p.Events[0]) != 5 {
		t.Error("an event is a copy, or reaches beyond its end")
	}
	if nilEvent, err := bus.EncodePage(bus.Page{Events: [][]byte{nil}}); err != nil {
		t.Error(err)
	} else if p, err := bus.DecodePage(nilEvent); err != nil || len(p.Events) != 1 || len(p.Events[0]) != 0 {
		t.Errorf("a nil event came back as %v, %v", p.Events, err)
	}
}

// sealed adds the checksum to a body written by hand.
func sealed(body ...byte) []byte {
	return binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func TestPageOfOtherVersions(t *testing.T) {
	// Fields that come later, of any kind, are passed over; so are an answer's.
	later := sealed(0x99, 1, 2, 3, 4, 5, 0x91, 0x93, 0xc4, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 0xc0,
		0x91, 0xc4, 1, 'x', 0x82, 0xa1, 'k', 0x92, 1, 2, 0xa1, 'l', 0xc3, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0)
	p, err := bus.DecodePage(later)
	ok(t, err)
	if p.Epoch != 2 || p.CommandsRead != 5 || len(p.Answers) != 1 || p.Answers[0].Events != 1 || string(p.Events[0]) != "x" {
		t.Errorf("a later page decodes to %+v", p)
	}
	_, err = bus.DecodePage(sealed(0x97, 2, 2, 3, 4, 5, 0x90, 0x90))
	want(t, err, bus.ErrPageVersion)
	for name, bad := range map[string][]byte{
		"empty":           nil,
		"only a checksum": sealed(),
		"no array":        sealed(1),
		"too few fields":  sealed(0x96, 1, 2, 3, 4, 5, 0x90),
		"trailing bytes":  sealed(0x97, 1, 2, 3, 4, 5, 0x90, 0x90, 0),
		"a short id":      sealed(0x97, 1, 2, 3, 4, 5, 0x91, 0x92, 0xc4, 1, 0, 1, 0x90),
		"endless answers": sealed(0x97, 1, 2, 3, 4, 5, 0xdd, 255, 255, 255, 255, 0x90),
		"endless events":  sealed(0x97, 1, 2, 3, 4, 5, 0x90, 0xdd, 255, 255, 255, 255),
		"an endless one":  sealed(0x97, 1, 2, 3, 4, 5, 0x90, 0x91, 0xc6, 255, 255, 255, 255),
		"endless fields":  sealed(0xdd, 255, 255, 255, 255, 1, 2, 3, 4, 5, 0x90, 0x90),
	} {
		if _, err := bus.DecodePage(bad); !errors.Is(err, bus.ErrDamagedPage) {
			t.Errorf("%s: %v, want damaged", name, err)
		}
	}
}

// FuzzDecodePage decodes what it is given, and the same under a good checksum,
// since otherwise no fuzzer gets past that.
func FuzzDecodePage(f *testing.F) {
	for _, p := range goldens {
		data, err := bus.EncodePage(p)
		ok(f, err)
		f.Add(data)
		f.Add(data[:len(data)-4])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, in := range [][]byte{data, sealed(bytes.Clone(data)...)} {
			p, err := bus.DecodePage(in)
			if err != nil {
				if !errors.Is(err, bus.ErrDamagedPage) && !errors.Is(err, bus.ErrPageVersion) {
					t.Fatalf("an error of no known kind: %v", err)
				}
				continue
			}
			again, err := bus.EncodePage(p)
			if err != nil {
				t.Fatal(err)
			}
			q, err := bus.DecodePage(again)
			if err != nil || !reflect.DeepEqual(normal(p), normal(q)) {
				t.Fatalf("%+v was read again as %+v, %v", p, q, err)
			}
		}
	})
}

// normal makes nil and empty events the same.
func normal(p bus.Page) bus.Page {
	for i, e := range p.Events {
		p.Events[i] = append([]byte{}, e...)
	}
	return p
}

func benchPage(events int) bus.Page {
	p := bus.Page{Epoch: 3, Time: 1516567765917000000, Incarnation: 1516567000000000000, CommandsRead: 123456}
	for range events {
		p.Answers = append(p.Answers, bus.Answer{ID: bus.NewCommandID(), Events: 1})
		p.Events = append(p.Events, benchEvent)
	}
	return p
}

func BenchmarkEncodePage(b *testing.B) {
	for _, events := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			p := benchPage(events)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = bus.AppendPage(buf[:0], p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
		})
	}
}

func BenchmarkDecodePage(b *testing.B) {
	for _, events := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			data, err := bus.EncodePage(benchPage(events))
			ok(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bus.DecodePage(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
		})
	}
}
