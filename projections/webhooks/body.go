package webhooks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// body is what is posted: one event.
type body struct {
	Type     session.EventType `json:"type"`
	Time     time.Time         `json:"timestamp"` // of the book's clock
	Position string            `json:"position"`  // partition/page/index
	User     session.UserID    `json:"user,omitempty"`
	Data     session.Details   `json:"data"`
}

// Body is the JSON that is posted for an event: its type, its time by the book's clock, its position, its user (an opaque
// id), and its other fields by name. Left out are hashes of tokens, which are of no use to anybody who should have them,
// and what is sealed for the operator's eyes.
func Body(at bus.Position, e session.Event) ([]byte, error) {
	b := body{Type: e.Type(), Time: e.When().Time(), Position: at.String(), Data: session.Details{}}
	for _, d := range session.Describe(e) {
		switch v := d.Value.(type) {
		case session.TokenHash, []session.TokenHash, session.Handle, []byte:
			continue
		case session.UserID:
			if d.Name == "user" {
				b.User = v
				continue
			}
		}
		if d.Name != "at" {
			b.Data = append(b.Data, d)
		}
	}
	return json.Marshal(b)
}

// idOf is the header webhook-id: the same for every attempt, by whatever process. It holds a part of the event's hash: after
// a restore from a backup another event may stand at the same position, and a receiver that knows the position must not
// take it for the old one.
func idOf(at bus.Position, stored []byte) string {
	sum := sha256.Sum256(stored)
	return fmt.Sprintf("evt_%d_%d_%d_%s", at.Partition, at.Page, at.Index, hex.EncodeToString(sum[:8]))
}
