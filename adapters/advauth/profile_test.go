package advauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"
	"time"

	"rollbook/engine/session"
)

func keyOf(text string) block {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return block(key)
}

func hexBlock(text string) block {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return block(raw)
}

func ownMAC(key block, input []byte) block {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(input)
	return block(mac.Sum(nil))
}

var (
	vectorCb = hexBlock("000102030405060708090a0b0c0d0e0f")
	vectorRa = hexBlock("f0e0d0c0b0a090807060504030201000")
)

// TestVectors holds both profiles to the published vectors, which were computed elsewhere.
func TestVectors(t *testing.T) {
	key := keyOf(sampleKey)
	with := answer{login: sampleLogin, a: vectorRa, hasA: true, b: hexBlock("c26fcfedd9d642002589ed54649fa51b"), hasB: true}
	without := answer{login: sampleLogin, b: hexBlock("034f62626a1d96752d36527cecc3e947"), hasB: true}
	card := answer{login: sampleLogin, a: hexBlock("f81fe4788ef48a7dc034aaf9ab3c9685"), hasA: true,
		b: hexBlock("a1cccd8d345f115a0e1cc1e9cca70303"), hasB: true}
	for name, test := range map[string]struct {
		profile      Profile
		answer       answer
		shown, proof string
	}{
		"HMAC":              {HMAC, with, "", "41ee1cfdf3ff10626b6346af18cd36dc"},
		"HMAC without RndA": {HMAC, without, "", ""},
		"DESFire":           {DESFire, card, "8b5f2b15da358871dec9d4e85eae1760", "c4d66a838eed89113613bba8a0fbd780"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := desfireChallenge(key, vectorCb).String(); test.shown != "" && got != test.shown {
				t.Errorf("shown %s, want %s", got, test.shown)
			}
			if !test.profile.newJudge(key, test.answer).right(vectorCb) {
				t.Error("the right answer is wrong")
			}
			if got := test.profile.proof(key, vectorCb, test.answer, sampleToken, 20).String(); test.proof != "" && got != test.proof {
				t.Errorf("proof %s, want %s", got, test.proof)
			}
			wrongs(t, test.profile, key, test.answer)
		})
	}
	if got := desfireRndA(key, vectorCb, card); got != vectorRa {
		t.Errorf("the card's RndA is %s", got)
	}
}

// wrongs changes each bit of what an answer depends on, and leaves its halves out.
func wrongs(t *testing.T, p Profile, key block, a answer) {
	t.Helper()
	no := func(what string, key block, a answer, challenge block) {
		t.Helper()
		if p.newJudge(key, a).right(challenge) {
			t.Errorf("right with %s", what)
		}
	}
	for bit := range 128 {
		flip := func(b block) block { b[bit/8] ^= 1 << (bit % 8); return b }
		no("another key", flip(key), a, vectorCb)
		no("another challenge", key, a, flip(vectorCb))
		changed := a
		changed.b = flip(a.b)
		no("another RndB", key, changed, vectorCb)
		changed = a
		changed.a = flip(a.a)
		if a.hasA {
			no("another RndA", key, changed, vectorCb)
		}
	}
	changed := a
	changed.hasB = false
	no("no RndB", key, changed, vectorCb)
	changed = a
	changed.login += "x"
	if p == HMAC {
		no("another login", key, changed, vectorCb)
	}
	if changed = a; a.hasA {
		changed.hasA = false
		no("no RndA", key, changed, vectorCb)
	}
}

