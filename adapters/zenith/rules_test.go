package zenith

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// TestEveryRefusal: each refusal of the domain is a Reject, or an error that the venue documents; none is a success.
func TestEveryRefusal(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn := dial(t, server, nil)
	in := logIn(t, conn)
	for _, code := range session.Refusals() {
		v, known := wire[code]
		if !known || v.no() == false || v.rejected == (v.code != "") {
			t.Errorf("%s: %+v", code, v)
		}
		gate.set(func() { gate.refuse = adapters.Refused{Code: code} })
		for _, frame := range []string{loginFrame, tokenFrame("Bearer", in.AccessToken)} {
			r := ask(t, conn, frame)
			if r.AccessToken != "" || (r.Result == "Reject") == (slices.Contains(documented, r.code())) {
				t.Errorf("%s: %s", code, r.raw)
			}
		}
	}
	gate.set(func() { gate.refuse = adapters.Refused{Code: 250} }) // one of a newer engine
	if r := ask(t, conn, loginFrame); r.code() != "Authority.Fault" {
		t.Error(r.raw)
	}
}

// documented are the codes of the venue's Appendix D that this service sends, less what follows a space.
var documented = []string{"Authority", "Controller", "Operation.Unknown", "Operation.NoResult", "Operation.Timeout", "Data", "Data.Deserialise",
	"Limited", "Authority.Unavailable", "Authority.Fault"}

func TestScopes(t *testing.T) {
	h := New(sample(), newFakeGate(t), discard)
	defer h.Shutdown(t.Context())
	list := func(text string) []string { return strings.Fields(text) }
	for _, test := range []struct{ profile, asked, want string }{
		{"", "", "Zenith/Market Zenith/Trading"},
		{"", "Paritech.Zenith", "Paritech.Zenith.Market Paritech.Zenith.Trading"},
		{"", "Zenith", "Zenith/Market Zenith/Trading"},
		{"", "Paritech.Zenith.Market Zenith/Trading", "Paritech.Zenith.Market Zenith/Trading"},
		{"", "Paritech.Zenith.Market.Data Paritech.Zenith.Market.News", "Paritech.Zenith.Market.Data Paritech.Zenith.Market.News"},
		{"", "openid profile roles Zenith/Trading Zenith/Market Zenith/News Zenith/OrderPad MotifSvc/RestAPI", "Zenith/Trading Zenith/Market"},
		{"", "Zenith/Market Zenith/Market Zenith", "Zenith/Market Zenith/Trading"},
		{"", "Zenith/News", ""},
		{"", "Zenith/", ""}, {"", "Zenith/Market/", ""}, {"", "Paritech.Zenith.", ""}, {"", "zenith/market", ""}, {"", "Zenith/*", ""}, {"", "Paritech.ZenithX", ""}, {"", "Zenith/Marketing", ""},
		{"Zenith", "", "Zenith/Market Zenith/News Zenith/Trading Zenith/OrderPad"},
		{"Paritech.Zenith.News Zenith/OrderPad", "Zenith", "Zenith/News Zenith/OrderPad"},
		{"Zenith/Market/Data", "Zenith/Market", "Zenith/Market/Data"},
		{"Zenith/Market/Data", "Paritech.Zenith.Market.News", ""},
		{"trade:read", "", ""}, // rights of another venue alone
	} {
		if got := grantScopes(list(test.asked), h.rights(list(test.profile), false)); strings.Join(got, " ") != test.want || got == nil {
			t.Errorf("%q asks for %q and gets %q", test.profile, test.asked, got)
		}
	}
	h.cfg.TradingOverTLS = true
	for secure, want := range map[bool]string{true: "Zenith/Market Zenith/Trading Zenith/OrderPad/Cancel", false: "Zenith/Market"} {
		if got := grantScopes(nil, h.rights(list("Zenith/Market Zenith/Trading Zenith/OrderPad/Cancel"), secure)); strings.Join(got, " ") != want {
			t.Errorf("secure %v: %q", secure, got)
		}
	}
}

// A user who has lost a right does not get it back by restoring a connection.
func TestScopesFollowTheDirectory(t *testing.T) {
	server, gate, _ := serve(t, sample())
	conn := dial(t, server, nil)
	in := ask(t, conn, strings.Replace(loginFrame, `"Username"`, `"Scope":["Paritech.Zenith"],"Username"`, 1))
	if got := fmt.Sprint(*in.Scope); got != "[Paritech.Zenith.Market Paritech.Zenith.Trading]" {
		t.Fatal(in.raw)
	}
	gate.set(func() { gate.profile.Scopes = []string{"Zenith/Trading", "Zenith/OrderPad"} })
	if r := ask(t, conn, tokenFrame("Bearer", in.AccessToken)); fmt.Sprint(*r.Scope) != "[Paritech.Zenith.Trading]" {
		t.Error(r.raw)
	}
	gate.set(func() { gate.profile = session.Profile{Names: []string{"JaneDee"}, Scopes: []string{"elsewhere"}} })
	if r := ask(t, conn, loginFrame); r.Result != "Success" || r.Scope == nil || len(*r.Scope) != 0 || r.DisplayName != "JaneDee" {
		t.Error(r.raw)
	}
}

