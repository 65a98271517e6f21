package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// refusals tells whoever waits for an answer that the server has refused the
// question. The server says so beside the connection's other traffic, in a text
// that names the subject, and to the question itself nothing ever comes: without
// this, "not permitted" would look like "away". A text that a later version words
// differently is a time-out again.
type refusals struct {
	mu      sync.Mutex
	waiting map[string]map[*context.CancelCauseFunc]bool // guarded by mu: by subject
}

// during gives a context that ends with ErrNotPermitted when the server refuses
// what is published to the subject.
func (r *refusals) during(ctx context.Context, subject string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[string]map[*context.CancelCauseFunc]bool{}
	}
	if r.waiting[subject] == nil {
		r.waiting[subject] = map[*context.CancelCauseFunc]bool{}
	}
	r.waiting[subject][&cancel] = true
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting[subject], &cancel)
		if len(r.waiting[subject]) == 0 {
			delete(r.waiting, subject)
		}
		cancel(nil)
	}
}

// heard takes an error that the server told; it reports whether somebody waited
// for it, who will say so.
func (r *refusals) heard(err error) bool {
	subject, ok := refusedSubject(err)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for cancel := range r.waiting[subject] {
		(*cancel)(fmt.Errorf("%w: %s", ErrNotPermitted, subject))
	}
	return len(r.waiting[subject]) > 0
}

// refusedSubject is the subject that a permission violation names.
func refusedSubject(err error) (string, bool) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return "", false
	}
	_, rest, ok := strings.Cut(err.Error(), ` to "`)
	if !ok {
		return "", false
	}
	subject, _, ok := strings.Cut(rest, `"`)
	return subject, ok
}

// request asks once, for apiTimeout at the most. Errors: ErrNotPermitted,
// ErrClosed, ctx's, or the client library's.
func (b *Bus) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	ctx, stop := b.refusals.during(ctx, subject)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(limited, subject, data)
	if err == nil {
		return msg, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return nil, closedOr(err)
}

// permitted does what publishes to the subject, and says so when that is refused.
func (b *Bus) permitted(ctx context.Context, subject string, do func(context.Context) error) error {
	guarded, stop := b.refusals.during(ctx, subject)
	defer stop()
	err := do(guarded)
	if err != nil && errors.Is(context.Cause(guarded), ErrNotPermitted) {
		return context.Cause(guarded)
	}
	return err
}
