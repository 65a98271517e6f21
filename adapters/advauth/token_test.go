package advauth

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/engine/session"
)

// TestToken: a token is good on every path for its 20 s, in every spelling of an identifier; then it is expired, and
// after a while unknown.
func TestToken(t *testing.T) {
	server, gate := serve(t, sample())
	token := john().in(t, server).Token
	bare := strings.ReplaceAll(token, "-", "")
	gate.set(func() { gate.clock = gate.clock.Add(6500 * time.Millisecond) })
	for _, query := range []string{"Token=" + token, "token=" + token, "TOKEN=" + strings.ToUpper(token), "PersonId=1&%54oken=%7B" + token + "%7D",
		"Token=+(" + token + ")+", "Token=" + bare, "x=%zz&&;&Token=" + token} {
		if s := ask(t, server, "GET", "/api/Login/WhoAmI?"+query, ""); s.status != 200 || s.UserLogin != sampleLogin || s.ExpireInSec != 13 {
			t.Errorf("%s: %d %s", query, s.status, s.raw)
		}
	}
	if s := ask(t, server, "HEAD", "/login/whoami?Token="+token, ""); s.status != 200 || s.raw != "" {
		t.Errorf("HEAD: %d %s", s.status, s.raw)
	}
	for _, call := range []string{"GET /api/person/get?PersonId=1&Token=", "POST /person/create?Token=", "DELETE /?Token=", "PUT /login/x?Token="} {
		method, path, _ := strings.Cut(call, " ")
		s := ask(t, server, method, path+token, "")
		want := "No HTTP resource was found that matches the request URI '" + strings.Split(path, "?")[0] + "'."
		if s.status != 404 || s.Message != want || strings.Contains(s.raw, token) {
			t.Errorf("%s: %d %s", call, s.status, s.raw)
		}
		if s := ask(t, server, method, strings.Split(path, "?")[0], ""); s.status != 400 || s.Code != 1002 || !slices.Equal(s.ModelStateErr, []string{"The Token field is required."}) {
			t.Errorf("%s without a token: %d %s", call, s.status, s.raw)
		}
	}
	for query, code := range map[string]int{"Token=" + sampleToken[:35] + "9": 1000, "Token=1": 1002, "Token=": 1002, "Token=%zz": 1002, "Token": 1002,
		"Token=" + token[:35]: 1002, "Token=" + token + "&Token=1": 0, "Token={" + bare + "}": 1002, "Token=" + token[:8] + "x" + token[9:]: 1002} {
		if s := ask(t, server, "GET", "/login/whoami?"+query, ""); s.Code != code || strings.Contains(s.raw, token) {
			t.Errorf("%s: %s", query, s.raw)
		}
	}
	if s := ask(t, server, "POST", "/login/whoami?Token="+token, ""); s.status != 405 || s.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %s", s.status, s.raw)
	}

	is := func(when string, code int) {
		t.Helper()
		if s := ask(t, server, "GET", "/login/whoami?Token="+token, ""); s.status != 401 || s.Code != code {
			t.Errorf("%s: %d %s", when, s.status, s.raw)
		}
	}
	gate.set(func() { gate.clock = gate.clock.Add(13500 * time.Millisecond) })
	is("at its end", 1001)
	gate.set(func() { clear(gate.live) })
	is("forgotten by the index", 1001)
	gate.set(func() { gate.clock = gate.clock.Add(remembered - 1) })
	is("just before it is forgotten here", 1001)
	gate.set(func() { gate.clock = gate.clock.Add(1) })
	is("forgotten here", 1000)

	token = john().in(t, server).Token
	gate.set(func() { clear(gate.live) })
	is("revoked", 1000)
}

// TestSeenElsewhere: a pod that never granted a token still says expired, when it has met it.
func TestSeenElsewhere(t *testing.T) {
	granting, gate := serve(t, sample())
	other, _ := serve(t, sample())
	cfg := sample()
	cfg.Now = gate.now
	other.Config.Handler = pod(t, cfg, gate)
	token := john().in(t, granting).Token
	gate.set(func() { gate.clock = gate.clock.Add(20 * time.Second) })
	for _, forgotten := range []bool{false, true} {
		if forgotten {
			gate.set(func() { clear(gate.live) })
		}
		if s := ask(t, other, "GET", "/login/whoami?Token="+token, ""); s.Code != 1001 {
			t.Errorf("forgotten %t: %s", forgotten, s.raw)
		}
	}
}

// TestTombstonesAreBounded: what is remembered is bounded in number, and gone after its time.
func TestTombstonesAreBounded(t *testing.T) {
	tombs := newTombstones()
	hash := func(n int) (h session.TokenHash) {
		binary.BigEndian.PutUint64(h[:], uint64(n)+1)
		return h
	}
	for n := range maxTombs + 1000 {
		tombs.note(hash(n), 10, 5)
		tombs.note(hash(n), 10, 5)
	}
	if len(tombs.until) != maxTombs || len(tombs.queue) != maxTombs || tombs.has(hash(999), 10) || !tombs.has(hash(1000), 10) {
		t.Errorf("%d and %d are remembered", len(tombs.until), len(tombs.queue))
	}
	tombs.note(hash(-1), session.Forever, session.Instant(10).Add(remembered))
	if len(tombs.until) != 1 || len(tombs.queue) != 1 {
		t.Errorf("%d and %d are remembered after their time", len(tombs.until), len(tombs.queue))
	}
}
