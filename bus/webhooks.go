package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// webhooksConfig is the bucket of how far webhooks have come: of every key the
// newest value. It does not follow from the book: what has been delivered is
// written nowhere else.
func webhooksConfig(l Layout) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              streamWebhooks,
		Description:       "Rollbook: how far webhooks have come, and what was parked",
		Subjects:          []string{subjectWebhooks + ">"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		MaxMsgSize:        maxPayload,
		Replicas:          l.Replicas,
		AllowDirect:       true,
		AllowRollup:       true,
		DenyDelete:        true,
	}
}

// Webhooks is the key-value bucket WEBHOOKS. It returns ErrNotCreated when there
// is none: the book was created by an older program, on a bus elsewhere.
func (b *Bus) Webhooks(ctx context.Context) (jetstream.KeyValue, error) {
	var kv *bucket
	err := b.permitted(ctx, apiStreamInfo+streamWebhooks, func(ctx context.Context) (err error) {
		kv, err = b.bucket(ctx, BucketWebhooks, "")
		return err
	})
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, fmt.Errorf("open the webhooks' bucket: %w", ErrNotCreated)
	}
	if err != nil {
		return nil, fmt.Errorf("open the webhooks' bucket: %w", err)
	}
	return kv, nil
}
