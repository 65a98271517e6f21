package traderevolution

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// TestEveryRefusalIsMapped walks all refusals through the table and through each call that can be refused.
func TestEveryRefusalIsMapped(t *testing.T) {
	t.Parallel()
	if len(wire) != len(session.Refusals()) {
		t.Errorf("%d refusals are mapped, there are %d", len(wire), len(session.Refusals()))
	}
	h := newHouse(t, nil)
	gate := &bent{Gate: h.gate(nil)}
	cfg := free()
	c := newClient(t, cfg, gate)
	cfg.StandardStatus = true
	standard := newClient(t, cfg, gate)
	admin := c.login("admin", "secret")
	vendor := append([]int{http.StatusInternalServerError}, documented...)
	for _, refusal := range session.Refusals() {
		f, mapped := wire[refusal]
		if !mapped || codes[f.code] == "" || !slices.Contains(vendor, f.status) {
			t.Errorf("%s is not mapped: %+v", refusal, f)
		}
		gate.refuse = refusal
		for call, want := range map[string]fault{
			`POST /auth/token {"login":"demo","password":"pw"}`:     f,
			`GET /auth/token/refresh`:                               f,
			`POST /external/token/verify {"token":"x"}`:             special(refusal, f, session.InvalidToken, fault{}),
			`GET /connectors/settings`:                              f,
			`PATCH /connectors/settings {"accessTokenLifeTime":10}`: special(refusal, f, session.InvalidCommand, *fieldWhole.fault(outOfRange)),
			`POST /external/token`:                                  special(refusal, f, session.Disabled, badToken),
			`POST /external/token {"login":"demo"}`:                 special(refusal, f, session.Disabled, *fieldLogin.fault(unknown)),
		} {
			parts := strings.SplitN(call+"  ", " ", 3)
			headers := []string{as(admin.AccessToken), "token: x"}
			r, s := c.ask(parts[0], parts[1], strings.TrimSpace(parts[2]), headers...), standard.ask(parts[0], parts[1], strings.TrimSpace(parts[2]), headers...)
			if want.code == "" {
				if r.status != http.StatusOK || r.IsValid || !r.IsExpired {
					t.Errorf("%s, %s: %d %s", call, refusal, r.status, r.raw)
				}
				continue
			}
			wantStandard := want.standard
			if wantStandard == 0 {
				wantStandard = want.status
			}
			if r.status != want.status || s.status != wantStandard || fmt.Sprint(r.Errors) != "["+string(want.code)+"]" || fmt.Sprint(s.Errors) != fmt.Sprint(r.Errors) {
				t.Errorf("%s, %s: %d %s, %d %s", call, refusal, r.status, r.raw, s.status, s.raw)
			}
			if (r.Incident != "") != (want.code == codeInternal) || (r.header.Get("WWW-Authenticate") != "") != (r.status == 401) {
				t.Errorf("%s, %s: %s %v", call, refusal, r.raw, r.header)
			}
		}
	}
	gate.refuse = session.Accepted
	for _, away := range []error{adapters.ErrUnavailable, fmt.Errorf("login: %w", adapters.ErrBusy)} {
		gate.away = away
		r := c.ask("POST", "/auth/token", `{"login":"demo","password":"pw"}`)
		if r.code() != "Internal Server Error 99.3.0.1" || r.header.Get("Retry-After") != "1" {
			t.Errorf("%v: %d %s", away, r.status, r.raw)
		}
	}
}

func special(refusal session.Refusal, usual fault, of session.Refusal, then fault) fault {
	if refusal == of {
		return then
	}
	return usual
}

// TestEveryCodeIsExplained: what a reply may hold, GET /methods/errors knows, and in different words.
func TestEveryCodeIsExplained(t *testing.T) {
	t.Parallel()
	c := newHouse(t, nil).pod()
	token := c.login("demo", "pw").AccessToken
	seen := map[string]code{}
	for id, text := range codes {
		r := c.ask("GET", "/methods/errors?errorId="+string(id), "", as(token))
		if r.code() != "" || r.Description != text || text == "" {
			t.Errorf("%s: %s", id, r.raw)
		}
		if other, twice := seen[text]; twice {
			t.Errorf("%s and %s are both %q", id, other, text)
		}
		seen[text] = id
	}
}

