package nebula

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

var update = flag.Bool("update", false, "rewrite the golden replies")

var goldens = adapterstest.Goldens{Dir: "../../testdata/wire/nebula", Update: update}

// request makes one call. Headers are given as name, value, ...; an empty value is sent.
func request(t *testing.T, server *httptest.Server, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	response, reply := adapterstest.Call(t, server.Client(), method, server.URL+path, body, header)
	if cache := response.Header.Get("Cache-Control"); cache != "no-store" && strings.TrimSuffix(path, "/") != jwksPath {
		t.Errorf("%s %s: Cache-Control %q", method, path, cache)
	}
	return response, reply
}

// token logs in and gives the token.
func (d *desk) token(t *testing.T) string {
	t.Helper()
	response, body := post(t, d.Server, `{"email":"`+jane+`","password":"`+password+`"}`)
	var g granted
	if err := json.Unmarshal([]byte(body), &g); err != nil || response.StatusCode != 200 {
		t.Fatalf("%d %s", response.StatusCode, body)
	}
	return g.Token
}

func createFrame(token string, sid int) string {
	return fmt.Sprintf(`{"q":"v1/broker.oms/createSession","sid":%d,"d":{"token":"%s"}}`, sid, token)
}

// TestWireGoldens plays the scripts in testdata/wire/nebula: lines "> METHOD path body", "> frame", or "# remark"; what
// comes back stands below each in the golden. Tokens and key ids are written as what they hold.
func TestWireGoldens(t *testing.T) {
	for _, script := range []string{"token", "socket", "exchange", "gateway"} {
		t.Run(script, func(t *testing.T) {
			d := serve(t, Config{Issuer: "https://trading-master-exberry.eu.auth0.com/", SubjectPrefix: "auth0|", ClientID: "unZc9VTq8WJFs4r4NcuWMLHo2HsFkMMH",
				Accounts: map[session.UserID]Account{janeID: {AccountID: 9, UserID: "5", ExchangeID: 30, MpID: 2087505303}}})
			token := d.token(t)
			secret := []byte(hex.EncodeToString(janeKey))
			stands := strings.NewReplacer("$TOKEN", token, "$SIGNED", hex.EncodeToString(signature(secret, "jane-key", "1657556824000")),
				"$STRING", hex.EncodeToString(signature(secret, "jane-key", "1657556824001")))
			conn := dial(t, d.Server, "/")
			var out strings.Builder
			for line := range strings.Lines(goldens.Read(t, script+".script")) {
				line = strings.TrimSuffix(line, "\n")
				fmt.Fprintln(&out, line)
				step, isStep := strings.CutPrefix(line, "> ")
				step = stands.Replace(step)
				switch {
				case !isStep:
				case strings.HasPrefix(step, "POST ") || strings.HasPrefix(step, "GET ") || strings.HasPrefix(step, "PUT "):
					parts := strings.SplitN(step, " ", 3)
					bearer := []string{}
					if body, found := strings.CutPrefix(parts[2], "Bearer "); found {
						bearer, parts[2] = []string{"Authorization", "Bearer " + body}, ""
					}
					response, body := request(t, d.Server, parts[0], parts[1], parts[2], bearer...)
					fmt.Fprintf(&out, "< %d %s\n", response.StatusCode, legible(t, body))
				default:
					send(t, conn, step)
					// createSession is answered in order, so what comes before the fence's answer is all.
					send(t, conn, createFrame("fence", -99))
					for got := receive(t, conn); !strings.Contains(got, `"sid":-99`); got = receive(t, conn) {
						fmt.Fprintf(&out, "< %s\n", got)
					}
				}
			}
			goldens.CompareFile(t, script+".golden", []byte(out.String()))
		})
	}
}

var (
	jwtText = regexp.MustCompile(`"token":"([\w-]+)\.([\w-]+)\.[\w-]+"`)
	kidText = regexp.MustCompile(`"kid":"[\w-]{22}"`)
	modulus = regexp.MustCompile(`"n":"[\w-]{342}"`)
)

// legible writes tokens and keys as what they hold.
func legible(t *testing.T, body string) string {
	body = jwtText.ReplaceAllStringFunc(body, func(match string) string {
		parts := jwtText.FindStringSubmatch(match)
		header, err := base64.RawURLEncoding.DecodeString(parts[1])
		must(t, err)
		payload, err := base64.RawURLEncoding.DecodeString(parts[2])
		must(t, err)
		return fmt.Sprintf(`"token":"<%s.%s.signature>"`, header, payload)
	})
	return modulus.ReplaceAllString(kidText.ReplaceAllString(body, `"kid":"<22 characters>"`), `"n":"<256 bytes>"`)
}

// kinds gives an object's fields in their order, with the JSON type of each.
func kinds(t *testing.T, data []byte) (fields []string) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	_, err := d.Token()
	must(t, err)
	for d.More() {
		name, err := d.Token()
		must(t, err)
		value, err := d.Token()
		must(t, err)
		fields = append(fields, fmt.Sprintf("%s %T", name, value))
	}
	return fields
}

