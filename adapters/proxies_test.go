package adapters_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rollbook/adapters"
)

// TestProxies: the address is the right-most that no trusted proxy has, however the client lies to its left.
func TestProxies(t *testing.T) {
	for _, c := range []struct {
		what, header, peer string
		lines              []string
		want               string
	}{
		{"no header", adapters.XForwardedFor, "10.0.0.1:99", nil, "10.0.0.1"},
		{"one proxy", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7"}, "203.0.113.7"},
		{"a stranger's word", adapters.XForwardedFor, "198.51.100.1:99", []string{"203.0.113.7"}, "198.51.100.1"},
		{"a client that lies", adapters.XForwardedFor, "10.0.0.1:99", []string{"1.1.1.1, 10.0.0.9, 203.0.113.7"}, "203.0.113.7"},
		{"a client that lies on a line of its own", adapters.XForwardedFor, "10.0.0.1:99", []string{"1.1.1.1", "203.0.113.7"}, "203.0.113.7"},
		{"two proxies", adapters.XForwardedFor, "10.0.0.1:99", []string{"1.1.1.1, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"two proxies on two lines", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		{"one proxy by its address", adapters.XForwardedFor, "192.0.2.5:99", []string{"203.0.113.7"}, "203.0.113.7"},
		{"its neighbour", adapters.XForwardedFor, "192.0.2.6:99", []string{"203.0.113.7"}, "192.0.2.6"},
		{"a client within", adapters.XForwardedFor, "10.0.0.1:99", []string{"10.7.7.7"}, "10.7.7.7"},
		{"IPv6", adapters.XForwardedFor, "[fd00::1]:99", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 in brackets", adapters.XForwardedFor, "[fd00::1]:99", []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"with a port", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		{"IPv6 with a port", adapters.XForwardedFor, "10.0.0.1:99", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"IPv4 as IPv6", adapters.XForwardedFor, "[::ffff:10.0.0.1]:99", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"a trusted one as IPv6", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		{"a zone", adapters.XForwardedFor, "10.0.0.1:99", []string{"fe80::1%lo"}, "fe80::1"},
		{"no address", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7, unknown"}, "10.0.0.1"},
		{"no address behind a second proxy", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7, <script>, 10.0.0.2"}, "10.0.0.2"},
		{"nothing", adapters.XForwardedFor, "10.0.0.1:99", []string{""}, "10.0.0.1"},
		{"an empty element", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7,"}, "10.0.0.1"},
		{"octal", adapters.XForwardedFor, "10.0.0.1:99", []string{"0313.0.0161.7"}, "10.0.0.1"},
		{"a number", adapters.XForwardedFor, "10.0.0.1:99", []string{"3405803783"}, "10.0.0.1"},
		{"a quote left open", adapters.XForwardedFor, "10.0.0.1:99", []string{`"1.1.1.1, 203.0.113.7`}, "203.0.113.7"},
		{"the other header", adapters.XForwardedFor, "10.0.0.1:99", []string{"Forwarded: for=203.0.113.7"}, "10.0.0.1"},
		{"not TCP", adapters.XForwardedFor, "@", []string{"203.0.113.7"}, "invalid IP"},

		{"one proxy", adapters.Forwarded, "10.0.0.1:99", []string{"for=203.0.113.7"}, "203.0.113.7"},
		{"all that RFC 7239 has", adapters.Forwarded, "10.0.0.1:99", []string{`for=1.1.1.1, FOR="[2001:db8:cafe::17]:4711";proto=https; by=10.0.0.1`}, "2001:db8:cafe::17"},
		{"an obfuscated one", adapters.Forwarded, "10.0.0.1:99", []string{"for=203.0.113.7, for=_gazonk"}, "10.0.0.1"},
		{"an unknown one", adapters.Forwarded, "10.0.0.1:99", []string{"for=unknown"}, "10.0.0.1"},
		{"no for", adapters.Forwarded, "10.0.0.1:99", []string{"for=203.0.113.7, by=10.0.0.3"}, "10.0.0.1"},
		{"for twice", adapters.Forwarded, "10.0.0.1:99", []string{"for=203.0.113.7;for=1.1.1.1"}, "10.0.0.1"},
		{"a quote left open", adapters.Forwarded, "10.0.0.1:99", []string{`for="1.1.1.1`, "for=203.0.113.7"}, "203.0.113.7"},
		{"a host that lies", adapters.Forwarded, "10.0.0.1:99", []string{`for=203.0.113.7;host="evil, for=6.6.6.6"`}, "203.0.113.7"},
		{"a host that lies with a quote", adapters.Forwarded, "10.0.0.1:99", []string{`for=203.0.113.7;host="evil\", for=6.6.6.6"`}, "203.0.113.7"},
		{"a host that lies with a parameter", adapters.Forwarded, "10.0.0.1:99", []string{`host="x;for=6.6.6.6";for=203.0.113.7`}, "203.0.113.7"},
		{"the other header", adapters.Forwarded, "10.0.0.1:99", []string{"X-Forwarded-For: 203.0.113.7"}, "10.0.0.1"},
		{"hops without end", adapters.XForwardedFor, "10.0.0.1:99", []string{"203.0.113.7" + strings.Repeat(", 10.0.0.2", 500)}, "10.0.0.2"},
	} {
		proxies, err := adapters.NewProxies([]string{"10.0.0.0/8", "192.0.2.5", "fd00::/8"}, c.header)
		must(t, err)
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for _, line := range c.lines {
			name, value, other := strings.Cut(line, ": ")
			if !other || !strings.HasSuffix(strings.ToLower(name), "forwarded") && !strings.HasSuffix(strings.ToLower(name), "for") {
				name, value = c.header, line
			}
			r.Header.Add(name, value)
		}
		var got string
		proxies.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = adapters.OriginOf(r).Address.String() })).ServeHTTP(nil, r)
		if got != c.want {
			t.Errorf("%s, %s: from %s, want %s", c.header, c.what, got, c.want)
		}
		if r.RemoteAddr != c.peer {
			t.Errorf("%s, %s: the server's own request was changed", c.header, c.what)
		}
	}
}

// TestProxiesAreNamedRight: what is no network or no header is refused; nobody is trusted by default.
func TestProxiesAreNamedRight(t *testing.T) {
	for _, wrong := range []string{"", "10.0.0.0/33", "10.0.0.1/8", "proxy.example.com", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.0/8 "} {
		if _, err := adapters.NewProxies([]string{wrong}, adapters.XForwardedFor); err == nil {
			t.Errorf("%q is taken for a network", wrong)
		}
	}
	if _, err := adapters.NewProxies(nil, "x-real-ip"); err == nil {
		t.Error("x-real-ip is taken for a list of hops")
	}
	nobody, err := adapters.NewProxies(nil, adapters.XForwardedFor)
	must(t, err)
	for _, p := range []*adapters.Proxies{nobody, {}} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "203.0.113.7")
		var got string
		p.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = adapters.OriginOf(r).Address.String() })).ServeHTTP(nil, r)
		if got != "127.0.0.1" {
			t.Errorf("nobody is trusted, and the client is at %s", got)
		}
	}
}

