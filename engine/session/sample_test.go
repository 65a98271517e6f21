package session

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"

	"pgregory.net/rapid"
)

// kindsOfEvents is every kind of event that can be stored, empty.
func kindsOfEvents() []Event {
	var all []Event
	for kind := uint64(1); newEvent(kind) != nil; kind++ {
		all = append(all, newEvent(kind))
	}
	return all
}

// kindsOfCommands is every command that travels, empty.
func kindsOfCommands() []Command {
	var all []Command
	for _, verb := range []Verb{VerbLogin, VerbRefresh, VerbLogout, VerbVerify, VerbTouch, VerbIssueOneTime, VerbRevoke, VerbRegister,
		VerbDisable, VerbEnable, VerbUnlock, VerbChangeCredential, VerbDefineResource, VerbRemoveResource, VerbPodLost} {
		all = append(all, newCommand(verb))
	}
	return all
}

// encode and decode do for the three kinds of things what each has a function of its own for.
func encode(x any) []byte {
	switch x := x.(type) {
	case Event:
		return AppendEvent(nil, x)
	case Command:
		return EncodeCommand(x)
	case *Reply:
		return EncodeReply(*x)
	}
	panic(fmt.Sprintf("%T is nothing that is encoded", x))
}

func decode(like any, data []byte) (any, error) {
	switch x := like.(type) {
	case Event:
		return DecodeEvent(data)
	case Command:
		return DecodeCommand(x.Verb(), data)
	}
	r, err := DecodeReply(data)
	return &r, err
}

// stored is everything that has a stored or travelling form, by the name of its golden file, with every field set.
func stored() map[string]any {
	all := map[string]any{"reply": &Reply{}}
	for _, e := range kindsOfEvents() {
		all["event-"+string(e.Type())] = e
	}
	for _, c := range kindsOfCommands() {
		all["command-"+string(c.Verb())] = c
	}
	for _, x := range all {
		sample(reflect.ValueOf(x).Elem(), "")
	}
	return all
}

// sample sets every field to a value that depends on the field's name alone, so that a new field changes no other.
func sample(v reflect.Value, path string) {
	sum := sha256.Sum256([]byte(path))
	n := binary.BigEndian.Uint64(sum[:]) | 1
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			sample(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			sample(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(sum[i%32]))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%x", sum[:3]))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(n%7 + 1)
	case reflect.Uint32:
		v.SetUint(n % 100_000)
	case reflect.Uint64:
		v.SetUint(n)
	case reflect.Int64:
		v.SetInt(int64(n >> 2))
	default:
		panic("no sample for " + v.Type().String())
	}
}

// random sets every field to anything it can hold, the edges of each kind often. An empty list is nil: the stored form
// does not tell them apart.
func random(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			random(t, v.Field(i))
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 4).Draw(t, "items"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				random(t, v.Index(i))
			}
		}
	case reflect.Array:
		if rapid.Bool().Draw(t, "set") {
			for i := range v.Len() {
				v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, "byte")))
			}
		}
	case reflect.String:
		if long := rapid.SampledFrom([]int{0, 0, 31, 32, 255, 256, 65535, 65536}).Draw(t, "long"); long > 0 {
			v.SetString(string(make([]byte, long)))
		} else {
			v.SetString(string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")))
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Uint8().Draw(t, "code")))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.OneOf(rapid.Uint32(), rapid.Just(uint32(math.MaxUint32))).Draw(t, "uint32")))
	case reflect.Uint64:
		v.SetUint(rapid.OneOf(rapid.Uint64(), rapid.Just(uint64(math.MaxUint64))).Draw(t, "uint64"))
	case reflect.Int64:
		v.SetInt(rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64})).Draw(t, "int64"))
	default:
		panic("nothing random for " + v.Type().String())
	}
}
