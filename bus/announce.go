package bus

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Announcement is a writer's sign of life. It is a hint and proves nothing:
// what keeps two writers apart is the fence of Append.
type Announcement struct {
	Epoch uint64 // the writer's
	Last  uint64 // the sequence of the last page it knows to be stored
	Time  int64  // its clock, unix ns
}

const announcementVersion = 1

// Announce tells whoever listens. It may be lost; it is not repeated.
func (k *Book) Announce(a Announcement) error {
	b := append(make([]byte, 0, 25), announcementVersion)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	b = binary.BigEndian.AppendUint64(b, a.Last)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Time))
	if err := k.bus.nc.Publish(AnnounceSubject(k.p), b); err != nil {
		return fmt.Errorf("announce the writer of partition %s: %w", k.p, closedOr(err))
	}
	return nil
}

// Announcements calls fn with each announcement that arrives from now on, on a
// goroutine of its own. stop ends it and returns when fn will not be called
// again; it must not be called from fn.
func (k *Book) Announcements(fn func(Announcement)) (stop func(), err error) {
	stop, err = k.bus.subscribe(AnnounceSubject(k.p), func(m *nats.Msg) {
		if a, err := decodeAnnouncement(m.Data); err == nil {
			fn(a)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen for the writer of partition %s: %w", k.p, err)
	}
	return stop, nil
}

// decodeAnnouncement takes what is longer too: fields are added at the end.
func decodeAnnouncement(b []byte) (Announcement, error) {
	if len(b) < 25 || b[0] != announcementVersion {
		return Announcement{}, errors.New("not an announcement")
	}
	return Announcement{
		Epoch: binary.BigEndian.Uint64(b[1:]),
		Last:  binary.BigEndian.Uint64(b[9:]),
		Time:  int64(binary.BigEndian.Uint64(b[17:])),
	}, nil
}
