package session

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// TestRoundTrip: whatever a value holds, it comes back.
func TestRoundTrip(t *testing.T) {
	for name, kind := range stored() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				x := reflect.New(reflect.TypeOf(kind).Elem())
				random(rt, x.Elem())
				data := encode(x.Interface())
				got, err := decode(kind, data)
				if err != nil {
					rt.Fatal(err)
				}
				if diff := cmp.Diff(x.Interface(), got); diff != "" {
					rt.Fatal(diff)
				}
				if again := encode(got); !bytes.Equal(data, again) {
					rt.Fatalf("encoded again it is\n%x, and was\n%x", again, data)
				}
			})
		})
	}
}

// TestNewerFieldsAreSkipped: whatever a newer program appends, to the value itself, to a group or to the items of a list,
// is passed over.
func TestNewerFieldsAreSkipped(t *testing.T) {
	extras := []any{nil, true, -7, uint64(1) << 63, 1.5, "a new text", []byte{1, 2, 3}, []any{}, []any{1, []any{"deep", []any{2}}},
		map[string]any{"k": []any{1}}}
	for name, want := range stored() {
		tree := parse(t, encode(want))
		grown, places := tree, 0
		for _, extra := range extras {
			grown = grow(grown, extra, &places)
		}
		if places == 0 {
			t.Fatalf("%s did not grow", name)
		}
		got, err := decode(want, build(t, grown))
		if err != nil {
			t.Errorf("%s with new fields in %d places: %v", name, places/len(extras), err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s with new fields reads differently:\n%s", name, diff)
		}
	}
}

// TestMissingFieldsAreZero: what an older program wrote, without the fields at the end, reads as if they were zero.
func TestMissingFieldsAreZero(t *testing.T) {
	for name, want := range stored() {
		whole := parse(t, encode(want))
		lead := 1
		if _, isEvent := want.(Event); isEvent {
			lead = 2
		}
		for cut := lead; cut < len(whole); cut++ {
			got, err := decode(want, build(t, whole[:cut]))
			if err != nil {
				t.Fatalf("%s of %d elements: %v", name, cut, err)
			}
			if field := beyond(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem(), ""); field != "" {
				t.Errorf("%s of %d elements: %s is neither zero nor what was written", name, cut, field)
			}
			back := parse(t, encode(got))
			for i, element := range back {
				if i < cut && !reflect.DeepEqual(element, whole[i]) || i >= cut && !isZero(element) {
					t.Errorf("%s of %d elements: element %d reads %v", name, cut, i, element)
				}
			}
		}
		for cut := range lead { // not even a kind and a version
			if _, err := decode(want, build(t, whole[:cut])); !errors.Is(err, ErrUndecodable) {
				t.Errorf("%s of %d elements: %v", name, cut, err)
			}
		}
		// The items of lists, and the group, are cut to nothing.
		if got, err := decode(want, build(t, hollow(whole))); err != nil {
			t.Errorf("%s with hollow items: %v", name, err)
		} else if field := beyond(reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem(), ""); field != "" {
			t.Errorf("%s with hollow items: %s is neither zero nor what was written", name, field)
		}
	}
}

// TestDamagedBytes: every cut, every byte that follows, every change of a byte is an error of the right kind, or a value
// that can be stored again.
func TestDamagedBytes(t *testing.T) {
	for name, x := range stored() {
		data := encode(x)
		for cut := range data {
			if _, err := decode(x, data[:cut]); !errors.Is(err, ErrUndecodable) || errors.Is(err, ErrFromTheFuture) {
				t.Fatalf("%s cut to %d of %d bytes: %v", name, cut, len(data), err)
			}
		}
		if _, err := decode(x, append(bytes.Clone(data), 0)); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s and a byte more: %v", name, err)
		}
		for i := range data {
			for _, change := range []byte{0x00, 0x7f, 0x80, 0x90, 0x9f, 0xc0, 0xc1, 0xc6, 0xc9, 0xcf, 0xd3, 0xdb, 0xdd, 0xdf, 0xff} {
				damaged := bytes.Clone(data)
				damaged[i] = change
				checkDecoded(t, x, damaged)
			}
		}
	}
}

// checkDecoded fails unless the bytes are refused in one of the two ways, or read as something that survives.
func checkDecoded(t *testing.T, like any, data []byte) {
	t.Helper()
	got, err := decode(like, data)
	switch {
	case errors.Is(err, ErrUndecodable) != errors.Is(err, ErrFromTheFuture):
		return
	case err != nil:
		t.Fatalf("%x: neither undecodable nor from the future: %v", data, err)
	}
	again, err := decode(got, encode(got))
	if err != nil {
		t.Fatalf("%x decodes to what does not decode: %v", data, err)
	}
	if !reflect.DeepEqual(got, again) {
		t.Fatalf("%x changes on the way:\n%s", data, cmp.Diff(got, again))
	}
}