func TestPasswordGrants(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	url := base64.RawURLEncoding.EncodeToString
	for _, grant := range []string{b64([]byte("jane:a:b")), url([]byte("jane:a:b")), `{"UserName":"jane","Password":"a:b"}`, ` {"Username":"jane","Password":"a:b"}`,
		b64([]byte(`{"Username":"jane","Password":"a:b"}`))} {
		if l, err := (passwords{}).Understand(t.Context(), grant); err != nil || l.Name != "jane" || l.Password != "a:b" || l.Judge != nil {
			t.Errorf("%s: %+v, %v", grant, l, err)
		}
	}
	for _, grant := range []string{"", "jane:a", "authGrant", b64([]byte("jane")), b64([]byte("jane:")), b64([]byte(":a")), b64([]byte("\xff:a")), `{"UserName":"jane"}`,
		`{"username":"jane","password":"a"}`, `{"UserName":1,"Password":"a"}`, `{`, b64([]byte("{")), b64([]byte(strings.Repeat("j", 257) + ":a")), "am FuZTph"} {
		if l, err := (passwords{}).Understand(t.Context(), grant); err != ErrGrant {
			t.Errorf("%q: %+v, %v", grant, l, err)
		}
	}
}

func TestClientPrograms(t *testing.T) {
	sum := sha256.Sum256([]byte("hush"))
	cfg := sample()
	cfg.Clients = map[string]string{"open": "", "sealed": hex.EncodeToString(sum[:])}
	server, gate, _ := serve(t, cfg)
	conn := dial(t, server, nil)
	for client, want := range map[string]string{`"open"`: "Success", `"open","ClientSecret":"x"`: "Success", `"sealed","ClientSecret":"hush"`: "Success",
		`"sealed","ClientSecret":"hus"`: "Reject", `"sealed"`: "Reject", `"other"`: "Reject"} {
		for _, frame := range []string{loginFrame, `{"Controller":"Auth","Topic":"AuthCode","TransactionID":1,"Data":{"Provider":"Paritech","ClientID":"test","AuthGrant":"authGrant"}}`} {
			if r := ask(t, conn, strings.Replace(frame, `"test"`, client, 1)); r.Result != want {
				t.Errorf("%s: %s", client, r.raw)
			}
		}
	}
	if name := gate.logins[0].Client; name != "open" && name != "sealed" {
		t.Errorf("the book is told of client %q", name)
	}
}

func TestSettings(t *testing.T) {
	cfg := sample()
	cfg.EchoTopic, cfg.SayRejected = true, true
	server, _, _ := serve(t, cfg)
	conn := dial(t, server, nil)
	code := `{"Controller":"Auth","Topic":"AuthCode","TransactionID":1,"Data":{"Provider":"Paritech","ClientID":"test","AuthGrant":"$"}}`
	for grant, want := range map[string]string{"authGrant": "Success", "wrong": "Reject"} {
		if r := ask(t, conn, strings.Replace(code, "$", grant, 1)); r.Topic != "AuthCode" || r.Result != want {
			t.Error(r.raw)
		}
	}
	for _, frame := range []string{tokenFrame("Bearer", "x"), strings.Replace(loginFrame, fakePassword, "wrong", 1)} {
		if r := ask(t, conn, frame); r.Result != "Rejected" {
			t.Error(r.raw)
		}
	}
	for i, broken := range []func(*Config){
		func(c *Config) { c.Directory = []string{"Bearer"} }, func(c *Config) { c.Directory = []string{"Paritech"} }, func(c *Config) { c.Providers[""] = sampleProvider{} },
		func(c *Config) { c.Clients = map[string]string{"x": "12"} }, func(c *Config) { c.Scopes = []string{"Paritech.Zenith.Market"} }, func(c *Config) { c.MaxMessage = -1 },
		func(c *Config) { c.Providers["x"] = nil },
	} {
		c := sample()
		if broken(&c); c.Validate() == nil {
			t.Errorf("configuration %d is taken", i)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{"00:01": time.Minute, "00:00:35": 35 * time.Second, "1.02:03:04.5": 26*time.Hour + 3*time.Minute + 4*time.Second + 500*time.Millisecond,
		"00:00:00.0000001": 100} {
		got, ok := parseTime(text)
		if back, _ := parseTime(formatTime(got)); !ok || got != want || back != want {
			t.Errorf("%s is %s, written %s", text, got, formatTime(got))
		}
	}
	for _, text := range []string{"", "1", "24:00", "00:60", "00:00:60", "-00:01", "00:01:00.", "00:01:00.1234567890", "99999.00:00", " 00:01"} {
		if d, ok := parseTime(text); ok {
			t.Errorf("%q is taken for %s", text, d)
		}
	}
	for d, want := range map[time.Duration]string{-1: "00:00:00.0000000", 90 * time.Minute: "01:30:00.0000000", 1000 * time.Hour: "99:59:59.9999999", 1500 * time.Millisecond: "00:00:01.5000000"} {
		if got := timeLeft(d); got != want {
			t.Errorf("%s is %s", d, got)
		}
	}
}