// TestReflection: what the server sent is no answer, in whatever place.
func TestReflection(t *testing.T) {
	key := keyOf(sampleKey)
	own := answer{login: sampleLogin, a: vectorCb, hasA: true, hasB: true}
	own.b = ownMAC(key, hmacInput(clientLabel, own, vectorCb)) // even with the right key
	server := answer{login: sampleLogin, a: vectorRa, hasA: true, hasB: true}
	server.b = ownMAC(key, hmacInput(serverLabel, server, vectorCb))
	for _, a := range []answer{own, server, {login: sampleLogin, b: vectorCb, hasB: true}} {
		if HMAC.newJudge(key, a).right(vectorCb) {
			t.Errorf("%+v is right", a)
		}
	}
	c0 := desfireChallenge(key, vectorCb)
	for _, a := range []answer{{a: block{}, b: c0}, {a: c0, b: c0}, {a: c0, b: block{}}} { // the first passes without the rotation
		a.login, a.hasA, a.hasB = sampleLogin, true, true
		if DESFire.newJudge(key, a).right(vectorCb) {
			t.Errorf("%+v is right", a)
		}
	}
}

// TestChallenges: one pod gives no challenge twice in a slot, gives different ones to different logins, and any pod with
// the key recognises them for 20 s to 30 s, also one whose clock is a slot behind.
func TestChallenges(t *testing.T) {
	cfg := sample()
	one, two := newChallenges(cfg.ChallengeKey), newChallenges(cfg.ChallengeKey)
	other := newChallenges([32]byte{1})
	start := time.Unix(1_800_000_000, 0) // a slot begins
	alive := func(c *challenges, whom session.UserID, now time.Time) map[block]session.TokenHash {
		found := map[block]session.TokenHash{}
		c.alive(whom, now, func(challenge block, nonce func() session.TokenHash) { found[challenge] = nonce() })
		return found
	}
	seen, nonces := map[block]bool{}, map[session.TokenHash]bool{}
	for n := range 2 * perSlot {
		challenge := one.give([]session.UserID{"u-a", "u-b"}[n%2], start)
		if seen[challenge] {
			t.Fatalf("challenge %d was given before", n)
		}
		seen[challenge] = true
	}
	for challenge, nonce := range alive(two, "u-a", start) {
		if nonces[nonce] || nonce == (session.TokenHash{}) {
			t.Fatal("two challenges have one nonce")
		}
		nonces[nonce] = true
		_ = challenge
	}
	if len(nonces) != perSlot*int(oldest+1+newest) {
		t.Errorf("%d challenges are alive", len(nonces))
	}
	for _, early := range []time.Duration{0, time.Millisecond, slotLength / 2, slotLength - 1} {
		given := start.Add(early)
		challenge := one.give("u-a", given)
		for after, want := range map[time.Duration]bool{-slotLength: true, -2 * slotLength: false, 0: true, lifetime: true,
			lifetime + slotLength: false} {
			if _, got := alive(two, "u-a", given.Add(after))[challenge]; got != want {
				t.Errorf("given %s into its slot, alive after %s: %t", early, after, got)
			}
		}
		if _, got := alive(two, "u-b", given)[challenge]; got {
			t.Error("another login's challenge is alive")
		}
		if _, got := alive(other, "u-a", given)[challenge]; got {
			t.Error("another deployment's challenge is alive")
		}
	}
	if one.dummy("u-a") != two.dummy("u-a") || one.dummy("u-a") == one.dummy("u-b") || one.dummy("u-a") == other.dummy("u-a") {
		t.Error("dummy keys are not what they should be")
	}
}

func BenchmarkJudge(b *testing.B) {
	c := newChallenges(sample().ChallengeKey)
	now := time.Now()
	for _, p := range []Profile{HMAC, DESFire} {
		b.Run(map[Profile]string{HMAC: "HMAC", DESFire: "DESFire"}[p], func(b *testing.B) {
			for b.Loop() {
				judge := p.newJudge(keyOf(sampleKey), answer{login: sampleLogin, hasA: true, hasB: true})
				c.alive("u-7q2d5kzj3m4n6p8r9s1t2v3w4x", now, func(challenge block, _ func() session.TokenHash) {
					if judge.right(challenge) {
						b.Fatal("right")
					}
				})
			}
		})
	}
}
