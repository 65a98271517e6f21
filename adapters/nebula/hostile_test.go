package nebula

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// gullible is a gate to which every token is Jane's: what keeps a token out is then the adapter alone.
type gullible struct {
	*fakeGate
	id session.SessionID
}

func (g gullible) Check(context.Context, session.Venue, string) (session.Live, adapters.Refused, error) {
	return session.Live{ID: g.id, User: janeID, Deadline: session.Forever, NoteFrom: session.Forever, Venue: session.Nebula}, adapters.Refused{}, nil
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// forge signs any header and payload as RS256 does.
func forge(key *rsa.PrivateKey, header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

// forger makes hostile tokens out of a good one. Its key is the pod's own where a token must be wrong in something else.
type forger struct {
	own, foreign    *rsa.PrivateKey
	kid             string
	header, payload map[string]any
	good            string
	tokens          map[string]string
}

func (f *forger) add(what, token string) {
	if _, twice := f.tokens[what]; twice {
		panic(what)
	}
	f.tokens[what] = token
}

// with gives an object with fields changed: name, value, ...; a nil value takes the field out.
func with(object map[string]any, changes ...any) string {
	changed := map[string]any{}
	for name, value := range object {
		changed[name] = value
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(changed, changes[i].(string))
		} else {
			changed[changes[i].(string)] = changes[i+1]
		}
	}
	text, err := json.Marshal(changed)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// algorithms: those that are not RS256, with signatures that are right for each.
func (f *forger) algorithms() {
	payload := with(f.payload)
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		input := b64([]byte(with(f.header, "alg", alg))) + "." + b64([]byte(payload))
		f.add("alg "+alg+", unsigned", input+".")
		f.add("alg "+alg+", the good signature", input+"."+strings.Split(f.good, ".")[2])
	}
	public, err := x509.MarshalPKIXPublicKey(&f.own.PublicKey)
	if err != nil {
		panic(err)
	}
	old := x509.MarshalPKCS1PublicKey(&f.own.PublicKey)
	for what, key := range map[string][]byte{"the PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "the old PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: old}),
		"the DER": public, "the modulus": f.own.N.Bytes(), "nothing": {}, "the kid": []byte(f.kid)} {
		for alg, make := range map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New} {
			input := b64([]byte(with(f.header, "alg", alg))) + "." + b64([]byte(payload))
			mac := hmac.New(make, key)
			mac.Write([]byte(input))
			f.add(alg+" keyed with "+what, input+"."+b64(mac.Sum(nil)))
		}
	}
	for alg, hash := range map[string]crypto.Hash{"RS384": crypto.SHA384, "RS512": crypto.SHA512, "PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
		for _, said := range []string{alg, "RS256"} {
			input := b64([]byte(with(f.header, "alg", said))) + "." + b64([]byte(payload))
			sum := hash.New()
			sum.Write([]byte(input))
			var opts crypto.SignerOpts = hash
			if alg[0] == 'P' {
				opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
			}
			signature, err := f.own.Sign(rand.Reader, sum.Sum(nil), opts)
			if err != nil {
				panic(err)
			}
			f.add(alg+" by our own key, called "+said, input+"."+b64(signature))
		}
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	for _, alg := range []string{"ES256", "ES384", "EdDSA", "RS256"} {
		input := b64([]byte(with(f.header, "alg", alg))) + "." + b64([]byte(payload))
		sum := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, curve, sum[:])
		if err != nil {
			panic(err)
		}
		f.add("an elliptic signature called "+alg, input+"."+b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))
	}
	for _, alg := range []any{"rs256", "RS256 ", "RS256\x00", 256, []string{"RS256"}, map[string]any{}, nil} {
		f.add(fmt.Sprintf("alg %#v by our own key", alg), forge(f.own, with(f.header, "alg", alg), payload))
	}
}

