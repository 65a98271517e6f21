package nebula

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// KeyBoard is where the pods show each other the public halves of their signing keys. Its methods are called
// concurrently, always with a deadline.
type KeyBoard interface {
	// Publish puts a public key there, a JSON Web Key (RFC 7517) of some 450 bytes under its key id (22 characters of
	// base64url), or renews it. When it returns nil every later All of every pod has the key, and goes on having it for
	// [Config.KeyTTL]. Repeating it is harmless.
	Publish(ctx context.Context, kid string, jwk []byte) error
	// All reads the board as it is now: it has every key whose Publish returned before All was called. A view that may
	// lag is not good enough, because a token whose key is not in it is refused. It is called at most 20 times a second.
	All(ctx context.Context) (map[string][]byte, error)
}

const (
	boardTimeout = 3 * time.Second        // of one call of the board
	boardRest    = 50 * time.Millisecond  // between two readings
	boardPoll    = time.Minute            // between two readings that nobody asked for
	boardRetry   = 500 * time.Millisecond // after a failure
	jwksFresh    = time.Second            // how old a reading may be to be shown to others
	renewals     = 24                     // of a key in one [Config.KeyTTL]
	kidLength    = 22
)

// errNoKey says that this pod has no key which the board keeps for as long as the token is to live.
var errNoKey = errors.New("there is no signing key that all pods would know until the token ends")

// keyring holds this pod's signing keys and knows everybody's public ones.
type keyring struct {
	cfg   Config
	board KeyBoard
	log   *slog.Logger
	mint  func() (*rsa.PrivateKey, error) // makes a private key

	mu      sync.RWMutex
	current *signingKey               // guarded by mu; nil before the first is published
	next    *signingKey               // guarded by mu; nil until the current one is old; published
	known   map[string]*rsa.PublicKey // guarded by mu: what the board showed last
	set     []byte                    // guarded by mu: the same as a JWK Set
	readAt  time.Time                 // guarded by mu: when that reading began; zero: never

	started atomic.Uint64 // readings that have begun
	reading sync.Mutex    // held during a reading
	lastErr error         // guarded by reading: of the reading that ended last
}

// signingKey is a key of this pod. Its private half is nowhere else.
type signingKey struct {
	kid    string
	signer jose.Signer
	jwk    []byte // the public half
	made   time.Time
	shown  time.Time // when it was published last; what stands here is good for KeyTTL
}

func newKeyring(cfg Config, board KeyBoard, log *slog.Logger) *keyring {
	return &keyring{cfg: cfg, board: board, log: log, known: make(map[string]*rsa.PublicKey), set: []byte(`{"keys":[]}`),
		mint: func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }}
}