// TestFromTheFuture: a kind, a verb or a version that this program does not know is told apart from damage.
func TestFromTheFuture(t *testing.T) {
	event := parse(t, AppendEvent(nil, &UserEnabled{Header{begin, "alice"}}))
	for name, lead := range map[string][2]int{"kind": {99, codecVersion}, "no kind": {0, codecVersion}, "version": {kindUserEnabled, 2}} {
		event[0], event[1] = lead[0], lead[1]
		if _, err := DecodeEvent(build(t, event)); !errors.Is(err, ErrFromTheFuture) || errors.Is(err, ErrUndecodable) {
			t.Errorf("an event of an unknown %s: %v", name, err)
		}
	}
	body := EncodeCommand(&Touch{User: "alice"})
	for _, verb := range []Verb{"dance", "", VerbExpire} {
		if _, err := DecodeCommand(verb, body); !errors.Is(err, ErrFromTheFuture) {
			t.Errorf("verb %q: %v", verb, err)
		}
	}
	newer := build(t, []any{2, "alice"})
	if _, err := DecodeCommand(VerbTouch, newer); !errors.Is(err, ErrFromTheFuture) {
		t.Errorf("a command of version 2: %v", err)
	}
	if _, err := DecodeReply(newer); !errors.Is(err, ErrFromTheFuture) {
		t.Errorf("a reply of version 2: %v", err)
	}
}

// TestHostileBytes: lengths that promise more than there is cost no memory to speak of, and depth without end no more stack
// than its bytes pay for.
func TestHostileBytes(t *testing.T) {
	const size = 200 << 10
	defer debug.SetMaxStack(debug.SetMaxStack(512 * size)) // who needs more is killed
	deep := func(head ...byte) []byte { return append(head, bytes.Repeat([]byte{0x91}, size)...) }
	wide := append([]byte{0x99, kindResourceDefined, 1, 0, 0xa0, 0xa1, 'R', 3, 0xa0, 0xdd, 0, 2, 0, 0}, bytes.Repeat([]byte{0x90}, 128<<10)...)
	for name, data := range map[string][]byte{
		"an array of 4 billion":            {0xdd, 0xff, 0xff, 0xff, 0xff, kindUserEnabled, 1},
		"a text of 4 GB":                   {0x94, kindUserEnabled, 1, 0, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"a new field of 4 GB":              {0x95, kindUserEnabled, 1, 0, 0xa1, 'u', 0xc6, 0xff, 0xff, 0xff, 0xff},
		"a new map of 4 billion":           {0x95, kindUserEnabled, 1, 0, 0xa1, 'u', 0xdf, 0xff, 0xff, 0xff, 0xff},
		"a new field of depth 200,000":     deep(0x95, kindUserEnabled, 1, 0, 0xa1, 'u'),
		"a list of 4 billion resources":    {0x99, kindResourceDefined, 1, 0, 0xa0, 0xa1, 'R', 3, 0xa0, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"a list of 131,072 empty elements": wide,
		"an id of 4 GB":                    {0x96, kindSessionEnded, 1, 0, 0xa1, 'u', 0xc6, 0xff, 0xff, 0xff, 0xff},
		"nothing":                          {},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const times = 8 // what one leaves behind must not grow with the next
		var err error
		for range times {
			_, err = DecodeEvent(data)
		}
		runtime.ReadMemStats(&after)
		took := (after.TotalAlloc - before.TotalAlloc) / times
		t.Logf("%s: %d bytes for %d, %v", name, took, len(data), err)
		// A field of 104 bytes can be written in one, and the growing list leaves about five times its size behind.
		if limit := uint64(4<<20 + 640*len(data)); took > limit {
			t.Errorf("%s: %d bytes of input took %d bytes of memory", name, len(data), took)
		}
		if !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEncodingOnlyReads: many may encode one event at once. The race detector is the judge.
func TestEncodingOnlyReads(t *testing.T) {
	for name, x := range stored() {
		want := encode(x)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if got := encode(x); !bytes.Equal(got, want) {
					t.Errorf("%s was encoded in two ways", name)
				}
			})
		}
		all.Wait()
	}
	buf := AppendEvent([]byte("before"), &UserEnabled{})
	if !bytes.HasPrefix(buf, []byte("before")) {
		t.Errorf("what stood in the buffer is gone: %q", buf)
	}
}

// parse and build turn stored bytes into a tree and back.
func parse(t testing.TB, data []byte) []any {
	var tree []any
	if err := msgpack.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func build(t testing.TB, tree any) []byte {
	data, err := msgpack.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// isList says whether an array holds items, each an array, rather than fields. No sample has fields that are all arrays.
func isList(tree []any) bool {
	for _, item := range tree {
		if _, ok := item.([]any); !ok {
			return false
		}
	}
	return len(tree) > 0
}

// grow appends a field to every array of fields.
func grow(tree []any, extra any, places *int) []any {
	grown := make([]any, 0, len(tree)+1)
	for _, element := range tree {
		if inner, ok := element.([]any); ok {
			element = grow(inner, extra, places)
		}
		grown = append(grown, element)
	}
	if isList(tree) {
		return grown
	}
	*places++
	return append(grown, wrapped{extra})
}

// wrapped marks what grow added, so that it does not grow itself.
type wrapped struct{ any }

// EncodeMsgpack implements msgpack.CustomEncoder.
func (w wrapped) EncodeMsgpack(enc *msgpack.Encoder) error { return enc.Encode(w.any) }

// hollow empties the items of every list and every group; the value itself stays whole.
func hollow(tree []any) []any {
	out := make([]any, len(tree))
	for i, element := range tree {
		out[i] = element
		if inner, ok := element.([]any); ok {
			if isList(inner) {
				items := make([]any, len(inner))
				for j := range items {
					items[j] = []any{}
				}
				out[i] = items
			} else {
				out[i] = []any{}
			}
		}
	}
	return out
}

// isZero says whether an element is what a field that was never set is stored as.
func isZero(element any) bool {
	if inner, ok := element.([]any); ok {
		for _, x := range inner {
			if !isZero(x) {
				return false
			}
		}
		return true
	}
	return element == nil || reflect.ValueOf(element).IsZero()
}