// headers: keys that the token brings along, ids that point elsewhere, types of other tokens, things asked for.
func (f *forger) headers(trap string) {
	payload := with(f.payload)
	n := b64(f.foreign.N.Bytes())
	jwk := map[string]any{"kty": "RSA", "n": n, "e": "AQAB", "kid": f.kid, "alg": "RS256", "use": "sig"}
	brought := map[string]any{"jwk": jwk, "jku": trap + "/jwks.json", "x5u": trap + "/chain.pem", "x5c": []string{"MIIB"}, "x5t": "AAAA", "x5t#S256": "AAAA",
		"crit": []string{"exp"}, "b64": false, "zip": "DEF", "cty": "JWT", "nonce": "x", "enc": "A128GCM", "url": trap, "iss": f.payload["iss"], "p2c": 1 << 30, "epk": jwk}
	for name, value := range brought {
		f.add("a foreign key and "+name, forge(f.foreign, with(f.header, name, value), payload))
		f.add("a foreign key, no kid, and "+name, forge(f.foreign, with(f.header, name, value, "kid", nil), payload))
		f.add("our own key and "+name, forge(f.own, with(f.header, name, value), payload))
	}
	f.add("our own key, crit b64", forge(f.own, with(f.header, "crit", []string{"b64"}, "b64", true), payload))
	for _, kid := range []any{nil, "", " ", f.kid + " ", f.kid + "\x00", strings.ToUpper(f.kid), f.kid[:len(f.kid)-1], f.kid + "A", "../" + f.kid, "../../../../dev/null", "/dev/null",
		"' OR 1=1 --", "*", ">", "$KV.KEYS.>", trap, strings.Repeat("A", 22), strings.Repeat("A", 4000), 0, true, []string{f.kid}, map[string]any{"kid": f.kid}} {
		f.add(fmt.Sprintf("our own key, kid %#.40v", kid), forge(f.own, with(f.header, "kid", kid), payload))
		f.add(fmt.Sprintf("a foreign key, kid %#.40v", kid), forge(f.foreign, with(f.header, "kid", kid), payload))
	}
	for _, typ := range []any{nil, "", "jwt", "Jwt", "JOSE", "JWS", "at+jwt", "application/at+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt", "dpop+jwt",
		"id+jwt", "jwt+sd", "kb+jwt", "entity-statement+jwt", "oauth-authz-req+jwt", 1, true, []string{"JWT"}} {
		f.add(fmt.Sprintf("our own key, typ %#v", typ), forge(f.own, with(f.header, "typ", typ), payload))
	}
	for what, header := range map[string]string{"two algs, none last": `{"alg":"RS256","typ":"JWT","kid":"` + f.kid + `","alg":"none"}`, "a list": `["RS256"]`, "a text": `"RS256"`, "null": `null`,
		"no JSON": `alg=RS256`, "a BOM": "\ufeff" + with(f.header), "two objects": with(f.header) + "{}", "cut off": with(f.header)[:20], "empty": `{}`, "deep": strings.Repeat(`{"a":`, 500)} {
		f.add("our own key, the header is "+what, forge(f.own, header, payload))
	}
}

// contents: what our own key has signed, and yet is no token of this service.
func (f *forger) contents() {
	now := int64(f.payload["iat"].(float64))
	for name, values := range map[string][]any{
		"iss": {nil, "", "https://evil.example/", "https://nebula.rollbook.example", "HTTPS://nebula.rollbook.example/", 7, []string{"https://nebula.rollbook.example/"}, true},
		"aud": {nil, "", "bo-gateway", "exberry-trading ", "EXBERRY-TRADING", []string{"exberry-trading"}, []string{"exberry-trading", "x"}, []string{}, 7, map[string]any{}},
		"exp": {nil, 0, now, now - 1, -1, 1e300, "9999999999", 9999999999.5, true, []int64{now + 1000}},
		"sub": {nil, "", "u-jane", "rollbook|", "rollbook|u-eve", "rollbook|u-jane ", "auth0|u-jane", 7},
		"jti": {nil, "", "07000000-0000-0000-0000-0000000000ff", 7},
	} {
		for n, value := range values {
			f.add(fmt.Sprintf("our own key, %s no. %d", name, n), forge(f.own, with(f.header), with(f.payload, name, value)))
		}
	}
	for what, payload := range map[string]string{"empty": `{}`, "a list": `[]`, "null": `null`, "no JSON": `x`, "nothing": ``, "two objects": with(f.payload) + with(f.payload), "a token": f.good} {
		f.add("our own key, the payload is "+what, forge(f.own, with(f.header), payload))
	}
	f.add("a foreign key, all else good", forge(f.foreign, with(f.header), with(f.payload)))
}

