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
	kv jetstream.KeyValue
}

// Keys opens the bucket, and makes it when it is missing, as in a book that an
// earlier version has created: what it holds is made anew by whoever signs.
func (b *Bus) Keys(ctx context.Context) (*Keys, error) {
	kv, err := b.js.KeyValue(ctx, BucketKeys)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		layout := Layout{Replicas: 1}
		if l := b.layout.Load(); l != nil {
			layout = *l
		}
		kv, err = b.js.CreateOrUpdateKeyValue(ctx, keysConfig(layout))
	}
	if err != nil {
		return nil, fmt.Errorf("open the keys: %w", err)
	}
	return &Keys{kv}, nil
}

func keysConfig(l Layout) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      BucketKeys,
		Description: "Rollbook: public halves of the pods' signing keys",
		History:     1,
		TTL:         keyLife,
		Storage:     jetstream.FileStorage,
		Replicas:    l.Replicas,
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

// All is what the bucket holds now: every key whose Publish had returned. A
// watch begins with all of it, as the leader of the stream has it.
func (k *Keys) All(ctx context.Context) (map[string][]byte, error) {
	ctx, cancel := context.WithCancel(ctx) // a watch's helper goroutine lives as long as its context
	defer cancel()
	w, err := k.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	defer func() {
		_ = w.Stop() // an error means that the connection is closed, which ends the watch as well
		for range w.Updates() {
		}
	}()
	all := map[string][]byte{}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("read the keys: %w", ctx.Err())
		case e, open := <-w.Updates():
			switch {
			case !open:
				return nil, fmt.Errorf("read the keys: %w", ErrClosed)
			case e == nil:
				return all, nil
			}
			all[e.Key()] = e.Value()
		}
	}
}
