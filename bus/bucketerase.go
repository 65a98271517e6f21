package bus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that drops a message, because a newer one takes its place or a purge
// asks for it, leaves the bytes in the file until it compacts that, which of a
// small stream it never does. What is deleted by its sequence is overwritten at
// once. So a bucket that erases keeps two revisions of a key: the newer one is
// written, then the older one is erased. A crash in between leaves both; the next
// write of the key erases the older one first, and so does PurgeDeletes.
//
// In a cluster the servers' own logs hold a copy until their next snapshot.

// Update writes a value over the named revision, and in a bucket that erases has
// that overwritten on the disk. With an error after the write the value may stand.
func (k *bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if !k.erases {
		return k.KeyValue.Update(ctx, key, value, revision)
	}
	if err := k.eraseOld(ctx, key); err != nil {
		return 0, err
	}
	now, err := k.KeyValue.Update(ctx, key, value, revision)
	if err == nil {
		err = k.eraseOld(ctx, key)
	}
	return now, err
}

// Purge puts a marker in the place of a value. A bucket that erases has the value
// overwritten on the disk, and PurgeDeletes does the same with the marker.
func (k *bucket) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	if !k.erases {
		return k.KeyValue.Purge(ctx, key, opts...)
	}
	if err := k.KeyValue.Delete(ctx, key, opts...); err != nil {
		return err
	}
	return k.eraseOld(ctx, key)
}

// eraseOld erases all revisions of a key but the newest, the oldest first: the
// newest never comes to be one that was replaced.
func (k *bucket) eraseOld(ctx context.Context, key string) error {
	last, err := k.find(ctx, fmt.Appendf(nil, `{"last_by_subj":%q}`, k.prefix+key))
	for at := uint64(0); err == nil; {
		var first uint64
		first, err = k.find(ctx, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, at+1, k.prefix+key))
		if err != nil || first == 0 || first >= last {
			break
		}
		err = k.erase(ctx, first)
		at = first
	}
	if err != nil {
		return fmt.Errorf("erase what was replaced in the bucket %s: %w", k.Bucket(), err)
	}
	return nil
}

// find is the sequence of the message that the stream's leader finds; 0: none.
func (k *bucket) find(ctx context.Context, request []byte) (uint64, error) {
	msg, err := k.bus.request(ctx, apiMessageGet+k.stream, request)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Error   *apiError `json:"error"`
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return 0, fmt.Errorf("read the leader's answer about %s: %w", k.stream, err)
	case answer.Error != nil && answer.Error.ErrCode == codeNoMessage:
		return 0, nil
	case answer.Error != nil:
		return 0, answer.Error
	}
	return answer.Message.Seq, nil
}

// erase has the server overwrite a message. One that is gone already is no error:
// another command was faster.
func (k *bucket) erase(ctx context.Context, sequence uint64) error {
	msg, err := k.bus.request(ctx, apiMessageDelete+k.stream, fmt.Appendf(nil, `{"seq":%d}`, sequence))
	if err != nil {
		return err
	}
	var answer struct {
		Error   *apiError `json:"error"`
		Success bool      `json:"success"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return fmt.Errorf("read the leader's answer about %s: %w", k.stream, err)
	}
	if answer.Success {
		return nil
	}
	still, err := k.find(ctx, fmt.Appendf(nil, `{"seq":%d}`, sequence))
	switch {
	case err != nil:
		return err
	case still == 0:
		return nil
	case answer.Error != nil:
		return answer.Error
	}
	return fmt.Errorf("the server did not erase message %d of %s", sequence, k.stream)
}