// TestPathsWithMoreSlashes asks as clients do whose base URL ends in a slash, or whose path does.
func TestPathsWithMoreSlashes(t *testing.T) {
	d := serve(t, Config{})
	for _, path := range []string{tokenPath, tokenPath + "/", "/" + tokenPath, "/trader-api//auth/token//"} {
		if response, body := request(t, d.Server, "POST", path, `{"email":"`+jane+`","password":"`+password+`"}`); response.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
	}
	for path, want := range map[string]int{jwksPath + "/": 404, "/" + jwksPath + "/": 404, restPrefix: 401, "//trader-api//broker": 401, "/trader-apis": 404} {
		if response, body := request(t, d.Server, "POST", path, `{}`); response.StatusCode != want {
			t.Errorf("POST %s: %d %s", path, response.StatusCode, body)
		}
	}
	if response, body := request(t, d.Server, "GET", jwksPath+"/", ""); response.StatusCode != 200 {
		t.Errorf("the keys: %d %s", response.StatusCode, body)
	}
}

// TestSeedToken compares a token with the one of the venue's page: the same claims in the same order with the same types
// and, for an account like its, the same values; "jti" comes after them.
func TestSeedToken(t *testing.T) {
	d := serve(t, Config{Issuer: "https://trading-master-exberry.eu.auth0.com/", ClientID: "unZc9VTq8WJFs4r4NcuWMLHo2HsFkMMH",
		Accounts: map[session.UserID]Account{janeID: {AccountID: 9, UserID: "5", ExchangeID: 30, MpID: 2087505303}}})
	sample := strings.Split(strings.TrimSpace(goldens.Read(t, "seed.token")), ".")
	ours := strings.Split(d.token(t), ".")
	for part, extra := range map[int]string{0: "", 1: "jti string"} {
		want, err := base64.RawURLEncoding.DecodeString(sample[part])
		must(t, err)
		got, err := base64.RawURLEncoding.DecodeString(ours[part])
		must(t, err)
		wantKinds, gotKinds := kinds(t, want), kinds(t, got)
		if part == 1 {
			if diff := cmp.Diff(append(wantKinds, extra), gotKinds); diff != "" {
				t.Error(diff)
			}
		} else if len(wantKinds) != len(gotKinds) {
			t.Errorf("header: %v, want %v", gotKinds, wantKinds)
		}
		var a, b map[string]any
		must(t, json.Unmarshal(want, &a))
		must(t, json.Unmarshal(got, &b))
		for name, value := range a {
			if name != "sub" && name != "kid" && value != b[name] {
				t.Errorf("%s is %v, want %v", name, b[name], value)
			}
		}
	}
	if len(ours[2]) != len(sample[2]) {
		t.Errorf("a signature of %d characters, want %d", len(ours[2]), len(sample[2]))
	}
}

// TestEveryRefusalHasItsForm walks the domain's refusals and failures through both doors.
func TestEveryRefusalHasItsForm(t *testing.T) {
	d := serve(t, Config{})
	conn := dial(t, d.Server, "/")
	frameErrors := map[string]bool{`"401" 6000 Authentication failed`: true, `"403" 6003 Create session failed`: true,
		`"500" 6003 Create session failed`: true, `"503" 1 System is unavailable`: true}
	replies := map[string]bool{`403 {"code":2,"message":"Wrong email or password"}`: true, `403 {"code":6003,"message":"Create session failed"}`: true,
		`500 {"code":6003,"message":"Create session failed"}`: true, `503 {"code":1,"message":"System is unavailable"}`: true}
	for _, r := range session.Refusals() {
		if _, known := wire[r]; !known {
			t.Errorf("%s stands in no line of the table", r)
		}
		d.gate.set(func() { d.gate.refuse = r })
		response, body := post(t, d.Server, `{"email":"`+jane+`","password":"`+password+`"}`)
		if got := fmt.Sprintf("%d %s", response.StatusCode, body); !replies[got] || response.StatusCode == 503 && response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s", r, got)
		}
		send(t, conn, `{"q":"exchange.market/createSession","sid":1,"d":{"username":"`+jane+`","password":"`+password+`"}}`)
		if got := frameErrorOf(t, receive(t, conn)); !frameErrors[got] {
			t.Errorf("%s: %s", r, got)
		}
	}
	if f := refused(adapters.Refused{Code: 200}); f != &broken {
		t.Errorf("a refusal of tomorrow: %+v", f)
	}
	for _, err := range []error{errAway, adapters.ErrBusy, adapters.ErrUnavailable, context.DeadlineExceeded} {
		d.gate.set(func() { d.gate.refuse, d.gate.away = session.Accepted, err })
		if response, body := post(t, d.Server, `{"email":"x","password":"y"}`); response.StatusCode != 503 || body != `{"code":1,"message":"System is unavailable"}` {
			t.Errorf("%v: %d %s", err, response.StatusCode, body)
		}
		asks(t, conn, `{"q":"exchange.market/createSession","sid":1,"d":{"username":"x","password":"y"}}`,
			`{"sig":2,"q":"exchange.market/createSession","errorType":"503","sid":1,"d":{"errorCode":1,"errorMessage":"System is unavailable"}}`)
	}
}

func frameErrorOf(t *testing.T, text string) string {
	t.Helper()
	var r struct {
		Sig       int
		ErrorType string
		D         frameError
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Sig != 2 {
		t.Fatalf("%v: %s is no error", err, text)
	}
	return fmt.Sprintf("%q %d %s", r.ErrorType, r.D.Code, r.D.Message)
}

// TestSignature holds to the vector of the exchange's documents.
func TestSignature(t *testing.T) {
	const want = "265cfbc40c22355d6c1ecc1f3a1e87e8c46954db9096a7bd6967241dd8bc65b6"
	if got := hex.EncodeToString(signature([]byte("MySecretKey"), "1234567abcdz", "1558941516123")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
