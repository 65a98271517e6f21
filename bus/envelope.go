package bus

import (
	"encoding/binary"
	"errors"
	"strings"
)

// The two messages between an adapter and a writer are written by hand, because
// each command pays for them: as headers they would cost more than the rest of
// a command's way. All numbers are big endian.
//
//	command:  version 1 | id 16 | token 8 | inbox length 1 | inbox | body
//	outcomes: version 1 | { token 8 | page 8 | index 4 | body length 4 | body } ...
//
// The token is the submitter's own number for the call; the writer hands it
// back. One message carries all outcomes that go to the same inbox.

const (
	envelopeVersion = 1
	envelopeHead    = 1 + 16 + 8 + 1
	outcomeHead     = 8 + 8 + 4 + 4
)

// maxInbox bounds an inbox, in bytes: its length is one byte on the wire.
const maxInbox = 255

// appendCommand writes a command's envelope.
func appendCommand(buf []byte, id CommandID, token uint64, inbox string, body []byte) []byte {
	buf = append(buf, envelopeVersion)
	buf = append(buf, id[:]...)
	buf = binary.BigEndian.AppendUint64(buf, token)
	buf = append(buf, byte(len(inbox)))
	buf = append(buf, inbox...)
	return append(buf, body...)
}

// decodeCommand reads an envelope. Inbox and body are slices into b.
func decodeCommand(b []byte) (id CommandID, token uint64, inbox, body []byte, err error) {
	if len(b) < envelopeHead || b[0] != envelopeVersion {
		return id, 0, nil, nil, errors.New("not a command envelope")
	}
	id = CommandID(b[1:17])
	token = binary.BigEndian.Uint64(b[17:25])
	rest := b[envelopeHead:]
	n := int(b[25])
	if len(rest) < n {
		return id, 0, nil, nil, errors.New("a command envelope that ends in its inbox")
	}
	return id, token, rest[:n:n], rest[n:], nil
}

// checkInbox refuses what is not an inbox. The sender of a command names the
// subject that the writer publishes to; were any subject allowed, a sender
// could have a writer put bytes into a book, past the fence.
func checkInbox(inbox string) error {
	if !strings.HasPrefix(inbox, inboxPrefix) || strings.ContainsAny(inbox, "*> \t\r\n") ||
		strings.Contains(inbox, "..") || strings.HasSuffix(inbox, ".") {
		return errors.New("a command whose outcome is not to go to an inbox")
	}
	return nil
}

// appendOutcome adds one outcome to a message, and begins it when buf is empty.
func appendOutcome(buf []byte, token uint64, r Reply) []byte {
	if len(buf) == 0 {
		buf = append(buf, envelopeVersion)
	}
	buf = binary.BigEndian.AppendUint64(buf, token)
	buf = binary.BigEndian.AppendUint64(buf, r.Position.Page)
	buf = binary.BigEndian.AppendUint32(buf, r.Position.Index)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(r.Body)))
	return append(buf, r.Body...)
}

// eachOutcome calls fn with the outcomes of a message, in order. The bodies are
// slices into b. A message that breaks off gives those before the break.
func eachOutcome(b []byte, fn func(token, page uint64, index uint32, body []byte)) {
	if len(b) == 0 || b[0] != envelopeVersion {
		return
	}
	for b = b[1:]; len(b) >= outcomeHead; {
		token, page := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		index, n := binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
		b = b[outcomeHead:]
		if uint64(n) > uint64(len(b)) {
			return
		}
		fn(token, page, index, b[:n:n])
		b = b[n:]
	}
}
