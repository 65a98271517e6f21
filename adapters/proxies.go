package adapters

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// The headers in which a proxy says for whom it asks.
const (
	XForwardedFor = "x-forwarded-for" // the custom of most proxies: a list of addresses
	Forwarded     = "forwarded"       // RFC 7239
)

// maxHops bounds how many proxies may stand behind one another. What lies beyond is not looked at.
const maxHops = 32

// Proxies are those in front of this service whose word about their clients counts. Its zero value trusts nobody.
type Proxies struct {
	trusted []netip.Prefix
	header  string
}

// NewProxies trusts proxies with addresses in these networks: each a prefix such as 10.0.0.0/8, or one address. header is
// [XForwardedFor] or [Forwarded]: the one that they write. The other is never looked at, because a proxy that does not
// know a header passes on what a client has put there.
func NewProxies(networks []string, header string) (*Proxies, error) {
	p := &Proxies{header: header}
	if header != XForwardedFor && header != Forwarded {
		return nil, fmt.Errorf("%q is no header in which a proxy names its client: use %s or %s", header, XForwardedFor, Forwarded)
	}
	for _, text := range networks {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var one netip.Addr
			if one, err = netip.ParseAddr(text); err == nil && one.Zone() == "" {
				prefix = netip.PrefixFrom(one, one.BitLen())
			}
		}
		switch {
		case err != nil || !prefix.IsValid():
			return nil, fmt.Errorf("trusted proxy %q: write an address, or a network such as 10.0.0.0/8", text)
		case prefix.Addr().Is4In6():
			return nil, fmt.Errorf("trusted proxy %q: write IPv4 as such", text)
		case prefix != prefix.Masked():
			return nil, fmt.Errorf("trusted proxy %q: the network is %s", text, prefix.Masked())
		}
		p.trusted = append(p.trusted, prefix)
	}
	return p, nil
}

// Handler has next see the client's address as the request's RemoteAddr, where a trusted proxy tells it. The port is then
// 0: it is not known. Without trusted proxies it is next itself.
func (p *Proxies) Handler(next http.Handler) http.Handler {
	if len(p.trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := addressOf(r.RemoteAddr)
		if client := p.client(peer, r.Header); client != peer {
			r = r.WithContext(r.Context()) // a copy: the server's own stays as it is
			r.RemoteAddr = net.JoinHostPort(client.String(), "0")
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Proxies) trusts(a netip.Addr) bool {
	for _, network := range p.trusted {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// client goes from the connection's other end towards the client, one hop at a time, for as long as the one who speaks is
// trusted: each has put the address it was called from at the end of the list. It stops at the first address that is not
// trusted, and before whatever is no address: then the last known one is the answer. What stands further to the left is
// what a client claims, and is not read.
func (p *Proxies) client(peer netip.Addr, header http.Header) netip.Addr {
	at, rest := peer, strings.Join(header.Values(p.header), ",")
	for range maxHops {
		if !p.trusts(at) || rest == "" {
			break
		}
		var hop string
		rest, hop = lastOf(rest, ',')
		next, ok := p.address(hop)
		if !ok {
			break
		}
		at = next
	}
	return at
}

// address reads one element of the header.
func (p *Proxies) address(element string) (netip.Addr, bool) {
	node := strings.Trim(element, " \t")
	if p.header == Forwarded {
		var ok bool
		if node, ok = forOf(element); !ok {
			return netip.Addr{}, false
		}
	}
	// With a port or without, IPv6 in brackets or, without a port, bare.
	if at, err := netip.ParseAddrPort(node); err == nil {
		return plainAddress(at.Addr()), true
	}
	if inner, bracketed := strings.CutPrefix(node, "["); bracketed && strings.HasSuffix(inner, "]") {
		node = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(node)
	return plainAddress(a), err == nil
}

// forOf is the one parameter "for" of an element of Forwarded, without its quotes.
func forOf(element string) (node string, ok bool) {
	for rest := element; rest != ""; {
		var pair string
		rest, pair = lastOf(rest, ';')
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if ok {
			return "", false // twice: whoever wrote it is not to be understood
		}
		node, ok = value, true
	}
	if inner, quoted := strings.CutPrefix(node, `"`); quoted {
		node = strings.TrimSuffix(inner, `"`)
	}
	return node, ok
}

// lastOf splits a list before its last separator outside of quotes. It reads from the right, so that a quote which a
// client has left open, further to the left, swallows nothing of what the proxies have added.
func lastOf(list string, separator byte) (rest, last string) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"' && !escaped(list[:i]):
			quoted = !quoted
		case list[i] == separator && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return "", list
}

// escaped reports whether what follows the text is taken literally: an odd number of backslashes stands before it.
func escaped(before string) bool {
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}
