package session

import (
	"errors"
	"fmt"
)

// Bytes. An event is the msgpack array [kind, version, field, field, ...]; a command's or reply's body is [version,
// field, ...]. Fields are told apart by their place. A newer program appends fields at the end: an older one skips
// what it does not know, a newer one reads an older event with the missing fields zero. Only a change that this cannot
// carry raises the version, and then the old version's reader stays.
const codecVersion = 1

// ErrUndecodable says that bytes are not what this package wrote. The reader stops: skipping would be a silent gap.
var ErrUndecodable = errors.New("undecodable")

// ErrFromTheFuture says that bytes were written by a newer program in a form this one does not know: upgrade.
var ErrFromTheFuture = errors.New("written by a newer version")

// AppendEvent appends the stored form of the event to buf.
func AppendEvent(buf []byte, e Event) []byte {
	return write(buf, []uint64{e.kind(), codecVersion}, e.fields)
}

// DecodeEvent reads what [AppendEvent] wrote, in this or an earlier version of the program.
func DecodeEvent(data []byte) (Event, error) {
	var e Event
	err := read(data, 2, func(lead []uint64) (fielder, error) {
		if e = newEvent(lead[0]); e == nil {
			return nil, fmt.Errorf("event kind %d: %w", lead[0], ErrFromTheFuture)
		}
		return e, checkVersion(lead[1])
	})
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return e, nil
}

// EncodeCommand gives the body in which the command travels; the verb travels beside it.
func EncodeCommand(cmd Command) []byte {
	return write(nil, []uint64{codecVersion}, cmd.fields)
}

// DecodeCommand reads what [EncodeCommand] wrote.
func DecodeCommand(verb Verb, body []byte) (Command, error) {
	cmd := newCommand(verb)
	if cmd == nil {
		return nil, fmt.Errorf("command %q: %w", verb, ErrFromTheFuture)
	}
	err := read(body, 1, func(lead []uint64) (fielder, error) { return cmd, checkVersion(lead[0]) })
	if err != nil {
		return nil, fmt.Errorf("command %s: %w", verb, err)
	}
	return cmd, nil
}

// EncodeReply gives the body in which a reply travels.
func EncodeReply(r Reply) []byte {
	return write(nil, []uint64{codecVersion}, r.fields)
}

// DecodeReply reads what [EncodeReply] wrote.
func DecodeReply(body []byte) (Reply, error) {
	var r Reply
	err := read(body, 1, func(lead []uint64) (fielder, error) { return &r, checkVersion(lead[0]) })
	if err != nil {
		return Reply{}, fmt.Errorf("reply: %w", err)
	}
	return r, nil
}

func checkVersion(v uint64) error {
	if v != codecVersion {
		return fmt.Errorf("version %d: %w", v, ErrFromTheFuture)
	}
	return nil
}
