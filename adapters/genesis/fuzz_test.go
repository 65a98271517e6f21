package genesis

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequestHead reads what a request gives before its body: which call the path names, and the fields of header and
// query, in either spelling.
func FuzzRequestHead(f *testing.F) {
	f.Add("/gwf/event-login-auth", "SESSION_AUTH_TOKEN", "undefined", "DETAILS[FEATURE]=X")
	f.Add("//SM//EVENT_LOGIN_DETAILS/", "session-id", " x ", "a;b&DETAILS%5BFEATURE%5D=%zz")
	f.Add("/gwf/gwf/x", "Source_Ref", strings.Repeat("ü", maxRef+1), "")
	f.Add("/", "REFRESH-AUTH-TOKEN", "null", "DETAILS[FEATURE]=&DETAILS[FEATURE]=Y")
	f.Add("", "User-Name", "\xff\x00", "?")
	f.Fuzz(func(t *testing.T, path, field, value, rawQuery string) {
		at := route(path)
		if strings.ContainsAny(at, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") || strings.Contains(at, "//") || strings.HasPrefix(at, "/") || strings.HasSuffix(at, "/") {
			t.Fatalf("%q is the call %q", path, at)
		}
		want := route("/GWF//" + path) // of which one prefix is taken
		if first, rest, _ := strings.Cut(want, "/"); first == "gwf" || first == "sm" {
			want = rest
		}
		if at != want {
			t.Fatalf("%q is the call %q, and should be %q", path, at, want)
		}
		if calls[at].answer != nil && !slices.Contains(strings.Split(canonical(path), "/"), at) {
			t.Fatalf("%q is served as %q", path, at)
		}
		query, err := url.ParseQuery(rawQuery)
		if err != nil {
			query = url.Values{}
		}
		c, header := &call{}, http.Header{}
		header.Set(field, value)
		if fault := c.readHeader(header, query); fault != nil {
			if !slices.Contains(documentedCodes, fault.code) || utf8.RuneCountInString(value) <= maxRef {
				t.Fatalf("%s: %q: %+v", field, value, fault)
			}
			return
		}
		for _, token := range []string{c.access, c.refresh, c.handle} {
			if token != "" && (token != strings.TrimSpace(value) || token == "null" || token == "undefined") {
				t.Fatalf("%s: %q is the token %q", field, value, token)
			}
		}
		if utf8.RuneCountInString(c.ref) > maxRef || !utf8.ValidString(c.ref) || c.feature != query.Get("DETAILS[FEATURE]") || c.user != "" && c.user != value {
			t.Fatalf("%s: %q with %q is read as %+v", field, value, rawQuery, c)
		}
		if name := http.CanonicalHeaderKey(field); (name == "User-Name" || name == "User_name") && c.user != value {
			t.Fatalf("%s: %q is not the user", field, value)
		}
	})
}

// origin is one as browsers write it (RFC 6454, 6.2).
var origin = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?$`)

// FuzzOrigin judges any header Origin before a service that may be called from one page and from this machine: the reply
// names the origin as it came, or none, and no origin that a browser would write passes but those.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{"https://app.example.com", "http://localhost:6060", "http://[::1]:1", "http://127.0.0.2", "https://venue.example", "null", "",
		"https://app.example.com.evil.com", "http://localhost.evil.com", "ftp://localhost", "://", "https://u@localhost/x", "http://[::1%25x]"} {
		f.Add(seed)
	}
	cfg := quick()
	cfg.AllowedOrigins = []string{"https://app.example.com", "loopback"}
	h := New(cfg, nil, slog.New(slog.DiscardHandler)) // a preflight asks no gate
	machine := regexp.MustCompile(`^https?://(localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[[0:]+:0*1\]|\[[0:]*:ffff:.*\])(:|$)`)
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("OPTIONS", "http://venue.example/event-login-auth", nil)
		r.Header.Set("Origin", text)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		allowed := w.Header().Get("Access-Control-Allow-Origin")
		if w.Code != http.StatusNoContent || allowed != "" && allowed != text || !slices.Contains(w.Header().Values("Vary"), "Origin") {
			t.Fatalf("from %q: %d, allowed %q", text, w.Code, allowed)
		}
		if (w.Header().Get("Access-Control-Allow-Credentials") == "true") != (allowed != "") || (w.Header().Get("Access-Control-Allow-Headers") != "") != (allowed != "") {
			t.Fatalf("from %q: allowed %q, and half of the rest: %v", text, allowed, w.Header())
		}
		known := text == "https://app.example.com" || strings.HasSuffix(text, "://venue.example") || machine.MatchString(text)
		if origin.MatchString(text) && allowed != "" && !known {
			t.Fatalf("%q may call", text)
		}
		if allowed == "" && (text == "https://app.example.com" || text == "https://venue.example" || text == "http://localhost") {
			t.Fatalf("%q may not call", text)
		}
	})
}
