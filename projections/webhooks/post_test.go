package webhooks

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

func secretOf(t *testing.T, key string) Secret {
	t.Helper()
	s, err := ParseSecret("whsec_" + base64.StdEncoding.EncodeToString([]byte(key)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const longKey = "0123456789abcdef0123456789abcdef"

// TestTheSpecificationsExample is the one example with a known answer that the specification's own libraries test with.
func TestTheSpecificationsExample(t *testing.T) {
	secret, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign([]Secret{secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("the signature is %s", got)
	}
	if two := sign([]Secret{secret, secretOf(t, longKey)}, "a", time.Unix(1, 0), nil); strings.Count(two, "v1,") != 2 || strings.Count(two, " ") != 1 {
		t.Errorf("two secrets sign as %s", two)
	}
}

func TestSecrets(t *testing.T) {
	for _, bad := range []string{"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!!!", "whsec_" + strings.Repeat("A", 200)} {
		if _, err := ParseSecret(bad); err == nil {
			t.Errorf("%q is a secret", bad)
		} else if bad != "" && strings.Contains(err.Error(), bad+" ") && bad != "whsec_" {
			t.Errorf("the error shows %q", bad)
		}
	}
	s := secretOf(t, longKey)
	if text := fmt.Sprintf("%v %+v %#v %s", s, s, s, s); strings.Contains(text, "48") || strings.Contains(text, "0123") {
		t.Errorf("a secret prints as %s", text)
	}
}

// TestPublic: what no endpoint should be reached at by mistake, in each of its spellings.
func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "172.32.0.1": true, "100.63.0.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "10.0.0.1": false, "172.16.3.4": false, "192.168.0.1": false, "169.254.169.254": false,
		"fe80::1": false, "fd00::1": false, "0.0.0.0": false, "::": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "198.18.0.1": false,
	} {
		if got := public(netip.MustParseAddr(address).Unmap()); got != want {
			t.Errorf("%s is public: %v", address, got)
		}
	}
}

// post makes one attempt at a server of this test's.
func post(t *testing.T, e Endpoint, handler http.HandlerFunc) outcome {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	if e.URL == "" {
		e.URL = server.URL + "/?token=letmein"
	} else {
		e.URL = strings.Replace(e.URL, "PORT", server.URL[strings.LastIndex(server.URL, ":")+1:], 1)
	}
	p := newPoster(e.withDefaults(), "test")
	defer p.close()
	return p.post(t.Context(), "id", []byte("{}"))
}

func TestPost(t *testing.T) {
	if out := post(t, Endpoint{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }); out.err != nil {
		t.Errorf("status 202: %v", out.err)
	}
	followed := false
	out := post(t, Endpoint{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed = true
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if out.err == nil || followed {
		t.Errorf("a redirect: %v, followed %v", out.err, followed)
	}
	out = post(t, Endpoint{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	if out.err == nil || out.after != 2*time.Minute {
		t.Errorf("Retry-After: %v, %v", out.err, out.after)
	}
	out = post(t, Endpoint{}, func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 { // it is cut off after a part of this
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	if out.err != nil {
		t.Errorf("a long answer: %v", out.err)
	}
	free := make(chan struct{})
	out = post(t, Endpoint{Timeout: 20 * time.Millisecond}, func(http.ResponseWriter, *http.Request) {
		select {
		case <-free:
		case <-time.After(time.Second):
		}
	})
	close(free)
	if out.err == nil || strings.Contains(out.err.Error(), "letmein") {
		t.Errorf("a silent endpoint: %v", out.err)
	}
	// A name that leads to this machine, and is not called so, is not reached.
	out = post(t, Endpoint{URL: "http://0.0.0.0:PORT/?token=letmein"}, func(http.ResponseWriter, *http.Request) { t.Error("a private address is reached") })
	if out.err == nil || strings.Contains(out.err.Error(), "letmein") {
		t.Errorf("a private address: %v", out.err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "x": 0,
		"Sun, 22 Nov 2026 12:01:00 GMT": time.Minute, "Sun, 22 Nov 2026 11:00:00 GMT": 0} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q is %v", text, got)
		}
	}
	turn := &turn{courier: &courier{w: &Couriers{cfg: Config{}.withDefaults()}}}
	for n, most := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 11: 1024 * time.Second, 13: time.Hour, 60: time.Hour, 500: time.Hour} {
		if got := turn.pause(n, 0); got < most/2 || got > most {
			t.Errorf("the pause after %d attempts is %v", n, got)
		}
	}
	if got := turn.pause(1, 10*time.Minute); got != 10*time.Minute {
		t.Errorf("asked for 10m, the pause is %v", got)
	}
	if got := turn.pause(1, 100*time.Hour); got != time.Hour {
		t.Errorf("asked for 100h, the pause is %v", got)
	}
}

func TestEndpoints(t *testing.T) {
	secrets := []Secret{secretOf(t, longKey)}
	sound := Endpoint{Name: "audit", URL: "https://hooks.example.com/x", Secrets: secrets}
	if err := sound.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Endpoint){
		"name":       func(e *Endpoint) { e.Name = "Audit.x" },
		"no name":    func(e *Endpoint) { e.Name = "" },
		"http":       func(e *Endpoint) { e.URL = "http://hooks.example.com/x" },
		"user":       func(e *Endpoint) { e.URL = "https://ann:letmein@hooks.example.com/x" },
		"scheme":     func(e *Endpoint) { e.URL = "file:///etc/passwd" },
		"no host":    func(e *Endpoint) { e.URL = "https:///letmein" },
		"no secret":  func(e *Endpoint) { e.Secrets = nil },
		"three":      func(e *Endpoint) { e.Secrets = []Secret{secrets[0], secrets[0], secrets[0]} },
		"type":       func(e *Endpoint) { e.Types = []session.EventType{"SessionStartet"} },
		"timeout":    func(e *Endpoint) { e.Timeout = time.Hour },
		"too many":   func(e *Endpoint) { e.Parallel = 1000 },
		"unreadable": func(e *Endpoint) { e.URL = "https://letmein\x7f" },
	} {
		e := sound
		change(&e)
		if err := e.Check(); err == nil || strings.Contains(err.Error(), "letmein") {
			t.Errorf("%s: %v", name, err)
		}
	}
	local := sound
	local.URL = "http://127.0.0.1:8080/"
	if err := local.Check(); err != nil {
		t.Error(err)
	}
}

// TestTheID differs when another event stands at the position, as after a restore.
func TestTheID(t *testing.T) {
	at := bus.Position{Partition: 3, Page: 17, Index: 2}
	one, two := idOf(at, []byte("one")), idOf(at, []byte("two"))
	if one == two || !strings.HasPrefix(one, "evt_3_17_2_") || one != idOf(at, []byte("one")) {
		t.Errorf("%s and %s", one, two)
	}
}
