package traderevolution

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"rollbook/adapters/adapterstest"
)

// bad makes requests that are wrong in some way: by method, by path, by syntax, by type, by size, by credentials.
type bad struct{ adapterstest.Wrong }

func (b bad) path() string {
	return "/" + b.Pick("", "", "/", "x/") + b.Pick("auth/token", "auth/token", "auth/token/refresh", "auth/pfixtoken/verify", "external/token/verify", "external/token/verify",
		"external/token", "connectors/settings", "methods/errors", "methods/errors?errorId=%00", "methods/errors?errorId=1;2", "users", "", "%2e%2e/x", "%ff", "auth/token?login=demo",
		strings.Repeat("a/", 500), "auth/token/refresh?token=hunter2")
}

func (b bad) value() string {
	return b.Pick(`null`, `7`, `-1e999`, `1.5`, `true`, `[]`, `{}`, `"x"`, `"hunter2"`, `""`, `"\ud800"`, `"`+strings.Repeat("y", 1+b.IntN(2000))+`"`, `[[["a"]]]`,
		`{"login":"demo"}`, strings.Repeat(`[`, 5000)+strings.Repeat(`]`, 5000), `99999999999999999999`, `"demo"`)
}

func (b bad) body() string {
	return b.Spoil(b.Object(b.value, "login", "login", "password", "password", "token", "link", "accessTokenLifeTime", "Login", "x"),
		strings.Repeat(" ", 17000), "login=demo&password=hunter2")
}

func (b bad) headers() []string {
	var headers []string
	for _, name := range []string{"Authorization", "Authorization", "token", "token", "Content-Type", "If-None-Match", "Range", "Cookie"} {
		if b.IntN(3) == 0 {
			headers = append(headers, name+": "+b.Pick("x", "null", "", "hunter2", "Bearer", "Bearer hunter2", "Bearer \xff\xfe", "Basic ZGVtbzpwdw==", strings.Repeat("z", 3000), "application/json", "text/plain; ="))
		}
	}
	if b.IntN(10) == 0 {
		headers = append(headers, "Expect: 100-continue") // of any other the server itself says 417
	}
	return headers
}

// documented are the statuses of the vendor's list, and 429 that its clients have seen.
var documented = []int{400, 401, 404, 405, 406, 429}

// TestMalformedRequests: each is refused as documented or told that its token is not valid, nothing it presents comes
// back, and nothing of it stays in memory.
func TestMalformedRequests(t *testing.T) {
	c := newHouse(t, nil).pod()
	b := bad{adapterstest.NewWrong(2026, 1122)}
	run := adapterstest.Malformed{Requests: 2000, WarmUp: 500, Growth: 10 << 20, Documented: []string{"not valid"}}
	for _, status := range documented {
		run.Documented = append(run.Documented, fmt.Sprint(status, " explained"))
		run.Documented = append(run.Documented, fmt.Sprint(status, " to HEAD"))
	}
	counts := run.Run(t, func(int) adapterstest.Answer {
		method, path, body, headers := b.Pick("POST", "POST", "POST", "GET", "GET", "PATCH", "PUT", "DELETE", "OPTIONS", "BREW", "HEAD"), b.path(), b.body(), b.headers()
		r := c.ask(method, path, body, headers...)
		kind := fmt.Sprint(r.status)
		switch {
		case r.status == http.StatusOK && (r.raw == `{"isValid":false,"isExpired":true}`+"\n" || r.raw == `{"isExpired":true}`+"\n"):
			kind = "not valid"
		case len(r.Errors) == 1 && codes[code(r.Errors[0])] != "" && r.Incident == "":
			kind += " explained"
		case method == "HEAD":
			kind += " to HEAD"
		}
		return adapterstest.Answer{Asked: fmt.Sprintf("%s %.60s %.80q %.100q", method, path, headers, body), Status: r.status, Kind: kind, Reply: r.raw}
	})
	for _, some := range []string{"400 explained", "401 explained", "405 explained"} {
		if counts[some] < 100 {
			t.Errorf("%d answers are %s: %v", counts[some], some, counts)
		}
	}
	if c.login("ann", "pw").AccessToken == "" {
		t.Error("the service is not well")
	}
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	c := newHouse(t, nil).pod()
	token := c.login("demo", "pw").AccessToken
	for _, size := range []int{16 << 10, 1 << 20, 3 << 20} {
		for _, call := range []string{"POST /auth/token", "GET /auth/token/refresh", "POST /external/token"} {
			method, path, _ := strings.Cut(call, " ")
			if r := c.ask(method, path, `{"login":"`+strings.Repeat("x", size)+`"}`, as(token)); r.code() != "Bad Request 99.0.1.3" {
				t.Errorf("%d bytes to %s: %d %s", size, call, r.status, r.raw)
			}
		}
	}
	if r := c.ask("POST", "/auth/token", `{"login":"demo","password":"pw"`+strings.Repeat(" ", 16000)+`}`); r.code() != "" {
		t.Errorf("almost 16 KiB: %s", r.raw)
	}
}

