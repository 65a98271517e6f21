package nebula

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// judge is another implementation of JOSE and JWT, told what this service asks of a token: one key by one id, RS256, the
// issuer, the audience, an end.
type judge struct {
	keys             jwk.Set
	issuer, audience string
	now              func() time.Time
}

func newJudge(t *testing.T, key *rsa.PublicKey, kid, issuer, audience string, now func() time.Time) judge {
	t.Helper()
	public, err := jwk.Import(key)
	must(t, err)
	must(t, public.Set(jwk.KeyIDKey, kid))
	must(t, public.Set(jwk.AlgorithmKey, jwa.RS256()))
	set := jwk.NewSet()
	must(t, set.AddKey(public))
	return judge{set, issuer, audience, now}
}

// accepts judges a token.
func (j judge) accepts(token string) bool {
	clock := jwt.WithClock(jwt.ClockFunc(j.now))
	parsed, err := jwt.Parse([]byte(token), jwt.WithKeySet(j.keys), jwt.WithValidate(false))
	if err != nil {
		return false
	}
	// The leeway is for an issuer whose clock is ahead, and not for the end of a token.
	if jwt.Validate(parsed, clock, jwt.WithAcceptableSkew(earlyBy), jwt.WithIssuer(j.issuer), jwt.WithAudience(j.audience), jwt.WithRequiredClaim(jwt.ExpirationKey)) != nil {
		return false
	}
	return jwt.Validate(parsed, clock, jwt.WithResetValidators(true), jwt.WithValidator(jwt.IsExpirationValid())) == nil
}

// times: what our own key has signed for another time.
func (f *forger) times() {
	now := int64(f.payload["iat"].(float64))
	for _, name := range []string{"nbf", "iat"} {
		for n, value := range []any{now + 1, now + 60, now + 299, now + 301, now + 3600, 1e300, -1, 0, 0.5, fmt.Sprint(now), "soon", true, []int64{now}, map[string]any{}} {
			f.add(fmt.Sprintf("our own key, %s no. %d", name, n), forge(f.own, with(f.header), with(f.payload, name, value)))
		}
	}
	for n, value := range []any{now + 1, float64(now) + 0.5, int64(1) << 62, 1e18, 1e10} {
		f.add(fmt.Sprintf("our own key, another end no. %d", n), forge(f.own, with(f.header), with(f.payload, "exp", value)))
	}
}

// members: objects that readers read differently: members that stand twice, in another case, escaped, deep, in bytes that
// are no text.
func (f *forger) members() {
	now := int64(f.payload["iat"].(float64))
	prefix := func(object map[string]any, text string) string { return "{" + text + "," + with(object)[1:] }
	suffix := func(object map[string]any, text string) string {
		whole := with(object)
		return whole[:len(whole)-1] + "," + text + "}"
	}
	for what, member := range map[string]string{"alg none": `"alg":"none"`, "alg HS256": `"alg":"HS256"`, "alg RS256": `"alg":"RS256"`, "a kid": `"kid":"x"`, "typ": `"typ":"at+jwt"`,
		"a kid in capitals": `"KID":"x"`, "ALG none": `"ALG":"none"`, "b64": `"b64":false`, "crit": `"crit":["b64"]`, "no crit": `"crit":[]`, "crit null": `"crit":null`, "an escaped alg": `"\u0061lg":"none"`} {
		f.add("header, first "+what, forge(f.own, prefix(f.header, member), with(f.payload)))
		f.add("header, last "+what, forge(f.own, suffix(f.header, member), with(f.payload)))
	}
	for what, member := range map[string]string{"an old exp": fmt.Sprintf(`"exp":%d`, now-5), "no exp": `"exp":null`, "EXP": fmt.Sprintf(`"EXP":%d`, now-5), "a good EXP": fmt.Sprintf(`"EXP":%d`, now+5000),
		"an escaped exp": fmt.Sprintf(`"\u0065xp":%d`, now-5), "another iss": `"iss":"https://evil.example/"`, "ISS": `"ISS":"https://evil.example/"`, "another aud": `"aud":"x"`, "Aud": `"Aud":"x"`,
		"nbf": fmt.Sprintf(`"nbf":%d`, now+5000), "NBF": fmt.Sprintf(`"NBF":%d`, now+5000), "another sub": `"sub":"u-eve"`, "no UTF-8": "\"x\":\"\xff\xfe\"", "half a surrogate": `"x":"\ud800"`,
		"depth": `"x":` + strings.Repeat("[", 900) + strings.Repeat("]", 900), "a big number": `"x":` + strings.Repeat("9", 900), "a NUL": `"x":"\u0000"`} {
		f.add("payload, first "+what, forge(f.own, with(f.header), prefix(f.payload, member)))
		f.add("payload, last "+what, forge(f.own, with(f.header), suffix(f.payload, member)))
	}
	for name, other := range map[string]string{"exp": "EXP", "iss": "Iss", "aud": "AUD", "sub": "Sub", "jti": "JTI", "iat": "IAT"} {
		f.add("payload, "+other+" for "+name, forge(f.own, with(f.header), with(f.payload, name, nil, other, f.payload[name])))
	}
	for name, other := range map[string]string{"alg": "Alg", "kid": "KID", "typ": "Typ"} {
		f.add("header, "+other+" for "+name, forge(f.own, with(f.header, name, nil, other, f.header[name]), with(f.payload)))
	}
	for what, text := range map[string]string{"white space": " \n" + with(f.payload) + "\t", "a BOM": "\ufeff" + with(f.payload), "two objects": with(f.payload) + with(f.payload), "a list": "[" + with(f.payload) + "]",
		"nothing": " ", "null": "null", "a comment": with(f.payload) + "//", "a comma more": strings.TrimSuffix(with(f.payload), "}") + ",}"} {
		f.add("the payload with "+what, forge(f.own, with(f.header), text))
	}
	f.add("a big payload", forge(f.own, with(f.header), with(f.payload, "x", strings.Repeat("x", 5<<10))))
	f.add("a payload beyond our bound", forge(f.own, with(f.header), with(f.payload, "x", strings.Repeat("x", maxToken))))
}

