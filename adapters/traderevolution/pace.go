package traderevolution

import (
	"net/netip"
	"sync"
	"time"
)

// pace bounds how often each caller may call, by the generic cell rate algorithm: one instant a caller says when its
// allowance is full again. A caller whose allowance is full is forgotten, so memory is bounded by those who called lately.
type pace struct {
	every, burst time.Duration // between calls; how far ahead of that a caller may be

	mu    sync.Mutex
	full  map[netip.Addr]time.Time // guarded by mu: when the caller's allowance is full again
	swept time.Time                // guarded by mu: when those who were full were last forgotten
}

// maxCallers is how many callers are remembered. Beyond it nobody new is paced: the calls are then bounded by the gate's
// own queue, and turning strangers away would let one caller with many addresses lock out the others.
const maxCallers = 1 << 16

func newPace(perSecond int) *pace {
	if perSecond < 0 {
		return nil
	}
	every := time.Second / time.Duration(perSecond)
	return &pace{every: every, burst: 2 * time.Duration(perSecond) * every, full: make(map[netip.Addr]time.Time)}
}

// wait is how long the caller has to wait before it may call again; zero: it may now, and this call is counted.
func (p *pace) wait(now time.Time, from netip.Addr) time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.swept) > p.burst {
		p.swept = now
		for caller, full := range p.full {
			if !full.After(now) {
				delete(p.full, caller)
			}
		}
	}
	full, known := p.full[from]
	if !known && len(p.full) >= maxCallers {
		return 0
	}
	if full.Before(now) {
		full = now
	}
	if over := full.Add(p.every).Sub(now) - p.burst; over > 0 {
		return over
	}
	p.full[from] = full.Add(p.every)
	return 0
}

// caller is whom an address is counted as: the IPv4 address, or the IPv6 network that one customer has (RFC 6177).
func caller(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{} // not TCP: all such callers are one
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return addr
}