// TestSlowBodies: a body that never ends is answered too, whatever is asked, also by a caller who asks too often.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	cfg := free()
	cfg.CallTimeout = 100 * time.Millisecond
	g := h.gate(nil)
	patient := newClient(t, cfg, g)
	cfg.CallRate, cfg.Now = 1, func() time.Time { return time.Unix(0, 0) } // its allowance never comes back
	busy := newClient(t, cfg, g)
	for range 2 {
		busy.ask("GET", "/auth/token", "")
	}
	for request, want := range map[string]string{"POST /auth/token": "99.0.1.4", "GET /auth/token/refresh": "99.0.1.4", "PUT /auth/token": "99.0.2.1", "GET /users": "1.1.1.11"} {
		text := request + " HTTP/1.1\nHost: x\nContent-Length: 100\n"
		if response, body := adapterstest.Exchange(t, patient.server, text); !strings.Contains(body, `"`+want+`"`) {
			t.Errorf("%s: %d %s", request, response.StatusCode, body)
		}
		if response, body := adapterstest.Exchange(t, busy.server, text); response.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s, too often: %d %s", request, response.StatusCode, body)
		}
	}
}

// FuzzDecodeObject holds the decoder to JSON's own rules, and the members to their bounds.
func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{`{"login":"demo","password":"pw"}`, `{"token":"x","token":7}`, `{"accessTokenLifeTime":300,"x":null}`, `{"Login":"x"}`, `[]`, `null`, ``, ` {} `,
		`{"link":"https://b.example/?a=b"}`, `{"a":1e999}`, `{"login":"\ud800"}`, "\ufeff{}", `{"login":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, bad := decodeObject(data)
		if (o == nil) == (bad == nil) {
			t.Fatalf("object %v, fault %v", o, bad)
		}
		if bad != nil {
			if *bad != notJSON {
				t.Fatalf("%+v", bad)
			}
			return
		}
		if len(data) > 0 && (!json.Valid(data) || !utf8.Valid(data)) {
			t.Fatalf("%q is not JSON", data)
		}
		for f := range fieldsEnd {
			text, bad := o.text(f, 10)
			if bad == nil && (len(text) > 10 || !utf8.ValidString(text)) || bad != nil && (text == "" && bad.code != f.code(wrongType) || codes[bad.code] == "") {
				t.Fatalf("%s is %q, %+v", f.member(), text, bad)
			}
			if n, bad := member[int64](o, f); bad == nil && n != 0 && !strings.Contains(string(o[f.member()]), fmt.Sprint(n)) {
				t.Fatalf("%s is %d of %s", f.member(), n, o[f.member()])
			}
		}
	})
}

// FuzzBearer: a token is what stands after the scheme, in one piece, or nothing.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer x", "bearer  y ", "Bearer", "Bearer a b", "Basic x", "", "Bearer a,b", strings.Repeat("Bearer ", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token := bearer(http.Header{"Authorization": {value}})
		if token != "" && (strings.ContainsAny(token, " ,") || !strings.HasPrefix(strings.ToLower(value), "bearer ") || !strings.HasSuffix(strings.TrimRight(value, " "), token)) {
			t.Fatalf("%q of %q", token, value)
		}
		if bearer(http.Header{"Authorization": {value, value}}) != "" {
			t.Fatal("two headers")
		}
	})
}

// FuzzLink: a link with a token is the link, with one token more.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{"https://b.example/page?x=1#y", "http://b", "https://b.example/?token=x", "//b/x", "https://b?%zz", "https://u:p@b:1/?a&a", "", "ftp://x", "https://b/?tok%65n=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := parseLink(text)
		if !ok || text == "" {
			return
		}
		before, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		after, err := url.Parse(l.with("secret-token_1"))
		if err != nil {
			t.Fatal(err)
		}
		query := after.Query()
		if !slices.Equal(query["token"], []string{"secret-token_1"}) || after.Host != before.Host || after.Scheme != before.Scheme || after.Path != before.Path || after.Fragment != before.Fragment {
			t.Fatalf("%q became %q", text, after)
		}
		query.Del("token")
		if query.Encode() != before.Query().Encode() {
			t.Fatalf("%q became %q", text, after)
		}
	})
}

// FuzzRoute: whatever the path, it names one place, with or without the base path.
func FuzzRoute(f *testing.F) {
	for _, seed := range []string{"/auth/token", "/proftrading/rest/auth/token/", "//proftrading//rest", "/proftrading/restx", "/proftrading/rest/proftrading/rest/x", ""} {
		f.Add(seed)
	}
	cfg := DefaultConfig()
	f.Fuzz(func(t *testing.T, path string) {
		clean := "/" + strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
		if at := cfg.route(path); at != clean && cfg.BasePath+at != clean {
			t.Fatalf("%q is at %q", path, at)
		}
		if at := cfg.route(cfg.BasePath + "/" + path); at != strings.TrimSuffix(clean, "/") {
			t.Fatalf("%q is at %q below the base path", path, at)
		}
	})
}
