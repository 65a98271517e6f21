package session

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// agrees checks a heading against the whole event, which has the last word.
func agrees(t interface {
	Helper()
	Fatalf(string, ...any)
}, data []byte) {
	t.Helper()
	before := bytes.Clone(data)
	h, err := ReadHeading(data)
	user, whoseErr := Whose(data)
	e, whole := DecodeEvent(data)
	switch {
	case !bytes.Equal(before, data):
		t.Fatalf("reading %x has changed it", before)
	case whole == nil && (err != nil || h != Heading{e.Type(), Header{e.When(), e.Whose()}}):
		t.Fatalf("%x is %s of %q at %d, and its heading reads %+v, %v", data, e.Type(), e.Whose(), e.When(), h, err)
	case whole == nil && whoseErr == nil && user != e.Whose():
		t.Fatalf("%x is %q's, and reads %q", data, e.Whose(), user)
	case err != nil && (h != Heading{} || !errors.Is(err, ErrUndecodable) && !errors.Is(err, ErrFromTheFuture)):
		t.Fatalf("%x reads %+v, %v", data, h, err)
	}
}

// TestHeading: the heading says what the whole event says, also of bytes that were damaged, cut off, or written by a newer
// program.
func TestHeading(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e := rapid.SampledFrom(kindsOfEvents()).Draw(rt, "kind")
		v := reflect.New(reflect.TypeOf(e).Elem())
		random(rt, v.Elem())
		data := AppendEvent(nil, v.Interface().(Event))
		agrees(rt, data)
		if _, err := ReadHeading(data); err != nil {
			rt.Fatalf("%x reads %v", data, err)
		}
		agrees(rt, data[:rapid.IntRange(0, len(data)).Draw(rt, "cut")])
		tree := parse(t, data)
		agrees(rt, build(t, append(tree, "a new field", []any{1})))
		agrees(rt, build(t, tree[:rapid.IntRange(0, len(tree)).Draw(rt, "fields")]))
		data[rapid.IntRange(0, min(len(data)-1, 40)).Draw(rt, "where")] = rapid.Byte().Draw(rt, "byte")
		agrees(rt, data)
	})
}

// TestPlainHeading: events as the engine writes them do not need the decoder for their heading.
func TestPlainHeading(t *testing.T) {
	for _, e := range kindsOfEvents() {
		for _, user := range []string{"u-1", "0123456789abcdef0123456789abcdef-a-user-of-more-than-31-bytes"} {
			v := reflect.ValueOf(e).Elem().FieldByName("Header")
			v.Set(reflect.ValueOf(Header{begin, UserID(user)}))
			data := AppendEvent(nil, e)
			if _, kind, _, h, ok := plainHeading(data); !ok || kind != e.kind() || h != (Header{begin, UserID(user)}) {
				t.Errorf("%s: %d, %+v, %v", e.Type(), kind, h, ok)
			}
		}
	}
}

func FuzzHeading(f *testing.F) {
	for _, e := range kindsOfEvents() {
		f.Add(AppendEvent(nil, e))
		sample(reflect.ValueOf(e).Elem(), "")
		f.Add(AppendEvent(nil, e))
	}
	f.Add([]byte{0x92, 1, 1})
	f.Add([]byte{0xdc, 0, 4, 1, 1, 0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0})
	f.Fuzz(func(t *testing.T, data []byte) { agrees(t, data) })
}
