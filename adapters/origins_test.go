package adapters_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"rollbook/adapters"
)

// from is a request of a page; at is the address of this machine that it came over.
func from(t *testing.T, origin, host, at string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = host
	r.Header.Set("Origin", origin)
	return r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(at)}))
}

func TestOriginsPermit(t *testing.T) {
	const host, far, near = "rollbook.example", "192.0.2.1", "127.0.0.1"
	some := []string{"https://App.example.com", "loopback"}
	for _, test := range []struct {
		rules            adapters.OriginRules
		origin, host, at string
		want             bool
	}{
		{adapters.OriginRules{}, "", host, far, true}, {adapters.OriginRules{}, "null", host, far, false},
		{adapters.OriginRules{Allowed: some}, "https://app.example.com", host, far, true},
		{adapters.OriginRules{Allowed: some}, "http://app.example.com", host, far, false},
		{adapters.OriginRules{Allowed: some}, "https://app.example.com.evil.com", host, far, false},
		{adapters.OriginRules{Allowed: some}, "http://[::1]:3000", host, far, true},
		{adapters.OriginRules{Allowed: some}, "ftp://localhost", host, far, false},
		// The service's own host, but not where anybody's name may point (DNS rebinding).
		{adapters.OriginRules{}, "https://rollbook.example", host, far, true},
		{adapters.OriginRules{}, "https://rollbook.example", host, near, false},
		{adapters.OriginRules{}, "http://localhost:1", "localhost:1", near, true},
		// A public venue goes by its list alone.
		{adapters.OriginRules{Public: true}, "https://rollbook.example", host, far, false},
		{adapters.OriginRules{Public: true, Allowed: []string{"*"}}, "https://evil.example", host, near, true},
		{adapters.OriginRules{Public: true, Allowed: []string{"*"}}, "null", host, near, true},
		{adapters.OriginRules{Public: true, Allowed: []string{"https://a.example"}}, "https://A.example", host, near, true},
		{adapters.OriginRules{Allowed: []string{"*"}}, "https://evil.example", host, far, false}, // not valid, and no harm
	} {
		if got := adapters.NewOrigins(test.rules).Permits(from(t, test.origin, test.host, test.at)); got != test.want {
			t.Errorf("%q at %s over %s by %+v: %v", test.origin, test.host, test.at, test.rules, got)
		}
	}
}

func TestMayAct(t *testing.T) {
	o := adapters.NewOrigins(adapters.OriginRules{Allowed: []string{"https://app.example.com"}})
	for _, test := range []struct {
		origin, site string
		want         bool
	}{
		{"", "", true}, {"", "none", true}, {"", "cross-site", false}, {"", "same-site", false}, {"https://evil.example", "same-origin", true},
		{"https://evil.example", "cross-site", false}, {"https://app.example.com", "cross-site", true}, {"https://evil.example", "none", false},
	} {
		r := from(t, test.origin, "rollbook.example", "192.0.2.1")
		if test.site != "" {
			r.Header.Set("Sec-Fetch-Site", test.site)
		}
		if got := o.MayAct(r); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestOriginHeaders(t *testing.T) {
	const origin = "https://app.example.com"
	for _, public := range []bool{false, true} {
		o := adapters.NewOrigins(adapters.OriginRules{Allowed: []string{origin}, Public: public, Headers: "x-one"})
		for _, page := range []string{origin, "https://evil.example", ""} {
			w, r := httptest.NewRecorder(), from(t, page, "rollbook.example", "192.0.2.1")
			o.Allow(w, r)
			o.Preflight(w)
			want := map[string]string{"Vary": "Origin", "Allow": "GET, HEAD, POST, OPTIONS", "Access-Control-Allow-Origin": "",
				"Access-Control-Allow-Credentials": "", "Access-Control-Allow-Headers": "", "Access-Control-Expose-Headers": ""}
			if page == origin {
				want["Access-Control-Allow-Origin"], want["Access-Control-Allow-Headers"] = origin, "x-one"
				want["Access-Control-Expose-Headers"] = "Retry-After"
				if !public {
					want["Access-Control-Allow-Credentials"] = "true"
				}
			}
			for name, value := range want {
				if got := w.Header().Get(name); got != value {
					t.Errorf("public %v, page %q: %s is %q, not %q", public, page, name, got, value)
				}
			}
			if w.Code != http.StatusNoContent {
				t.Errorf("status %d", w.Code)
			}
		}
	}
}

func TestOriginRulesAreChecked(t *testing.T) {
	for origin, valid := range map[string][2]bool{ // not public, public
		"https://a.example": {true, true}, "http://a.example:8080": {true, true}, "loopback": {true, false}, "*": {false, true},
		"https://a.example/": {false, false}, "a.example": {false, false}, "https://*.example": {false, false}, "": {false, false},
		"ftp://a.example": {false, false}, "https://a.example/x": {false, false}, "null": {false, false},
	} {
		for i, public := range []bool{false, true} {
			err := adapters.OriginRules{Allowed: []string{origin}, Public: public}.Validate()
			if (err == nil) != valid[i] {
				t.Errorf("%q, public %v: %v", origin, public, err)
			}
		}
	}
}
