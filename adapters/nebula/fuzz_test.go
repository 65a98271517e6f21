package nebula

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"rollbook/engine/session"
)

// FuzzKeys reads what stands on the board, and what an issuer shows, as keys: what is taken is a public RSA key of an
// accepted length by its id, is shown without any private half, and read again is the same.
func FuzzKeys(f *testing.F) {
	kid := strings.Repeat("k", kidLength)
	add := func(key jose.JSONWebKey) {
		data, err := key.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key.KeyID, data)
	}
	add(jose.JSONWebKey{Key: &spareKeys()[0].PublicKey, KeyID: kid, Algorithm: "RS256", Use: "sig"})
	add(jose.JSONWebKey{Key: spareKeys()[0], KeyID: kid, Algorithm: "RS256", Use: "sig"})
	add(jose.JSONWebKey{Key: &spareKeys()[0].PublicKey, KeyID: "another", Algorithm: "PS256"})
	add(jose.JSONWebKey{Key: []byte("a shared secret of some length.."), KeyID: kid, Algorithm: "HS256", Use: "enc"})
	f.Add(kid, []byte(`{"kty":"RSA","kid":"`+kid+`","alg":"RS256","use":"sig","n":"AQAB","e":"AQAB"}`))
	f.Add("", []byte(`{"kty":"EC","crv":"P-256"}`))
	k := newKeyring(Config{}.withDefaults(), nil, discard)
	f.Fuzz(func(t *testing.T, kid string, data []byte) {
		for id, public := range rsaKeys([]json.RawMessage{data, data}) {
			if bits := public.N.BitLen(); id == "" || bits < 2048 || bits > 8192 {
				t.Fatalf("an issuer's %q is the key %q of %d bits", data, id, bits)
			}
		}
		public, err := decodeKey(kid, data)
		known, set := k.decode(map[string][]byte{kid: data})
		if (err == nil) != (len(known) == 1) {
			t.Fatalf("%q: %v, and %d keys", data, err, len(known))
		}
		var shown struct{ Keys []map[string]any }
		if err := json.Unmarshal(set, &shown); err != nil || len(shown.Keys) != len(known) {
			t.Fatalf("%q is shown as %s: %v", data, set, err)
		}
		if err != nil {
			return
		}
		if bits := public.N.BitLen(); len(kid) != kidLength || bits < 2048 || bits > 4096 || public.E < 3 || public.E%2 == 0 {
			t.Fatalf("%q is a key of %d bits, with %d", data, bits, public.E)
		}
		if len(shown.Keys[0]) != 6 || shown.Keys[0]["kid"] != kid || shown.Keys[0]["d"] != nil {
			t.Fatalf("%q is shown as %s", data, set)
		}
		again, err := json.Marshal(shown.Keys[0])
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeKey(kid, again); err != nil || !back.Equal(public) {
			t.Fatalf("%q is read again from %s as %v, %v", data, again, back, err)
		}
	})
}

// FuzzSignature presents any signature for a key: it is good only if it is the one over these two fields, which is good
// whatever the fields are.
func FuzzSignature(f *testing.F) {
	f.Add(jane, "1795357539516", "9c74")
	f.Add(jane, "0", "9C74\n")
	f.Add("1234567abcdz", "1795357539516", "")
	f.Add(`jane","timestamp":"1`, `1","x":"`, strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, name, at, given string) {
		gate := newFakeGate(t, newClock().now)
		h := New(Config{Now: gate.now}, gate, &memoryBoard{}, discard)
		secret := []byte(hex.EncodeToString(janeKey))
		good := signature(secret, jane, at)
		if c := h.judgeKey(presented{apiKey: jane, at: at, signature: hex.EncodeToString(good)}); c.User != janeID || c.Verdict != session.Matched {
			t.Fatalf("at %q Jane's own signature gives %+v", at, c)
		}
		c := h.judgeKey(presented{apiKey: name, at: at, signature: given})
		theirs, err := hex.DecodeString(given)
		switch _, known := gate.Find(name); {
		case !known && (c.Verdict != session.NoSuchUser || c.User != gate.Decoy(name)):
			t.Fatalf("%q, whom nobody knows, gives %+v", name, c)
		case known && (c.Verdict == session.Matched) != (err == nil && bytes.Equal(theirs, signature(secret, name, at))):
			t.Fatalf("%q at %q with %q gives %+v", name, at, given, c)
		}
		for _, spoilt := range []string{at + "0", "0" + at, fmt.Sprintf("%s ", at)} {
			if bytes.Equal(signature(secret, jane, spoilt), good) {
				t.Fatalf("%q and %q have one signature", at, spoilt)
			}
		}
	})
}
