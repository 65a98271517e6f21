package advauth

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// TestChallengeAndAnswer: the whole exchange, with the server's proof and without, single use, and no longer than it is
// good.
func TestChallengeAndAnswer(t *testing.T) {
	server, gate := serve(t, sample())
	withProof := john()
	withProof.a = &vectorRa
	for _, c := range []client{john(), withProof} {
		challenge := c.challenge(t, server)
		s := ask(t, server, "POST", "/login/advAuth", c.answer(challenge))
		if s.status != 200 || len(s.Token) != 36 || s.ExpireInSec != 20 || strings.Count(s.raw, ":") != 2 {
			t.Fatalf("%d %s", s.status, s.raw)
		}
		proof := s.header.Get(proofHeader)
		if (proof != "") != (c.a != nil) {
			t.Errorf("proof %q", proof)
		}
		if c.a != nil {
			want := HMAC.proof(c.key, challenge, answer{login: c.login, a: *c.a, hasA: true}, s.Token, 20)
			if proof != want.String() {
				t.Errorf("proof %s, want %s", proof, want)
			}
		}
		if s := ask(t, server, "POST", "/login/advAuth", c.answer(challenge)); s.status != 401 || s.Code != 1003 || s.header.Get(proofHeader) != "" {
			t.Errorf("the same answer again: %d %s", s.status, s.raw)
		}
	}
	challenge := john().challenge(t, server)
	gate.set(func() { gate.clock = gate.clock.Add(lifetime) })
	if s := ask(t, server, "POST", "/login/advAuth", john().answer(challenge)); s.status != 200 {
		t.Errorf("after 20 s: %d %s", s.status, s.raw)
	}
	challenge = john().challenge(t, server)
	gate.set(func() { gate.clock = gate.clock.Add(lifetime + slotLength) })
	if s := ask(t, server, "POST", "/login/advAuth", john().answer(challenge)); s.status != 401 {
		t.Errorf("after 30 s: %d %s", s.status, s.raw)
	}
}

// TestDESFireLogin plays a card.
func TestDESFireLogin(t *testing.T) {
	cfg := sample()
	cfg.Profile = DESFire
	server, _ := serve(t, cfg)
	key := keyOf(sampleKey)
	challenge := func(login string) block {
		return hexBlock(ask(t, server, "POST", "/login/advAuthInit", `{"UserLogin":"`+login+`"}`).RndB)
	}
	c0 := challenge(sampleLogin)
	c1 := encrypt(key, c0, vectorRa)
	c2 := encrypt(key, c1, rotateLeft(decrypt(key, block{}, c0)))
	body := fmt.Sprintf(`{"UserLogin":%q,"RndA":%q,"RndB":"%X"}`, sampleLogin, c1, c2[:])
	for _, incomplete := range []string{strings.Replace(body, "RndA", "X", 1), strings.Replace(body, "RndB", "X", 1)} {
		if s := ask(t, server, "POST", "/login/advAuth", incomplete); s.status != 401 || s.header.Get(proofHeader) != "" {
			t.Errorf("half an answer: %d %s", s.status, s.raw)
		}
	}
	s := ask(t, server, "POST", "/login/advAuth", body)
	if s.status != 200 || decrypt(key, c2, hexBlock(s.header.Get(proofHeader))) != rotateLeft(vectorRa) {
		t.Fatalf("%d %s %v", s.status, s.raw, s.header)
	}
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 401 {
		t.Errorf("the same answer again: %d %s", s.status, s.raw)
	}
	if first := challenge("nobody"); challenge(sampleLogin) == c0 || challenge("nobody") == first {
		t.Error("a challenge came twice")
	}
}