// spellings: the good token, written differently.
func (f *forger) spellings() {
	parts := strings.Split(f.good, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(parts[2])
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	for what, signature := range map[string][]byte{"empty": {}, "zeros": make([]byte, 256), "ones": []byte(strings.Repeat("\xff", 256)), "short": raw[:255], "long": append([]byte{0}, raw...), "longer": append(raw[:256:256], 0),
		"plus the modulus": new(big.Int).Add(new(big.Int).SetBytes(raw), f.own.N).Bytes(), "negated": new(big.Int).Sub(f.own.N, new(big.Int).SetBytes(raw)).Bytes(), "one": {1}} {
		f.add("the signature is "+what, join(parts[0], parts[1], b64(signature)))
	}
	flat := fmt.Sprintf(`{"protected":"%s","payload":"%s","signature":"%s"}`, parts[0], parts[1], parts[2])
	general := fmt.Sprintf(`{"payload":"%s","signatures":[{"protected":"%s","signature":"%s"},{"protected":"%s","signature":"AA"}]}`, parts[1], parts[0], parts[2], parts[0])
	last := parts[2][:len(parts[2])-1] + string(parts[2][len(parts[2])-1]+1) // other stray bits, the same bytes
	for what, token := range map[string]string{
		"nothing": "", "a dot": ".", "two dots": "..", "four dots": "....", "no signature": join(parts[0], parts[1]), "no header": join("", parts[1], parts[2]), "no payload": join(parts[0], "", parts[2]),
		"a part more": f.good + ".AA", "a dot more": f.good + ".", "a dot before": "." + f.good, "a space before": " " + f.good, "a space after": f.good + " ", "a line end": f.good + "\n", "a line end inside": f.good[:50] + "\n" + f.good[50:], "a carriage return": f.good[:50] + "\r\n" + f.good[50:],
		"padding": join(parts[0]+"=", parts[1], parts[2]), "padded signature": join(parts[0], parts[1], parts[2]+"=="), "stray bits": join(parts[0], parts[1], last), "standard base64": strings.NewReplacer("-", "+", "_", "/").Replace(f.good),
		"percent": strings.ReplaceAll(f.good, ".", "%2e"), "twice": f.good + f.good, "Bearer": "Bearer " + f.good, "JSON": flat, "general JSON": general, "like an encrypted one": join(parts[0], parts[1], parts[2], parts[1], parts[2]),
		"parts exchanged": join(parts[1], parts[0], parts[2]), "a null byte": f.good + "\x00", "upper case": strings.ToUpper(f.good), "much too long": join(parts[0], parts[1]+strings.Repeat("A", maxToken), parts[2]),
	} {
		f.add("spelling: "+what, token)
	}
	for n := range len(f.good) { // every character changed
		c := byte('A')
		if f.good[n] == c {
			c = 'B'
		}
		f.add(fmt.Sprintf("character %d changed", n), f.good[:n]+string(c)+f.good[n+1:])
	}
}

// TestHostileTokens: none of them is accepted, at any door, although the gate would take each; no key is fetched; and the
// good one is accepted before and after.
func TestHostileTokens(t *testing.T) {
	var fetched atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	defer trap.Close()
	d := serve(t, Config{MessageRate: 1 << 20})
	good := d.token(t)
	f := &forger{own: spareKeys()[0], foreign: spareKeys()[3], good: good, tokens: map[string]string{}}
	for n, into := range []*map[string]any{&f.header, &f.payload} {
		data, err := base64.RawURLEncoding.DecodeString(strings.Split(good, ".")[n])
		must(t, err)
		must(t, json.Unmarshal(data, into))
	}
	f.kid = f.header["kid"].(string)
	id, err := session.ParseSessionID(f.payload["jti"].(string))
	must(t, err)
	d.h.gate = gullible{d.gate, id}
	f.algorithms()
	f.headers(trap.URL)
	f.contents()
	f.spellings()

	accepted := func(token string) bool {
		p, fault := decodePresented(adapters.RenderJSON(map[string]string{"token": token}), true)
		if fault != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, fault = d.h.create(ctx, p)
		return fault == nil
	}
	if !accepted(good) || !accepted(forge(f.own, with(f.header), with(f.payload))) {
		t.Fatal("the good token is not accepted: the others prove nothing")
	}
	crafted := 0
	for what, token := range f.tokens {
		if !strings.HasPrefix(what, "character ") {
			crafted++
		}
		if accepted(token) {
			t.Errorf("accepted by createSession: %s", what)
		}
		if strings.ContainsAny(token, "\r\n\x00") || strings.TrimSpace(token) != token {
			continue // no header can carry it as it is
		}
		r := httptest.NewRequest(http.MethodGet, "/trader-api/broker/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		d.h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusInternalServerError {
			t.Errorf("answered with %d as a bearer: %s", w.Code, what)
		}
	}
	if !accepted(good) || crafted < 200 || fetched.Load() != 0 {
		t.Errorf("%d crafted tokens, %d fetches", crafted, fetched.Load())
	}
	t.Logf("%d crafted tokens and %d changed ones, none accepted", crafted, len(f.tokens)-crafted)
	d.clock.forward(24*time.Hour - time.Second)
	if !accepted(good) {
		t.Error("refused before its end")
	}
	d.clock.forward(time.Second)
	if accepted(good) {
		t.Error("accepted at its end")
	}
}
