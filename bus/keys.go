package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keyLife is how long a public key stays in KEYS after it was published last:
// the longest life of a token, and a day for what went wrong.
const keyLife = 48 * time.Hour

// Keys is where the pods show each other the public halves of their signing
// keys: the key-value bucket KEYS. Private halves never leave their pod.
type Keys struct {
	kv *bucket
}

// Keys opens the bucket, and makes it when it is missing: what it holds is made
// anew by whoever signs. On a bus whose users have rights of their own, Create
// has made it, and a pod that could not is told ErrNotPermitted.
func (b *Bus) Keys(ctx context.Context) (*Keys, error) {
	kv, err := b.bucket(ctx, BucketKeys, "")
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		l := Layout{Replicas: 1}
		if known := b.layout.Load(); known != nil {
			l = *known
		}
		if err = b.createKeys(ctx, l); err == nil {
			kv, err = b.bucket(ctx, BucketKeys, "")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the keys: %w", err)
	}
	return &Keys{kv}, nil
}

// createKeys does nothing when KEYS is there as it must be.
func (b *Bus) createKeys(ctx context.Context, l Layout) error {
	return b.permitted(ctx, apiStreamCreate+streamKeys, func(ctx context.Context) error {
		_, err := b.js.CreateKeyValue(ctx, keysConfig(l))
		if errors.Is(err, jetstream.ErrBucketExists) {
			return nil // made by another process, perhaps with other limits: it holds what it has to
		}
		return err
	})
}

func keysConfig(l Layout) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      BucketKeys,
		Description: "Rollbook: public halves of the pods' signing keys",
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    l.Replicas,
		TTL:         keyLife,
	}
}

// Publish puts a public key there under its id (letters, digits, '-', '_', '='
// and '.'), or renews it. On nil it is stored, and stays for two days.
func (k *Keys) Publish(ctx context.Context, id string, key []byte) error {
	if _, err := k.kv.Put(ctx, id, key); err != nil {
		return fmt.Errorf("publish a key: %w", err)
	}
	return nil
}

// All is what the bucket holds now, as the leader of its stream has it: every key
// whose Publish had returned.
func (k *Keys) All(ctx context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := k.kv.all(ctx, jetstream.AllKeys, func(e entry) {
		if e.op == jetstream.KeyValuePut {
			all[e.key] = e.value
		} else {
			delete(all, e.key)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	return all, nil
}