// TestOneAnswerForAll: nobody's login, one without a key and a wrong answer get the same reply, and all are submitted;
// with SplitAuthErrors the known login is told, as the venue's page has it.
func TestOneAnswerForAll(t *testing.T) {
	for _, split := range []bool{false, true} {
		cfg := sample()
		cfg.SplitAuthErrors = split
		server, gate := serve(t, cfg)
		wrong := client{sampleLogin, block{1}, nil}
		bodies := []struct{ path, body string }{
			{"/login/advAuth", wrong.answer(wrong.challenge(t, server))},
			{"/login/advAuth", `{"UserLogin":"john.doo","RndA":"` + vectorRa.String() + `"}`},
			{"/login", `{"UserLogin":"John.Doo","ApiKey":"AAAAAAAAAAAAAAAAAAAAAA=="}`},
			{"/login", `{"UserLogin":"John.Doo","ApiKey":"` + strings.TrimRight(sampleKey, "=") + `"}`},
			{"/login", `{"UserLogin":"John.Doo","ApiKey":"no base64"}`},
		}
		known := len(bodies)
		for _, login := range []string{"nobody", "keyless"} {
			c := client{login, block{1}, &vectorRa}
			bodies = append(bodies, struct{ path, body string }{"/login/advAuth", c.answer(c.challenge(t, server))},
				struct{ path, body string }{"/login", `{"UserLogin":"` + login + `","ApiKey":"` + sampleKey + `"}`})
		}
		var first string
		for i, b := range bodies {
			s := ask(t, server, "POST", b.path, b.body)
			if want := map[bool]int{false: 1003, true: 1004}[split && i < known]; s.status != 401 || s.Code != want ||
				s.header.Get("WWW-Authenticate") != `AdvAuth realm="login"` {
				t.Errorf("%s: %d %s", b.body, s.status, s.raw)
			}
			s.header.Del("Date")
			all := fmt.Sprint(s.status, s.header, s.raw)
			if first == "" {
				first = all
			}
			if !split && all != first {
				t.Errorf("%s is told from the first:\n%s\n%s", b.body, all, first)
			}
		}
		for i, c := range gate.judged() {
			want := session.Credential{User: "u-john.doo", Generation: 1, Verdict: session.Mismatched}
			if i >= known {
				want = session.Credential{User: gate.Decoy([]string{"nobody", "keyless"}[(i-known)/2]), Verdict: session.NoSuchUser}
			}
			if c != want {
				t.Errorf("login %d is judged %+v, want %+v", i, c, want)
			}
		}
		if got := len(gate.judged()); got != len(bodies) {
			t.Errorf("%d of %d logins were submitted", got, len(bodies))
		}
	}
}

// TestKeyChanges: when the key changes while an answer is judged, the answer counts by the new key, and its challenge is
// used up by it.
func TestKeyChanges(t *testing.T) {
	server, gate := serve(t, sample())
	fresh := client{login: sampleLogin, key: block{7}}
	body := fresh.answer(fresh.challenge(t, server))
	gate.before = func() { gate.set(func() { gate.keys["u-john.doo"] = fresh.key }) }
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 200 {
		t.Fatalf("with the new key: %d %s", s.status, s.raw)
	}
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 401 {
		t.Errorf("the same answer again: %d %s", s.status, s.raw)
	}
	old := fresh.answer(fresh.challenge(t, server))
	gate.before = func() { gate.set(func() { gate.keys["u-john.doo"] = block{8} }) }
	if s := ask(t, server, "POST", "/login/advAuth", old); s.status != 401 {
		t.Errorf("with the old key: %d %s", s.status, s.raw)
	}
}

func TestPlainLogin(t *testing.T) {
	server, gate := serve(t, sample())
	body := fmt.Sprintf(`{"Result":null,"UserLogin":%q,"ApiKey":%q}`, sampleLogin, sampleKey)
	for range 2 { // nothing in it is good for one use only
		if s := ask(t, server, "POST", "/AktionNEXT/API/login", body); s.status != 200 || len(s.Token) != 36 || s.ExpireInSec != 20 {
			t.Errorf("%d %s", s.status, s.raw)
		}
	}
	if len(gate.nonces) != 0 {
		t.Error("a plain login has a nonce")
	}
	if s := ask(t, server, "POST", "/login", `{"UserLogin":"x"}`); s.status != 400 || s.Code != 1002 || !slices.Equal(s.ModelStateErr, []string{"The ApiKey field is required."}) {
		t.Errorf("without a key: %d %s", s.status, s.raw)
	}
}

