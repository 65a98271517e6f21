package advauth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rollbook/adapters/adapterstest"
)

// bad makes requests that are wrong in some way: by method, by path, by syntax, by type, by size, by credentials.
type bad struct{ adapterstest.Wrong }

func (b bad) path() string {
	path := b.Pick("login/advAuth", "LOGIN/ADVAUTH", "login/advAuth", "Login/advAuth/", "login/advAuthInit", "login", "login", "login/", "login/whoami", "login/advAuth/x", "person/get", "",
		"%2e%2e/login", "login%2fadvAuth", "%ff", "login/advAuth%00", "Help/Api/POST-login-advAuth")
	query := b.Pick("", "", "?", "?Token=", "?Token=x", "?token="+sampleToken, "?Token=hunter2", "?Token="+strings.Repeat("a", 40), "?Token=%zz", "?Token[]=1", "?;;&&==")
	return "/" + b.Pick("", "/", "api/", "API//", "AktionNEXT/API/") + path + query
}

func (b bad) value() string {
	return b.Pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `" "`, `"\ud800"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`,
		`"000102030405060708090a0b0c0d0e0f"`, `"000102030405060708090a0b0c0d0e0"`, `"John.Doo"`, `"hDn/LFXIPESM036W+s7VKg"`,
		strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100))
}

var members = []string{"UserLogin", "UserLogin", "userlogin", "RndA", "RndB", "RNDB", "ApiKey", "Result", "X"}

func (b bad) xml() string {
	var body strings.Builder
	body.WriteString(b.Pick("", "", `<?xml version="1.0" encoding="utf-16"?>`, `<?xml version="1.0" encoding="koi8-r"?>`, "<!DOCTYPE Request>", "x") +
		b.Pick("<Request>", "<Request xmlns='urn:x'>", "<Response>", "<x:Request>", "<Request xmlns:xsd='a' a='b' a='c'>"))
	for range b.IntN(6) {
		name := b.Pick(members...)
		fmt.Fprintf(&body, "<%s>%s</%s>", name, b.Pick(strings.Trim(b.value(), `"[]{}`), "<a/>", "&amp;", "&x;", "<![CDATA[x]]>", "<!-- -->", "\x01"), name)
	}
	return body.String() + b.Pick("</Request>", "</Request>", "</Response>", "", "</Request>x")
}

func (b bad) body() string {
	switch b.IntN(4) {
	case 0: // well-formed, and wrong
		return fmt.Sprintf(`{"UserLogin":%q,"ApiKey":%s,"RndA":"%032x","RndB":"%016x%016x"}`, b.Pick(sampleLogin, "nobody", "keyless", "a b"), b.value(),
			b.Uint64(), b.Uint64(), b.Uint64())
	case 1:
		return fmt.Sprintf(`<Request><UserLogin>%s</UserLogin><ApiKey>%x</ApiKey><RndB>%016X%016X</RndB></Request>`, b.Pick(sampleLogin, "nobody"), b.Uint64(),
			b.Uint64(), b.Uint64())
	}
	text := b.Object(b.value, members...)
	if b.IntN(2) == 0 {
		text = b.xml()
	}
	return b.Spoil(text, "\xff\xfe"+text, strings.Repeat("<a>", 5000), strings.Repeat("z", 40000))
}

func (b bad) headers() []string {
	headers := []string{"Content-Type: " + b.Pick("application/json", "application/json", "text/xml", "application/xml", "text/xml; charset=utf-16", "text/plain", "",
		"application/json; charset=\"", "x", "multipart/form-data; boundary=x", "application/json, text/xml")}
	for _, header := range []string{"Accept: text/xml", "Accept: */*;q=x", "Accept: " + strings.Repeat("a/b,", 500), "Authorization: hunter2", "Token: hunter2",
		"Expect: 100-continue", "Content-Encoding: gzip"} {
		if b.IntN(4) == 0 {
			headers = append(headers, header)
		}
	}
	return headers
}

// TestMalformedCalls: whatever comes, the reply is one of the documented ones, quickly, and holds no secret; and nothing is
// kept of it.
func TestMalformedCalls(t *testing.T) {
	for _, profile := range []Profile{HMAC, DESFire} {
		cfg := sample()
		cfg.Profile = profile
		server, gate := serve(t, cfg)
		b := bad{adapterstest.NewWrong(2018, uint64(profile))}
		const challenge = "a challenge" // is anybody's
		run := adapterstest.Malformed{Requests: 1500, Growth: 4 << 20, Documented: append([]string{challenge}, documented...)}
		counts := run.Run(t, func(int) adapterstest.Answer {
			method, path, body, headers := b.Pick("POST", "POST", "POST", "POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"), b.path(), b.body(), b.headers()
			s := ask(t, server, method, strings.ReplaceAll(path, "%zz", "%25zz"), body, headers...)
			a := adapterstest.Answer{Asked: fmt.Sprintf("%s %s %q %.200q", method, path, headers, body), Status: s.status, Reply: s.raw}
			switch {
			case s.status == 200 && s.RndB != "" && s.Token == "":
				a.Kind = challenge
			case s.status != 200 && s.Message != "" && s.header.Get(proofHeader) == "":
				a.Kind = fmt.Sprintf("%d/%d", s.status, s.Code)
			}
			return a
		})
		for _, some := range []string{"400/1002", "401/1000", "401/1003", "405/0", "415/0"} {
			if counts[some] < 10 {
				t.Errorf("%d refusals are %s: %v", counts[some], some, counts)
			}
		}
		if len(gate.live) != 0 {
			t.Errorf("%d sessions", len(gate.live))
		}
	}
}

// TestSlowBody: a body that never ends is answered too, whether it is wanted or not.
func TestSlowBody(t *testing.T) {
	cfg := sample()
	cfg.CallTimeout = 100 * time.Millisecond
	server, _ := serve(t, cfg)
	for request, want := range map[string]string{"POST /login/advAuth": "400", "PUT /login/advAuth": "405", "POST /no-such": "400", "GET /login/whoami": "400"} {
		raw := adapterstest.Raw(t, server, request+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n<Request>")
		if !strings.HasPrefix(raw, "HTTP/1.1 "+want) {
			t.Errorf("%s: %q", request, raw)
		}
	}
}
