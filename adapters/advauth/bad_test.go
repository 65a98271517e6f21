package advauth

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// bad makes requests that are wrong in some way: by method, by path, by syntax, by type, by size, by credentials.
type bad struct{ *rand.Rand }

func (b bad) pick(of ...string) string { return of[b.IntN(len(of))] }

func (b bad) path() string {
	path := b.pick("login/advAuth", "LOGIN/ADVAUTH", "login/advAuth", "Login/advAuth/", "login/advAuthInit", "login", "login", "login/", "login/whoami", "login/advAuth/x", "person/get", "",
		"%2e%2e/login", "login%2fadvAuth", "%ff", "login/advAuth%00", "Help/Api/POST-login-advAuth")
	query := b.pick("", "", "?", "?Token=", "?Token=x", "?token="+sampleToken, "?Token=hunter2", "?Token="+strings.Repeat("a", 40), "?Token=%zz", "?Token[]=1", "?;;&&==")
	return "/" + b.pick("", "/", "api/", "API//", "AktionNEXT/API/") + path + query
}

func (b bad) value() string {
	return b.pick(`null`, `7`, `-1e999`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `" "`, `"\ud800"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`,
		`"000102030405060708090a0b0c0d0e0f"`, `"000102030405060708090a0b0c0d0e0"`, `"John.Doo"`, `"hDn/LFXIPESM036W+s7VKg"`,
		strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100))
}

func (b bad) member() string {
	return b.pick("UserLogin", "UserLogin", "userlogin", "RndA", "RndB", "RNDB", "ApiKey", "Result", "X")
}

func (b bad) json() string {
	var members []string
	for range b.IntN(6) {
		members = append(members, fmt.Sprintf("%q:%s", b.member(), b.value()))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (b bad) xml() string {
	var body strings.Builder
	body.WriteString(b.pick("", "", `<?xml version="1.0" encoding="utf-16"?>`, `<?xml version="1.0" encoding="koi8-r"?>`, "<!DOCTYPE Request>", "x") +
		b.pick("<Request>", "<Request xmlns='urn:x'>", "<Response>", "<x:Request>", "<Request xmlns:xsd='a' a='b' a='c'>"))
	for range b.IntN(6) {
		name := b.member()
		fmt.Fprintf(&body, "<%s>%s</%s>", name, b.pick(strings.Trim(b.value(), `"[]{}`), "<a/>", "&amp;", "&x;", "<![CDATA[x]]>", "<!-- -->", "\x01"), name)
	}
	return body.String() + b.pick("</Request>", "</Request>", "</Response>", "", "</Request>x")
}

func (b bad) body() string {
	text := b.json()
	if b.IntN(2) == 0 {
		text = b.xml()
	}
	switch b.IntN(8) {
	case 6: // well-formed, and wrong
		return fmt.Sprintf(`{"UserLogin":%q,"ApiKey":%s,"RndA":"%032x","RndB":"%016x%016x"}`, b.pick(sampleLogin, "nobody", "keyless", "a b"), b.value(),
			b.Uint64(), b.Uint64(), b.Uint64())
	case 7:
		return fmt.Sprintf(`<Request><UserLogin>%s</UserLogin><ApiKey>%x</ApiKey><RndB>%016X%016X</RndB></Request>`, b.pick(sampleLogin, "nobody"), b.Uint64(),
			b.Uint64(), b.Uint64())
	case 0:
		return text[:b.IntN(len(text)+1)]
	case 1:
		at := b.IntN(len(text))
		return text[:at] + string(rune(b.IntN(256))) + "\xff" + text[at:]
	case 2:
		return b.pick("[]", "null", "7", text+text, "\ufeff"+text, "\xff\xfe"+text, strings.Repeat("{", 5000), strings.Repeat("<a>", 5000), "\x00", strings.Repeat("z", 40000))
	}
	return text
}

func (b bad) headers() []string {
	headers := []string{"Content-Type: " + b.pick("application/json", "application/json", "text/xml", "application/xml", "text/xml; charset=utf-16", "text/plain", "",
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
		b := bad{rand.New(rand.NewPCG(2018, uint64(profile)))}
		counts := map[string]int{}
		before := heap()
		for i := range 1500 {
			method, path, body, headers := b.pick("POST", "POST", "POST", "POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"), b.path(), b.body(), b.headers()
			what := fmt.Sprintf("request %d: %s %s %q %.200q", i, method, path, headers, body)
			s := ask(t, server, method, strings.ReplaceAll(path, "%zz", "%25zz"), body, headers...)
			if s.status == 200 {
				if s.RndB == "" || s.Token != "" {
					t.Errorf("%s: %s", what, s.raw)
				}
				continue // a challenge is anybody's
			}
			got := fmt.Sprintf("%d/%d", s.status, s.Code)
			if counts[got]++; !slices.Contains(documented, got) || s.Message == "" || s.status >= 500 {
				t.Errorf("%s: %d %s", what, s.status, s.raw)
			}
			if strings.Contains(s.raw, "hunter2") || s.header.Get(proofHeader) != "" {
				t.Errorf("%s: the reply holds what was presented: %s", what, s.raw)
			}
		}
		for _, some := range []string{"400/1002", "401/1000", "401/1003", "405/0", "415/0"} {
			if counts[some] < 10 {
				t.Errorf("%d refusals are %s: %v", counts[some], some, counts)
			}
		}
		if len(gate.live) != 0 {
			t.Errorf("%d sessions", len(gate.live))
		}
		if after := heap(); after > before+4<<20 {
			t.Errorf("the heap grew from %d to %d bytes", before, after)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlowBody: a body that never ends is answered too, whether it is wanted or not.
func TestSlowBody(t *testing.T) {
	cfg := sample()
	cfg.CallTimeout = 100 * time.Millisecond
	server, _ := serve(t, cfg)
	for request, want := range map[string]string{"POST /login/advAuth": "400", "PUT /login/advAuth": "405", "POST /no-such": "400", "GET /login/whoami": "400"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n<Request>")
		raw, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(raw), "HTTP/1.1 "+want) {
			t.Errorf("%s: %v %q", request, err, raw)
		}
		conn.Close()
	}
}
