package subscribe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"rollbook/engine/session"
)

// Connect reaches a bus and keeps the connection up. creds is the path of a .creds file or of an nkey seed, such as the
// consumer.nk that `rollbook bus-config` writes, or the one in an embedded bus's data directory; empty connects without.
// The replies go below the user's public key, where a bus permits them.
func Connect(url, creds string, more ...nats.Option) (*nats.Conn, error) {
	opts := []nats.Option{nats.Name("rollbook consumer"), nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond)}
	if creds != "" {
		own, err := credentials(creds)
		if err != nil {
			return nil, fmt.Errorf("connect to the bus: %w", err)
		}
		opts = append(opts, own...)
	}
	nc, err := nats.Connect(url, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return nc, nil
}

func credentials(path string) ([]nats.Option, error) {
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := nkeys.ParseDecoratedNKey(seed)
	clear(seed)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	public, err := key.PublicKey()
	key.Wipe()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	inboxes := nats.CustomInboxPrefix("_INBOX." + public)
	if filepath.Ext(path) == ".creds" {
		return []nats.Option{nats.UserCredentials(path), inboxes}, nil
	}
	who, err := nats.NkeyOptionFromSeed(path)
	return []nats.Option{who, inboxes}, errors.Join(err)
}

// token is a user as one token of a subject: what has no place there stands as % and two hexadecimal digits.
func token(user session.UserID) string {
	switch user {
	case "":
		return noUser
	case noUser:
		return "%2D"
	}
	if user.Valid() {
		return string(user)
	}
	var b strings.Builder
	for i := range len(user) {
		if c := user[i]; session.UserID(c).Valid() && c < 0x80 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// venueOf is the venue that an event names.
func venueOf(e session.Event) (session.Venue, bool) {
	switch e := e.(type) {
	case *session.LoginRejected:
		return e.Venue, true
	case *session.SessionStarted:
		return e.Venue, true
	case *session.SessionsRevoked:
		return e.Venue, true
	case *session.OneTimeIssued:
		return e.Venue, true
	case *session.OneTimeRedeemed:
		return e.Venue, true
	case *session.LifetimesSet:
		return e.Venue, true
	}
	return 0, false
}
