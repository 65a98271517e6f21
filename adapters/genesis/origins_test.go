package genesis

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
)

func TestOrigins(t *testing.T) {
	cfg := quick()
	cfg.AllowedOrigins = []string{"https://app.example.com", "loopback"}
	server, _, _ := serve(t, cfg)
	only := quick()
	only.AllowedOrigins = []string{}
	closed, _, _ := serve(t, only)
	for _, test := range []struct {
		server *httptest.Server
		origin string
		ok     bool
	}{
		{server, "https://app.example.com", true}, {server, "https://APP.example.com", true}, {server, "http://localhost:6060", true},
		{server, "http://[::1]:1", true}, {server, server.URL, true}, {server, "https://app.example.com.evil.com", false},
		{server, "http://app.example.com", false}, {server, "null", false}, {server, "http://localhost.evil.com", false},
		{server, "ftp://localhost", false}, {server, "://", false}, {closed, "http://localhost:6060", false}, {closed, closed.URL, true},
	} {
		for _, method := range []string{"OPTIONS", "GET"} {
			r := ask(t, test.server.Client(), method, test.server.URL+"/gwf//heartbeat-ping", "", "Origin: "+test.origin,
				"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: source_ref")
			got, credentials := r.header.Get("Access-Control-Allow-Origin"), r.header.Get("Access-Control-Allow-Credentials")
			want, wantCredentials := "", ""
			if test.ok {
				want, wantCredentials = test.origin, "true"
			}
			if got != want || credentials != wantCredentials || !slices.Contains(r.header.Values("Vary"), "Origin") {
				t.Errorf("%s from %s: origin %q, credentials %q", method, test.origin, got, credentials)
			}
			if headers := r.header.Get("Access-Control-Allow-Headers"); method == "OPTIONS" &&
				(r.status != 204 || test.ok != (strings.Contains(headers, "session-auth-token") && strings.Contains(headers, "source_ref"))) {
				t.Errorf("preflight from %s: %d %q", test.origin, r.status, headers)
			}
		}
		_, response, err := handshake(test.server, "/gwf/", test.origin, "")
		if (err == nil) != test.ok || !test.ok && response.StatusCode != http.StatusForbidden {
			t.Errorf("socket from %s: %v", test.origin, err)
		}
	}
}

// A name that was made to point to this machine is no reason to believe a page (DNS rebinding), unless it is listed: then
// it is a proxy's.
func TestOwnOriginOverLoopback(t *testing.T) {
	listed := quick()
	listed.AllowedOrigins = []string{"https://app.example.com"}
	proxied, _, _ := serve(t, listed)
	server, _, _ := serve(t, quick())
	for _, test := range []struct {
		server       *httptest.Server
		host, origin string
		ok           bool
	}{
		{server, "evil.example:9064", "http://evil.example:9064", false}, {server, "127.0.0.1.evil.example", "http://127.0.0.1.evil.example", false},
		{server, "app.example.com", "https://app.example.com", false}, {proxied, "app.example.com", "https://app.example.com", true},
		{proxied, "evil.example", "https://evil.example", false}, {proxied, "localhost:9064", "http://localhost:9064", true},
		{proxied, "127.1.2.3:9064", "http://127.1.2.3:9064", true}, {proxied, "[::1]:9064", "http://[::1]:9064", true},
		{proxied, "localhost:9064", "http://localhost:6060", false},
	} {
		request, err := http.NewRequest("GET", test.server.URL+"/heartbeat-ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = test.host
		request.Header.Set("Origin", test.origin)
		response, err := test.server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := response.Header.Get("Access-Control-Allow-Origin") == test.origin; got != test.ok {
			t.Errorf("%s at %s: %v", test.origin, test.host, got)
		}
		conn, response, err := adapterstest.Handshake(test.server, "", http.Header{"Host": {test.host}, "Origin": {test.origin}})
		if (err == nil) != test.ok || !test.ok && response.StatusCode != http.StatusForbidden {
			t.Errorf("socket from %s at %s: %v", test.origin, test.host, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	// Beyond loopback a name has to be believed: nobody can say which ones the service has.
	request := httptest.NewRequest("GET", "/", nil)
	request.Host = "rollbook.example"
	request.Header.Set("Origin", "https://rollbook.example")
	for at, want := range map[string]bool{"192.0.2.1": true, "127.0.0.1": false, "::1": false} {
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(at)})
		if got := adapters.NewOrigins(adapters.OriginRules{}).Permits(request.WithContext(ctx)); got != want {
			t.Errorf("at %s: %v", at, got)
		}
	}
}