// TestNothingSecretIsLogged: a log at its most talkative holds no password and no token, of calls that succeed and fail.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	gate := &bent{Gate: newHouse(t, nil).gate(nil)}
	c := newClient(t, free(), gate)
	c.server.Config.Handler = New(free(), gate, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	secrets := []string{"secret", "hunter2"}
	p := c.login("admin", "secret")
	for _, refuse := range []session.Refusal{session.Accepted, session.InvalidCommand, session.WrongCredentials} {
		gate.refuse = refuse
		for _, away := range []error{nil, adapters.ErrUnavailable, adapters.ErrBusy} {
			gate.away = away
			made := c.ask("POST", "/external/token", "", as(p.AccessToken)).Token
			secrets = append(secrets, made, p.AccessToken, p.RefreshToken)
			c.verify(made)
			c.ask("POST", "/auth/token", `{"login":"admin","password":"hunter2"}`)
			c.ask("PATCH", "/connectors/settings", `{"accessTokenLifeTime":299}`, as(p.AccessToken))
			if r := c.refresh(p.RefreshToken); r.code() == "" {
				p = r.pair
			}
		}
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(log.String(), secret) {
			t.Errorf("the log holds a secret:\n%s", log.String())
		}
	}
	if !strings.Contains(log.String(), "incident=") || !strings.Contains(log.String(), "one_time=30s") {
		t.Errorf("the log does not say what an operator needs:\n%s", log.String())
	}
}

// TestPace: a burst, then the rate, a caller apart from the others, and nobody is remembered for longer than needed.
func TestPace(t *testing.T) {
	t.Parallel()
	p, now := newPace(10), time.Unix(1000, 0)
	one, two := caller("192.0.2.1:5"), caller("[2001:db8::1]:5")
	if caller("[2001:db8::ffff]:9") != two || caller("[::ffff:192.0.2.1]:7") != one || caller("[2001:db8:0:1::1]:5") == two || caller("pipe") != (netip.Addr{}) {
		t.Error("who counts as one caller")
	}
	for range 20 {
		if p.wait(now, one) != 0 {
			t.Fatal("the burst is cut short")
		}
	}
	if got := p.wait(now, one); got != 100*time.Millisecond {
		t.Errorf("after the burst: %s", got)
	}
	if p.wait(now, two) != 0 {
		t.Error("one caller slows another")
	}
	if now = now.Add(100 * time.Millisecond); p.wait(now, one) != 0 || p.wait(now, one) == 0 {
		t.Error("the rate is not kept")
	}
	if now = now.Add(time.Hour); p.wait(now, two) != 0 || len(p.full) != 1 {
		t.Errorf("%d callers are remembered", len(p.full))
	}
	for i := range maxCallers + 10 {
		p.wait(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(p.full) != maxCallers {
		t.Errorf("%d callers are remembered", len(p.full))
	}
	if newPace(-1).wait(now, one) != 0 {
		t.Error("no limit is one")
	}
}

// TestTooFast: the reply of the venue, with when to come back.
func TestTooFast(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	now := time.Unix(1000, 0)
	cfg.CallRate, cfg.Now = 5, func() time.Time { return now }
	c := newClient(t, cfg, newHouse(t, nil).gate(nil))
	for i := range 12 {
		r := c.ask("GET", "/users", "")
		if want := "Unauthorized 1.1.1.11"; i < 10 && r.code() != want {
			t.Errorf("call %d: %s", i, r.raw)
		}
		if i >= 10 && (r.code() != "Too Many Requests 2.147.1.27" || r.header.Get("Retry-After") != "1") {
			t.Errorf("call %d: %d %s %v", i, r.status, r.raw, r.header)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{BasePath: "x"}, {BasePath: "/x/"}, {BasePath: "/"}, {BasePath: "//x"}, {MaxBody: -1}, {CallTimeout: -1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
	d := DefaultConfig()
	if err := d.Validate(); err != nil || d.BasePath != "/proftrading/rest" || d.MaxBody != 16384 || d.CallTimeout != 10*time.Second || d.CallRate != 200 {
		t.Errorf("%v %+v", err, d)
	}
	other := Config{BasePath: "/bo"}.withDefaults()
	if other.route("/bo/auth/token") != "/auth/token" || other.route("/auth/token") != "/auth/token" || other.route("/box/auth") != "/box/auth" {
		t.Error("another base path")
	}
}
