package bus

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// EngineID names one run of a process with writers. The zero value names none.
type EngineID [8]byte

// NewEngineID mints an id from the system's random source (64 bits).
func NewEngineID() EngineID {
	var id EngineID
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails: it crashes the program instead
	return id
}

// String is the id in 16 hexadecimal digits.
func (id EngineID) String() string { return hex.EncodeToString(id[:]) }

// Announcement is a writer's sign of life, and its last word when it resigns.
// It is a hint and proves nothing: what keeps two writers apart is the fence of
// Append.
type Announcement struct {
	Epoch  uint64   // the writer's
	Last   uint64   // the sequence of the last page it knows to be stored
	Time   int64    // its clock, unix ns
	Engine EngineID // the process it is in; zero: it did not say

	Resigns   bool     // it has stopped writing: whoever stands by may take over at once
	Successor EngineID // when it resigns: who is to take over; zero: anybody
}

const (
	announcementVersion = 1
	announcementHead    = 1 + 3*8               // what every version has had
	announcementSize    = announcementHead + 17 // and engine, flags, successor
	announcedResigning  = 1
)

// Announce tells whoever listens. It may be lost; it is not repeated.
func (k *Book) Announce(a Announcement) error {
	if err := k.bus.nc.Publish(AnnounceSubject(k.p), encodeAnnouncement(a)); err != nil {
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

func encodeAnnouncement(a Announcement) []byte {
	b := append(make([]byte, 0, announcementSize), announcementVersion)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	b = binary.BigEndian.AppendUint64(b, a.Last)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Time))
	b = append(b, a.Engine[:]...)
	flags := byte(0)
	if a.Resigns {
		flags = announcedResigning
	}
	return append(append(b, flags), a.Successor[:]...)
}

// decodeAnnouncement takes what is longer too: fields are added at the end.
func decodeAnnouncement(b []byte) (Announcement, error) {
	if len(b) < announcementHead || b[0] != announcementVersion {
		return Announcement{}, errors.New("not an announcement")
	}
	a := Announcement{
		Epoch: binary.BigEndian.Uint64(b[1:]),
		Last:  binary.BigEndian.Uint64(b[9:]),
		Time:  int64(binary.BigEndian.Uint64(b[17:])),
	}
	if len(b) >= announcementSize {
		a.Engine = EngineID(b[25:33])
		a.Resigns = b[33]&announcedResigning != 0
		a.Successor = EngineID(b[34:42])
	}
	return a, nil
}

// Presence is what a process with writers says of itself: that it is there, and
// of which partitions it knows the book to its end. It is a hint, as an
// announcement is.
type Presence struct {
	Engine  EngineID
	Ready   uint64 // bit p: it writes partition p, or could take over at once
	Leaving bool   // its last word: it is stopping
}

const (
	presenceVersion = 1
	presenceSize    = 1 + 8 + 8 + 1
)

// AnnounceEngine tells whoever listens. It may be lost; it is not repeated.
func (b *Bus) AnnounceEngine(p Presence) error {
	data := append(make([]byte, 0, presenceSize), presenceVersion)
	data = append(data, p.Engine[:]...)
	data = binary.BigEndian.AppendUint64(data, p.Ready)
	leaving := byte(0)
	if p.Leaving {
		leaving = 1
	}
	if err := b.nc.Publish(EngineSubject(p.Engine), append(data, leaving)); err != nil {
		return fmt.Errorf("announce an engine: %w", closedOr(err))
	}
	return nil
}

// Engines calls fn with the presence of each process with writers, this one
// included, as it arrives from now on, on a goroutine of its own. stop is that of
// Announcements.
func (b *Bus) Engines(fn func(Presence)) (stop func(), err error) {
	stop, err = b.subscribe(subjectAllEngines, func(m *nats.Msg) {
		if p, err := decodePresence(m.Data); err == nil && m.Subject == EngineSubject(p.Engine) {
			fn(p)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen for engines: %w", err)
	}
	return stop, nil
}

// decodePresence takes what is longer too: fields are added at the end.
func decodePresence(b []byte) (Presence, error) {
	if len(b) < presenceSize || b[0] != presenceVersion {
		return Presence{}, errors.New("not an engine's presence")
	}
	return Presence{Engine: EngineID(b[1:9]), Ready: binary.BigEndian.Uint64(b[9:]), Leaving: b[17] != 0}, nil
}