// TestSettings: disabled methods, prefixes, dates, the rate of logins.
func TestSettings(t *testing.T) {
	cfg := sample()
	cfg.DisableAdvAuth, cfg.Prefixes = true, []string{"/Venue//x/"}
	server, _ := serve(t, cfg)
	for _, path := range []string{"/login/advAuth", "/login/advAuthInit", "/VENUE/X/LOGIN/ADVAUTH", "//login//advAuth/"} {
		for _, method := range []string{"POST", "GET"} {
			if s := ask(t, server, method, path, "not looked at"); s.status != 403 || s.Code != 1005 || s.Message != "Method disabled by configuration" {
				t.Errorf("%s %s: %d %s", method, path, s.status, s.raw)
			}
		}
	}
	if s := ask(t, server, "POST", "/api/login", ""); s.Code != 1002 || s.ModelStateErr[0] != "The Token field is required." {
		t.Errorf("below a prefix that is not set: %s", s.raw)
	}

	cfg = sample()
	cfg.DisablePlainLogin, cfg.DisabledStatus, cfg.DisabledCode, cfg.ExpireDate, cfg.LoginRate = true, 404, 7, MicrosoftDate, 1
	server, gate := serve(t, cfg)
	if s := ask(t, server, "POST", "/login", "{}"); s.status != 404 || s.Code != 7 {
		t.Errorf("disabled as configured: %d %s", s.status, s.raw)
	}
	if s := john().in(t, server); s.ExpireDate != "/Date(1770202477469)/" || !strings.Contains(s.raw, `"\/Date(1770202477469)\/"`) {
		t.Errorf("a date as in the venue's samples: %s", s.raw)
	}
	if s := ask(t, server, "POST", "/login/advAuth", john().answer(john().challenge(t, server)), "Accept: text/xml"); s.ExpireDate != "2026-02-04T10:54:37.469Z" {
		t.Errorf("a date in XML: %s", s.raw)
	}
	if s := john().in(t, server); s.status != 401 || s.Code != 1008 || s.header.Get("Retry-After") != "1" {
		t.Errorf("beyond the rate: %d %s", s.status, s.raw)
	}
	if n := len(gate.judged()); n != 2 {
		t.Errorf("%d logins were submitted", n)
	}

	for name, broken := range map[string]func(*Config){
		"no key":      func(c *Config) { c.ChallengeKey = [32]byte{} },
		"profile":     func(c *Config) { c.Profile = 2 },
		"date":        func(c *Config) { c.ExpireDate = 3 },
		"status":      func(c *Config) { c.DisabledStatus = 302 },
		"unavailable": func(c *Config) { c.UnavailableStatus = 401 },
		"negative":    func(c *Config) { c.LoginRate = -1 },
	} {
		cfg := sample()
		if broken(&cfg); cfg.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
	}
	if err := sample().Validate(); err != nil {
		t.Error(err)
	}
}

// documented are the error numbers and the statuses of docs/protocols/advauth.md, as status and code.
var documented = []string{"400/1002", "401/1000", "401/1001", "401/1003", "401/1004", "401/1008", "403/1005", "404/0", "405/0", "415/0", "500/0"}

func TestEveryRefusalIsMapped(t *testing.T) {
	h := pod(t, sample(), newFakeGate(t))
	for _, code := range session.Refusals() {
		if f, mapped := wire[code]; !mapped || f.text == "" || http.StatusText(f.status) == "" {
			t.Errorf("%s is not mapped: %+v", code, f)
		}
		f := h.refused(adapters.Refused{Code: code})
		if !slices.Contains(documented, fmt.Sprintf("%d/%d", f.status, f.code)) {
			t.Errorf("%s becomes %d/%d, which is not documented", code, f.status, f.code)
		}
	}
	if len(wire) != len(session.Refusals()) {
		t.Errorf("%d refusals are mapped, there are %d", len(wire), len(session.Refusals()))
	}
}

