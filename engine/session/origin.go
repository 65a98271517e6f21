package session

import (
	"errors"
	"fmt"
	"net/netip"
)

// Origin is where a client was when it asked: personal data. Clear it is seen by the pod that the client asks, and by
// whoever opens it again; commands and events carry it sealed, as bytes that mean nothing to this package, and no state
// keeps it. The key is the user's own and lives in the directory: without it what the book holds says nothing any more.
type Origin struct {
	Address netip.Addr // of the client, or of the last one behind whom nobody is trusted; invalid: not known
	Agent   string     // the client software as its HTTP header names it, at most 128 bytes; may be empty
	Name    string     // the login name as it was presented, at most 128 bytes; empty when none was
}

// The bounds of an origin's texts, in bytes. What is longer is cut before it is sealed.
const (
	MaxAgent      = 128
	MaxOriginName = 128
)

// maxOrigin bounds a sealed origin, in bytes: what the longest texts take, padded, with nonce and tag.
const maxOrigin = 512

// EncodeOrigin gives the bytes that are sealed. Their form grows as the events' does.
func EncodeOrigin(o Origin) []byte { return write(nil, []uint64{codecVersion}, o.fields) }

// DecodeOrigin reads what [EncodeOrigin] wrote.
func DecodeOrigin(data []byte) (Origin, error) {
	var o Origin
	err := read(data, 1, func(lead []uint64) (fielder, error) { return &o, checkVersion(lead[0]) })
	if err != nil {
		return Origin{}, fmt.Errorf("origin: %w", err)
	}
	return o, nil
}

func (o *Origin) fields(c *coder) {
	address := o.Address.AsSlice()
	c.blob(&address)
	if c.mode == reading && len(address) > 0 {
		var whole bool
		if o.Address, whole = netip.AddrFromSlice(address); !whole {
			c.fail(errors.New("an address of neither 4 nor 16 bytes"))
		}
	}
	text(c, &o.Agent)
	text(c, &o.Name)
}

// blob transfers bytes of any length; none are written as nil, one byte.
func (c *coder) blob(v *[]byte) {
	if !c.next() {
		return
	}
	if c.mode == writing {
		if len(*v) == 0 {
			c.fail(c.enc.EncodeNil())
		} else {
			c.fail(c.enc.EncodeBytes(*v))
		}
		return
	}
	n, err := c.dec.DecodeBytesLen()
	if err != nil || n > c.src.Len() {
		c.fail(errors.New("bytes are cut off"))
		return
	}
	*v = nil
	if n > 0 {
		*v = make([]byte, n)
		c.fail(c.dec.ReadFull(*v))
	}
}
