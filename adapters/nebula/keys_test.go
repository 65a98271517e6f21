package nebula

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// newRing is a keyring whose keys cost nothing to make.
func newRing(c *clock, board KeyBoard) *keyring {
	k := newKeyring(Config{Now: c.now}.withDefaults(), board, discard)
	made := 0
	k.mint = func() (*rsa.PrivateKey, error) { made++; return spareKeys()[made%3], nil }
	return k
}

// signs makes a token that lives for a day, and gives the id of its key.
func signs(t *testing.T, k *keyring, now time.Time) string {
	t.Helper()
	token, err := k.sign(claims{Expires: now.Add(24 * time.Hour).Unix()})
	must(t, err)
	o, ok := outlineOf(token)
	if !ok {
		t.Fatalf("%s is no token", token)
	}
	return o.header.kid
}

// TestRotation: the next key is on the board, and known to the other pod, for the lead before its use; the old one stays.
func TestRotation(t *testing.T) {
	ctx, c, board := context.Background(), newClock(), &memoryBoard{}
	ours, theirs := newRing(c, board), newRing(c, board)
	tend := func() {
		t.Helper()
		_, err := ours.tend(ctx)
		must(t, err)
	}
	if _, err := ours.sign(claims{}); !errors.Is(err, errNoKey) {
		t.Fatalf("signed before there is a key: %v", err)
	}
	tend()
	first := signs(t, ours, c.now())
	c.forward(24*time.Hour - 10*time.Minute - time.Second)
	if tend(); len(board.keys) != 1 {
		t.Fatalf("%d keys before the lead", len(board.keys))
	}
	c.forward(time.Second)
	if tend(); len(board.keys) != 2 || signs(t, ours, c.now()) != first {
		t.Fatalf("%d keys at the lead", len(board.keys))
	}
	must(t, theirs.read(ctx))
	c.forward(10*time.Minute - time.Nanosecond)
	if tend(); signs(t, ours, c.now()) != first {
		t.Fatal("the next key is used early")
	}
	c.forward(time.Nanosecond)
	tend()
	second := signs(t, ours, c.now())
	reads := board.reads
	for _, kid := range []string{first, second} {
		if key, err := theirs.key(ctx, kid); err != nil || key == nil {
			t.Errorf("the other pod does not know %s: %v", kid, err)
		}
	}
	if second == first || board.reads != reads {
		t.Errorf("rotated: %t; the other pod had to ask %d times", second != first, board.reads-reads)
	}
	// A pod whose keys came up late still waits for the lead.
	late := newRing(c, board)
	_, err := late.tend(ctx)
	must(t, err)
	was := signs(t, late, c.now())
	c.forward(48 * time.Hour)
	_, err = late.tend(ctx)
	must(t, err)
	if signs(t, late, c.now()) != was {
		t.Error("a key was used when it had just been published")
	}
}

// TestKeysOutliveTheirTokens: what cannot be kept on the board for a token's life is not signed with.
func TestKeysOutliveTheirTokens(t *testing.T) {
	ctx, c, board := context.Background(), newClock(), &memoryBoard{}
	k := newRing(c, board)
	_, err := k.tend(ctx)
	must(t, err)
	board.set(func() { board.away = errAway })
	c.forward(24 * time.Hour) // of the 48 that the board keeps it
	if _, err := k.tend(ctx); err == nil {
		t.Error("the board is away, and nobody minds")
	}
	signs(t, k, c.now())
	c.forward(time.Second)
	if _, err := k.sign(claims{Expires: c.now().Add(24 * time.Hour).Unix()}); !errors.Is(err, errNoKey) {
		t.Errorf("a token that its key may not outlive: %v", err)
	}
	board.set(func() { board.away = nil })
	_, err = k.tend(ctx)
	must(t, err)
	signs(t, k, c.now())
	written := board.written
	for range 48 { // renewed once in a 24th of the TTL, while it is used
		c.forward(time.Hour)
		_, err = k.tend(ctx)
		must(t, err)
	}
	if renewed := board.written - written; renewed < 20 || renewed > 60 {
		t.Errorf("published %d times in two days", renewed)
	}
}

