package journeys

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (in *instance) at(d door) string { return fmt.Sprintf("http://127.0.0.1:%d", in.base+d.port) }

// second starts another process on the bus of a running instance: another pod.
func (in *instance) second(args ...string) *instance {
	in.t.Helper()
	url, err := os.ReadFile(filepath.Join(in.data, "bus.url"))
	if err != nil {
		in.t.Fatal(err)
	}
	other := newInstance(in.t)
	other.args = []string{"--bus", strings.TrimSpace(string(url)), "--creds", filepath.Join(in.data, "operator.nk"),
		"--deployment-key-file", filepath.Join(in.data, "deployment.key"), "--accept-loss-window"}
	other.args = append(other.args, args...)
	other.start()
	return other
}

// newUser makes a user of the venue and gives what they log in with.
func (in *instance) newUser(d door, name string) (secret string) {
	in.t.Helper()
	in.run(name+"-has-a-long-password\n", "user", "add", name)
	if !d.keyed {
		return name + "-has-a-long-password"
	}
	out := in.run("", "user", "apikey", name, "--venue", d.name)
	for _, word := range strings.Fields(out) {
		if key, err := base64.StdEncoding.DecodeString(word); err == nil && len(key) == 16 {
			return word
		}
	}
	in.t.Fatalf("no API key in %q", out)
	return ""
}

// TestEveryVenue goes through the same life at every venue, on two processes, and one kill -9. What a venue's row lacks
// it does not have:
//
//	                       genesis  traderevolution  advauth  zenith      nebula
//	refresh                yes      yes              none     AuthToken   none: log in again
//	old refresh token      is kept  refused          none     is kept     none
//	reuse is detected      no: the same refresh token is good for the session's life; where it rotates, yes
//	logout                 yes      none             none     none        none: an operator ends the session
//	close of the socket    ends what was opened on it (sockets_test.go); traderevolution and advauth have no sockets
//
// Zenith's AuthToken, which checks a token and renews its session in one, stands in the row of the check: the token stays
// the same. "The bus away" is [TestBusAway], "the same time" package timing, and logins by another issuer issuers_test.go.
func TestEveryVenue(t *testing.T) {
	in := newInstance(t, "--lockout-first-delay", "10m") // no lock opens while it is looked at
	in.start()
	secrets := map[string]string{}
	for _, d := range doors {
		secrets[d.name] = in.newUser(d, d.name+"-user")
	}
	other := in.second()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) { life(t, in, other, d, d.name+"-user", secrets[d.name]) })
	}
	other.kill()

	// A kill -9 of the process in between: what was granted before is good after it.
	held := map[string]pass{}
	for _, d := range doors {
		held[d.name] = mustLogin(t, in.at(d), d, d.name+"-user", secrets[d.name])
	}
	in.kill()
	in.start()
	for _, d := range doors {
		if o, err := d.check(in.at(d), held[d.name]); o != yes || err != nil {
			t.Errorf("%s: after a kill -9 the token is %s, %v", d.name, o, err)
		}
	}
	in.stop()
}

func mustLogin(t *testing.T, at string, d door, name, secret string) pass {
	t.Helper()
	p, o, text, err := d.login(at, name, secret)
	if o != yes || err != nil || p.access == "" {
		t.Fatalf("%s: login: %s, %v: %s", d.name, o, err, text)
	}
	return p
}

func life(t *testing.T, in, other *instance, d door, name, secret string) {
	expect := func(what string, want outcome) func(outcome, error) {
		return func(o outcome, err error) {
			t.Helper()
			if err != nil || o != want {
				t.Fatalf("%s: %s, %v; want %s", what, o, err, want)
			}
		}
	}
	here, there := in.at(d), other.at(d)
	wrong := wrongSecret(d, secret)
	_, o, wrongText, err := d.login(here, name, wrong)
	expect("wrong secret", no)(o, err)
	nobody := "x" + name[1:] // of the same length, so that no length can tell
	_, o, unknownText, err := d.login(here, nobody, wrong)
	expect("unknown user", no)(o, err)
	if wrongText != unknownText {
		t.Errorf("an unknown user is told from a wrong secret:\n%s\n%s", wrongText, unknownText)
	}

	p := mustLogin(t, here, d, name, secret)
	o, err = d.check(here, p)
	expect("the token here", yes)(o, err)
	o, err = d.check(there, p)
	expect("the token at the other process", yes)(o, err)
	o, err = d.check(there, pass{access: madeUp(p.access)})
	expect("a made-up token", no)(o, err)

	if d.refresh != nil {
		next, o, err := d.refresh(there, p)
		expect("refresh", yes)(o, err)
		refusedSoon(t, "the token from before the refresh", d, here, p)
		o, err = d.check(here, next)
		expect("the token from the refresh", yes)(o, err)
		if (next.refresh != p.refresh) != d.rotates {
			t.Errorf("the refresh token changed: %t", next.refresh != p.refresh)
		}
		if d.rotates {
			again, o, err := d.refresh(here, p)
			expect("a repeated refresh within the grace", yes)(o, err)
			if again.access != next.access || again.refresh != next.refresh {
				t.Error("a repeated refresh gave another successor")
			}
			third, o, err := d.refresh(here, next)
			expect("the refresh after it", yes)(o, err)
			_, o, err = d.refresh(there, p)
			expect("a refresh token of two generations ago", no)(o, err)
			refusedSoon(t, "the family after reuse", d, here, third)
			p = mustLogin(t, here, d, name, secret)
		} else {
			p = next
		}
	}
	if d.logout != nil {
		o, err = d.logout(here, p)
		expect("logout", yes)(o, err)
	} else {
		in.run("", "session", "revoke", "--user", name, "--yes")
	}
	refusedSoon(t, "the token at the other process after the end", d, there, p)
	if p.socket != nil && !p.socket.closed(20*time.Second) {
		t.Error("the socket of a session that has ended stays open")
	}

	lockedOut(t, in, there, d, name, nobody, secret)
	mustLogin(t, there, d, name, secret)
}

