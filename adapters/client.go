package adapters

import (
	"net/http"
	"net/netip"
	"strings"

	"rollbook/engine/session"
)

// OriginOf is where the client of a request is, as far as the HTTP says: its address, and its software in its own words.
// Behind proxies the address is right when [Proxies.Handler] stands in front. The gate seals it before it goes anywhere;
// nobody logs it.
func OriginOf(r *http.Request) session.Origin {
	return session.Origin{Address: addressOf(r.RemoteAddr), Agent: r.UserAgent()}
}

// seal has the directory seal where a client is, its texts made valid and cut to their bounds.
func (g *Gate) seal(user session.UserID, o session.Origin) []byte {
	o.Agent = clip(strings.ToValidUTF8(o.Agent, "\uFFFD"), session.MaxAgent)
	o.Name = clip(strings.ToValidUTF8(o.Name, "\uFFFD"), session.MaxOriginName)
	return g.cfg.Directory.Seal(user, o)
}

// addressOf reads the address of a connection's other end; invalid: it is not TCP.
func addressOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddress(at.Addr())
}

// plainAddress is the one spelling that an address has here: IPv4 as such, and no zone, which means nothing elsewhere.
func plainAddress(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