// TestUnknownKeysAreLookedFor: a key that was published a moment ago is known, an unknown one is unknown only after the
// board said so, and a flood of made-up ids costs few readings.
func TestUnknownKeysAreLookedFor(t *testing.T) {
	ctx, c, board := context.Background(), newClock(), &memoryBoard{}
	ours, theirs := newRing(c, board), newRing(c, board)
	for range 5 {
		ours.current = nil
		_, err := ours.tend(ctx)
		must(t, err)
		if key, err := theirs.key(ctx, signs(t, ours, c.now())); key == nil || err != nil {
			t.Fatalf("a key that is on the board is unknown: %v", err)
		}
	}
	board.set(func() { board.reads = 0 })
	var flood sync.WaitGroup
	for n := range 200 {
		flood.Go(func() {
			if key, err := theirs.key(ctx, fmt.Sprintf("%022d", n)); key != nil || err != nil {
				t.Errorf("%v, %v", key, err)
			}
		})
	}
	flood.Wait()
	if board.reads > 20 {
		t.Errorf("%d readings for 200 unknown keys", board.reads)
	}
	board.set(func() { board.away, board.reads = errAway, 0 })
	if key, err := theirs.key(ctx, strings.Repeat("x", 22)); key != nil || err == nil {
		t.Error("an unknown key is called unknown while the board is away")
	}
	for _, kid := range []string{"", "x", strings.Repeat("x", 23)} {
		if key, err := theirs.key(ctx, kid); key != nil || err != nil || board.reads > 1 {
			t.Errorf("what cannot be a key id is looked for: %v", err)
		}
	}
	if key, err := theirs.key(ctx, signs(t, ours, c.now())); key == nil || err != nil {
		t.Errorf("a known key is unknown while the board is away: %v", err)
	}
}

// TestForeignThingsOnTheBoard: what is no good key is passed over, and shown to nobody; the others stay in use.
func TestForeignThingsOnTheBoard(t *testing.T) {
	ctx, c, board := context.Background(), newClock(), &memoryBoard{}
	k := newRing(c, board)
	_, err := k.tend(ctx)
	must(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	put := func(kid string, key jose.JSONWebKey) {
		data, err := key.MarshalJSON()
		must(t, err)
		board.keys[kid] = data
	}
	strong := &spareKeys()[3].PublicKey
	kid := func(n int) string { return fmt.Sprintf("%022d", n) }
	put(kid(1), jose.JSONWebKey{Key: &weak.PublicKey, KeyID: kid(1), Algorithm: "RS256", Use: "sig"})
	put(kid(2), jose.JSONWebKey{Key: strong, KeyID: kid(3), Algorithm: "RS256", Use: "sig"})
	put(kid(4), jose.JSONWebKey{Key: strong, KeyID: kid(4), Algorithm: "PS256", Use: "sig"})
	put(kid(5), jose.JSONWebKey{Key: strong, KeyID: kid(5), Algorithm: "RS256", Use: "enc"})
	put(kid(6), jose.JSONWebKey{Key: []byte("a shared secret of some length.."), KeyID: kid(6), Algorithm: "RS256", Use: "sig"})
	put(kid(7), jose.JSONWebKey{Key: spareKeys()[3], KeyID: kid(7), Algorithm: "RS256", Use: "sig"}) // a private half
	put("short", jose.JSONWebKey{Key: strong, KeyID: "short", Algorithm: "RS256", Use: "sig"})
	board.keys[kid(8)], board.keys[kid(9)] = []byte("{"), make([]byte, 5000)
	must(t, k.read(ctx))
	for n := range 10 {
		if key, err := k.key(ctx, kid(n)); key != nil || err != nil {
			t.Errorf("key %d is taken: %v", n, err)
		}
	}
	set, err := k.jwkSet(ctx)
	must(t, err)
	var shown struct{ Keys []map[string]any }
	must(t, json.Unmarshal(set, &shown))
	if len(shown.Keys) != 1 || len(shown.Keys[0]) != 6 || shown.Keys[0]["use"] != "sig" || shown.Keys[0]["alg"] != "RS256" {
		t.Errorf("%s", set) // kty, use, alg, kid, n, e: nothing private
	}
}

// TestTokensWhileTheBoardIsAway: no key yet is "unavailable", at every door.
func TestTokensWhileTheBoardIsAway(t *testing.T) {
	d := serve(t, Config{})
	token := d.token(t)
	d.board.set(func() { d.board.away = errors.New("the board is away") })
	d.h.keys.mu.Lock()
	current := d.h.keys.current
	d.h.keys.current, d.h.keys.known = nil, nil
	d.h.keys.mu.Unlock()
	if response, body := post(t, d.Server, `{"email":"`+jane+`","password":"`+password+`"}`); response.StatusCode != 503 || body != `{"code":1,"message":"System is unavailable"}` {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	conn := dial(t, d.Server, "/")
	asks(t, conn, createFrame(token, 1), `{"sig":2,"q":"v1/broker.oms/createSession","errorType":"503","sid":1,"d":{"errorCode":1,"errorMessage":"System is unavailable"}}`)
	if response, body := request(t, d.Server, "GET", "/trader-api/x", "", "Authorization", "Bearer "+token); response.StatusCode != 503 {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	d.board.set(func() { d.board.away = nil })
	d.h.keys.mu.Lock()
	d.h.keys.current = current
	d.h.keys.mu.Unlock()
	asks(t, conn, createFrame(token, 1), `{"sig":1,"q":"v1/broker.oms/createSession","sid":1}`)
}