// wrongSecret is none that the venue knows, of the form and length of a right one.
func wrongSecret(d door, secret string) string {
	if d.keyed {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 16))
	}
	return strings.Repeat("x", len(secret))
}

// lockedOut locks an account and a name that nobody has, sees that nothing tells them apart, and unlocks the account.
func lockedOut(t *testing.T, in *instance, at string, d door, name, nobody, secret string) {
	t.Helper()
	texts := map[string]string{}
	attempt := func(what, name, secret string) {
		t.Helper()
		_, o, text, err := d.login(at, name, secret)
		if err != nil || o != no {
			t.Fatalf("%s: %s, %v", what, o, err)
		}
		texts[what] = text
	}
	for range 6 { // one more than it takes to lock
		attempt("the locked account", name, wrongSecret(d, secret))
		attempt("the locked name of nobody", nobody, wrongSecret(d, secret))
	}
	attempt("the right secret of the locked account", name, secret)
	for what, text := range texts {
		if text != texts["the locked account"] {
			t.Errorf("%s is told by the reply:\n%s\n%s", what, text, texts["the locked account"])
		}
	}
	in.run("", "user", "unlock", name)
}

// refusedSoon: an end reaches the other process by the book, in some milliseconds: it is asked until it knows, and not for
// long.
func refusedSoon(t *testing.T, what string, d door, at string, p pass) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		o, err := d.check(at, p)
		if err == nil && o == no {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s, %v", what, o, err)
		}
	}
}

// madeUp is a token of the same form that was never granted.
func madeUp(token string) string {
	other := "0"
	if token[5] == '0' {
		other = "1"
	}
	return token[:5] + other + token[6:]
}

// TestBusAway: a pod whose bus is gone says "unavailable" in each venue's form, of good tokens, unknown ones, logins,
// refreshes and logouts alike; never "invalid".
func TestBusAway(t *testing.T) {
	in := newInstance(t)
	in.start()
	secrets, held := map[string]string{}, map[string]pass{}
	for _, d := range doors {
		secrets[d.name] = in.newUser(d, d.name+"-user")
	}
	other := in.second()
	for _, d := range doors {
		held[d.name] = mustLogin(t, other.at(d), d, d.name+"-user", secrets[d.name])
	}
	in.kill()                           // takes the bus along
	time.Sleep(2500 * time.Millisecond) // longer than a pod trusts what it knew
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			away := func(what string, o outcome, err error) {
				t.Helper()
				if err != nil || o != unavailable {
					t.Errorf("%s while the bus is away: %s, %v", what, o, err)
				}
			}
			at, p, unknown := other.at(d), held[d.name], pass{access: madeUp(held[d.name].access)}
			o, err := d.check(at, p)
			away("a good token", o, err)
			if o, err = d.check(at, unknown); d.name == "nebula" { // its signature tells that it was never made
				if o != no || err != nil {
					t.Errorf("a token that nobody signed: %s, %v", o, err)
				}
			} else {
				away("an unknown token", o, err)
			}
			for what, secret := range map[string]string{"a right login": secrets[d.name], "a wrong login": wrongSecret(d, secrets[d.name])} {
				_, o, _, err = d.login(at, d.name+"-user", secret)
				away(what, o, err)
			}
			if d.refresh != nil {
				_, o, err = d.refresh(at, p)
				away("a refresh", o, err)
			}
			if d.logout != nil {
				o, err = d.logout(at, p)
				away("a logout", o, err)
			}
		})
	}
}