// run tends the keys until ctx ends.
func (k *keyring) run(ctx context.Context) error {
	for {
		wait, err := k.tend(ctx)
		if err != nil && ctx.Err() == nil {
			k.log.Warn("the signing keys could not be tended; it is tried again", "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tend does what is due: the first key, the next one in time, the change to it, renewals; and reads the board. It says
// when to come again. A crash anywhere leaves a public key on the board that nobody uses; it goes with its TTL.
func (k *keyring) tend(ctx context.Context) (time.Duration, error) {
	k.mu.RLock()
	current, next := k.current, k.next
	k.mu.RUnlock()
	now := k.cfg.Now()
	if current == nil {
		key, err := k.make(ctx)
		if err != nil {
			return boardRetry, err
		}
		current = key
	}
	if next == nil && !now.Before(current.made.Add(k.cfg.KeyAge-k.cfg.KeyLead)) {
		key, err := k.make(ctx)
		if err != nil {
			return boardRetry, err
		}
		next = key
	}
	if next != nil && !now.Before(current.made.Add(k.cfg.KeyAge)) && !now.Before(next.made.Add(k.cfg.KeyLead)) {
		k.log.Info("signing with the next key", "kid", next.kid, "before", current.kid)
		current, next = next, nil
	}
	var failures []error
	for _, key := range []**signingKey{&current, &next} {
		if *key != nil && !now.Before((*key).shown.Add(k.cfg.KeyTTL/renewals)) {
			renewed, err := k.publish(ctx, **key)
			failures = append(failures, err)
			*key = renewed
		}
	}
	k.mu.Lock()
	k.current, k.next = current, next
	k.mu.Unlock()
	if err := errors.Join(append(failures, k.read(ctx))...); err != nil {
		return boardRetry, err
	}
	return min(boardPoll, max(boardRest, k.cfg.KeyLead/4), max(boardRest, k.cfg.KeyTTL/renewals)), nil
}

// make makes a key and publishes it.
func (k *keyring) make(ctx context.Context) (*signingKey, error) {
	private, err := k.mint()
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	var id [16]byte
	rand.Read(id[:])
	kid := base64.RawURLEncoding.EncodeToString(id[:])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: private, KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("make a signer: %w", err)
	}
	jwk, err := jose.JSONWebKey{Key: &private.PublicKey, KeyID: kid, Algorithm: string(jose.RS256), Use: "sig"}.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write a public key: %w", err)
	}
	key := signingKey{kid: kid, signer: signer, jwk: jwk, made: k.cfg.Now()}
	published, err := k.publish(ctx, key)
	if err != nil {
		return nil, err // thrown away: the next attempt makes another
	}
	k.log.Info("made a signing key", "kid", kid)
	return published, nil
}

// publish shows the key, or renews it. It gives the key as it was when that fails.
func (k *keyring) publish(ctx context.Context, key signingKey) (*signingKey, error) {
	ctx, cancel := context.WithTimeout(ctx, boardTimeout)
	defer cancel()
	shown := k.cfg.Now() // before, so that it is never later than the board's own time
	if err := k.board.Publish(ctx, key.kid, key.jwk); err != nil {
		return &key, fmt.Errorf("publish a public key: %w", err)
	}
	key.shown = shown
	return &key, nil
}

// sign makes the token. Its key stays on the board until the token ends: no pod will find it unknown before.
func (k *keyring) sign(c claims) (string, error) {
	k.mu.RLock()
	key := k.current
	k.mu.RUnlock()
	if key == nil || time.Unix(c.Expires, 0).After(key.shown.Add(k.cfg.KeyTTL)) {
		return "", errNoKey
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("write the claims: %w", err)
	}
	signed, err := key.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

// key finds a public key by its id. One that is not known is looked for on the board as it is now, so that nil means
// that there is none.
func (k *keyring) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	if len(kid) != kidLength {
		return nil, nil
	}
	if key := k.have(kid); key != nil {
		return key, nil
	}
	if err := k.read(ctx); err != nil {
		return nil, err
	}
	return k.have(kid), nil
}

func (k *keyring) have(kid string) *rsa.PublicKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known[kid]
}

// jwkSet is the JSON Web Key Set (RFC 7517, 5) of all pods. While the board is away it is the last that was read.
func (k *keyring) jwkSet(ctx context.Context) ([]byte, error) {
	k.mu.RLock()
	set, at := k.set, k.readAt
	k.mu.RUnlock()
	if time.Since(at) < jwksFresh {
		return set, nil
	}
	if err := k.read(ctx); err != nil && at.IsZero() {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.set, nil
}

// read reads the board. One reading serves all who asked before it began, so that a flood of tokens with made-up keys
// costs the board a few readings a second.
func (k *keyring) read(ctx context.Context) error {
	asked := k.started.Load()
	k.reading.Lock()
	defer k.reading.Unlock()
	if k.started.Load() > asked { // another one has begun since, and ended
		return k.lastErr
	}
	k.mu.RLock()
	last := k.readAt
	k.mu.RUnlock()
	time.Sleep(boardRest - min(boardRest, time.Since(last)))
	k.started.Add(1)
	begun := time.Now()
	// Who asked first may go away; the others still wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), boardTimeout)
	defer cancel()
	all, err := k.board.All(ctx)
	if err != nil {
		k.lastErr = fmt.Errorf("read the keys: %w", err)
		return k.lastErr
	}
	known, set := k.decode(all)
	k.mu.Lock()
	k.known, k.set, k.readAt = known, set, begun
	k.mu.Unlock()
	k.lastErr = nil
	return nil
}

// decode takes the keys that are good for verifying our tokens. What else stands on the board is passed over and logged:
// it must not keep the others from being used.
func (k *keyring) decode(all map[string][]byte) (map[string]*rsa.PublicKey, []byte) {
	known := make(map[string]*rsa.PublicKey, len(all))
	set := struct {
		Keys []jose.JSONWebKey `json:"keys"`
	}{Keys: []jose.JSONWebKey{}}
	for _, kid := range slices.Sorted(maps.Keys(all)) {
		public, err := decodeKey(kid, all[kid])
		if err != nil {
			k.log.Warn("the board holds what is no key", "kid", fmt.Sprintf("%.32q", kid), "err", err)
			continue
		}
		known[kid] = public
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: kid, Algorithm: string(jose.RS256), Use: "sig"})
	}
	rendered, err := json.Marshal(set)
	if err != nil {
		panic("nebula: a public key has no JSON form: " + err.Error())
	}
	return known, rendered
}

func decodeKey(kid string, data []byte) (*rsa.PublicKey, error) {
	var jwk jose.JSONWebKey
	if len(kid) != kidLength || len(data) > 4096 {
		return nil, errors.New("its id or its size is not that of a key")
	}
	if err := jwk.UnmarshalJSON(data); err != nil {
		return nil, errors.New("it is no JSON Web Key")
	}
	public, ok := jwk.Key.(*rsa.PublicKey)
	if !ok || jwk.KeyID != kid || jwk.Algorithm != string(jose.RS256) || jwk.Use != "sig" {
		return nil, errors.New("it is no public RSA key for RS256 signatures by that id")
	}
	if bits := public.N.BitLen(); bits < 2048 || bits > 4096 || public.E < 3 || public.E%2 == 0 {
		return nil, errors.New("it is weaker than 2048 bits, or longer than 4096")
	}
	return public, nil
}
