package bus

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// AnnouncePod tells whoever listens that an adapter pod lives. It may be lost;
// it is not repeated. The id names one life of the pod.
func (b *Bus) AnnouncePod(id [16]byte) error {
	if err := b.nc.Publish(PodSubject(id), nil); err != nil {
		return fmt.Errorf("announce a pod: %w", closedOr(err))
	}
	return nil
}

// Pods calls fn with the id of each pod that announces itself from now on, on a
// goroutine of its own. stop ends it and returns when fn will not be called
// again; it must not be called from fn.
func (b *Bus) Pods(fn func(id [16]byte)) (stop func(), err error) {
	stop, err = b.subscribe(subjectAllPods, func(m *nats.Msg) {
		var id [16]byte
		text := strings.TrimPrefix(m.Subject, subjectPodPrefix)
		if len(text) == hex.EncodedLen(len(id)) {
			if _, err := hex.Decode(id[:], []byte(text)); err == nil {
				fn(id)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen for pods: %w", err)
	}
	return stop, nil
}