// allOf makes the tokens of the differential tests around a good one.
func allOf(t *testing.T, own, foreign *rsa.PrivateKey, good string) *forger {
	t.Helper()
	f := &forger{own: own, foreign: foreign, good: good, tokens: map[string]string{}}
	for n, into := range []*map[string]any{&f.header, &f.payload} {
		data, err := base64.RawURLEncoding.DecodeString(strings.Split(good, ".")[n])
		must(t, err)
		must(t, json.Unmarshal(data, into))
	}
	f.kid = f.header["kid"].(string)
	f.algorithms()
	f.headers("https://evil.example")
	f.contents()
	f.spellings()
	f.times()
	f.members()
	return f
}

// opens says whether createSession takes a token.
func (d *desk) opens(token string) bool {
	p, fault := decodePresented(adapters.RenderJSON(map[string]string{"token": token}), true)
	if fault != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, fault = d.h.create(ctx, p)
	return fault == nil
}

// differ holds two judgements of many tokens together: what we accept they accept. The tokens that they accept and we do
// not are those listed in testdata/stricter-LIST.txt.
func differ(t *testing.T, f *forger, ours, theirs func(string) bool, list string) {
	t.Helper()
	if again := forge(f.own, with(f.header), with(f.payload)); !ours(f.good) || !theirs(f.good) || !ours(again) || !theirs(again) {
		t.Fatal("the good token is not accepted by both: the others prove nothing")
	}
	both, neither := 0, 0
	var alone []string
	for what, token := range f.tokens {
		if strings.HasPrefix(what, "character ") && !strings.HasSuffix(what, "0 changed") {
			continue // a tenth of them will do: their signatures are wrong
		}
		switch a, b := ours(token), theirs(token); {
		case a && !b:
			t.Errorf("we accept, they refuse: %s", what)
		case b && !a:
			alone = append(alone, what)
		case a:
			both++
		default:
			neither++
		}
	}
	slices.Sort(alone)
	stricter, err := os.ReadFile("testdata/stricter-" + list + ".txt")
	must(t, err)
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(stricter)), "\n"), alone); diff != "" {
		t.Errorf("we refuse and they accept other tokens than listed:\n%s", strings.Join(alone, "\n"))
	}
	if both < 5 || neither < 250 {
		t.Errorf("%d accepted by both, %d by neither: too few to compare", both, neither)
	}
	t.Logf("%d tokens: %d accepted by both, %d by neither, %d by the other alone", both+neither+len(alone), both, neither, len(alone))
}

// TestOwnTokensDiffer compares the judgement of our own tokens with another library's.
func TestOwnTokensDiffer(t *testing.T) {
	d := serve(t, Config{MessageRate: 1 << 20})
	f := allOf(t, spareKeys()[0], spareKeys()[3], d.token(t))
	id, err := session.ParseSessionID(f.payload["jti"].(string))
	must(t, err)
	d.h.gate = gullible{d.gate, id}
	other := newJudge(t, &f.own.PublicKey, f.kid, d.h.cfg.Issuer, d.h.cfg.Audience, d.clock.now)
	differ(t, f, d.opens, other.accepts, "own")
}

// TestIssuersTokensDiffer compares the judgement of another issuer's tokens with another library's.
func TestIssuersTokensDiffer(t *testing.T) {
	p := newProvider(t)
	d := serve(t, Config{Issuers: []Issuer{{URL: p.URL + "/", Audience: "exberry-trading", Alias: "corp"}}, MessageRate: 1 << 20})
	f := allOf(t, spareKeys()[1], spareKeys()[3], p.issue(d, nil, nil))
	other := newJudge(t, &f.own.PublicKey, f.kid, p.URL+"/", "exberry-trading", d.clock.now)
	issuer := d.h.issuers[p.URL+"/"]
	ours := func(token string) bool {
		o, whole := outlineOf(token)
		if !whole || o.issuer != p.URL+"/" {
			return false
		}
		name, _, err := issuer.name(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return name != ""
	}
	differ(t, f, ours, other.accepts, "issuer")
}