// FuzzProxies: whatever a client sends before what the trusted proxy adds, the address is what the proxy added.
func FuzzProxies(f *testing.F) {
	for _, seed := range []string{"", "1.1.1.1", `"`, `\`, `for="`, `for=1.1.1.1;host="a, `, "\x00", strings.Repeat(`"\`, 50), "for=10.0.0.1, ", "[::1"} {
		f.Add(seed)
	}
	plain, _ := adapters.NewProxies([]string{"10.0.0.0/8"}, adapters.XForwardedFor)
	standard, _ := adapters.NewProxies([]string{"10.0.0.0/8"}, adapters.Forwarded)
	f.Fuzz(func(t *testing.T, claim string) {
		for proxies, added := range map[*adapters.Proxies]string{plain: "203.0.113.7", standard: `for="203.0.113.7:80";host="a\", for=6.6.6.6"`} {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = "10.0.0.1:99"
			name := adapters.XForwardedFor
			if proxies == standard {
				name = adapters.Forwarded
			}
			r.Header.Set(name, claim+", "+added)
			var got string
			proxies.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = adapters.OriginOf(r).Address.String() })).ServeHTTP(nil, r)
			if got != "203.0.113.7" {
				t.Errorf("%q has the client at %s", claim, got)
			}
		}
	})
}