// TestRefusedLogins: what the book says of a right answer.
func TestRefusedLogins(t *testing.T) {
	server, gate := serve(t, sample())
	until := session.At(gate.now().Add(29500 * time.Millisecond))
	for _, test := range []struct {
		refused      adapters.Refused
		status, code int
		retry        string
	}{
		{adapters.Refused{Code: session.Locked, RetryAt: until}, 401, 1003, "30"},
		{adapters.Refused{Code: session.Locked, RetryAt: session.Forever}, 401, 1003, ""},
		{adapters.Refused{Code: session.Disabled}, 401, 1003, ""},
		{adapters.Refused{Code: session.TooManySessions}, 401, 1008, "1"},
		{adapters.Refused{Code: session.InvalidCommand}, 500, 0, ""},
	} {
		gate.set(func() { gate.refuse = test.refused })
		s := john().in(t, server)
		if s.status != test.status || s.Code != test.code || s.header.Get("Retry-After") != test.retry || s.header.Get(proofHeader) != "" {
			t.Errorf("%s: %d %s", test.refused.Code, s.status, s.raw)
		}
	}
}

// TestUnknownIsNotInvalid: while the book is away nothing is called wrong.
func TestUnknownIsNotInvalid(t *testing.T) {
	for _, status := range []int{500, 503} {
		cfg := sample()
		cfg.UnavailableStatus = status
		server, gate := serve(t, cfg)
		for _, away := range []error{errAway, adapters.ErrBusy} {
			gate.set(func() { gate.away = away })
			for _, s := range []said{john().in(t, server), ask(t, server, "GET", "/login/whoami?Token="+sampleToken, ""),
				ask(t, server, "GET", "/person/get?PersonId=1&Token="+sampleToken, "")} {
				if s.status != status || s.Code != 0 || s.Message == "" || s.header.Get("Retry-After") != "1" || s.header.Get("WWW-Authenticate") != "" {
					t.Errorf("%d %s", s.status, s.raw)
				}
			}
		}
	}
}

// panicking is a gate that breaks.
type panicking struct{ *fakeGate }

func (panicking) Decoy(string) session.UserID { panic("a secret of the gate") }

func TestPanic(t *testing.T) {
	cfg := sample()
	server, gate := serve(t, cfg)
	var logged bytes.Buffer
	server.Config.Handler = New(cfg, panicking{gate}, slog.New(slog.NewTextHandler(&logged, nil)))
	s := ask(t, server, "POST", "/login/advAuthInit", `{"UserLogin":"x"}`)
	ref := strings.TrimSuffix(strings.TrimPrefix(s.Message, textDefect+" (ref "), ")")
	if !strings.Contains(logged.String(), "ref="+ref) || !strings.Contains(logged.String(), "panicking.Decoy") {
		t.Errorf("the log says %s", logged.String())
	}
	if s.status != 500 || s.Code != 0 || !strings.HasPrefix(s.Message, textDefect+" (ref ") || strings.Contains(s.raw, "secret") {
		t.Errorf("%d %s", s.status, s.raw)
	}
}

// TestNoSecretsInLogs: whatever is logged at whatever level holds nothing that a client presented or was given.
func TestNoSecretsInLogs(t *testing.T) {
	cfg := sample()
	server, gate := serve(t, cfg)
	var logged bytes.Buffer
	cfg.Now = gate.now
	server.Config.Handler = New(cfg, gate, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	c := john()
	c.a = &vectorRa
	secrets := []string{sampleKey, c.key.String(), vectorRa.String(), sampleToken}
	round := func() {
		challenge := c.challenge(t, server)
		body := c.answer(challenge)
		secrets = append(secrets, challenge.String(), strings.Split(body, `"RndB":"`)[1][:32])
		token := ask(t, server, "POST", "/login/advAuth", body).Token
		if token == "" {
			token = sampleToken
		}
		secrets = append(secrets, token)
		ask(t, server, "POST", "/login", `{"UserLogin":"John.Doo","ApiKey":"`+sampleKey+`"}`)
		ask(t, server, "GET", "/login/whoami?Token="+token, "")
		ask(t, server, "GET", "/x?Token="+token, "")
	}
	round()
	gate.set(func() { gate.refuse = adapters.Refused{Code: session.InvalidCommand} })
	round()
	gate.set(func() { gate.away = errAway })
	round()
	if !strings.Contains(logged.String(), "calls cannot be answered") || !strings.Contains(logged.String(), "no correct adapter") {
		t.Errorf("the log says %s", logged.String())
	}
	for _, secret := range secrets {
		if strings.Contains(logged.String(), secret) {
			t.Errorf("the log holds %s: %s", secret, logged.String())
		}
	}
}
