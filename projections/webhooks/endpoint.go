package webhooks

import (
	"crypto/x509"
	"fmt"
	"net"
	neturl "net/url"
	"slices"
	"time"

	"rollbook/engine/session"
)

// Endpoint is where events are posted to.
type Endpoint struct {
	Name    string              // lower-case letters, digits, '-' and '_', 1 to 40: it names the endpoint's position for ever
	URL     string              // https; http for this machine alone. No user in it
	Secrets []Secret            // the first, and during a rotation the one before; 1 or 2
	Types   []session.EventType // only these; none: all
	Venues  []session.Venue     // of the events that name a venue, only these; events that name none pass. None: all
	// FromBeginning has a new endpoint get the whole book. Otherwise it gets what is written after it was first seen.
	FromBeginning bool
	// Timeout bounds one attempt. Zero: 10 s.
	Timeout time.Duration
	// Attempts is after how many an event is parked. Zero: 40, about a day with the usual pauses.
	Attempts int
	// Parallel is how many attempts may be in flight for one partition, each of another user. Zero: 8.
	Parallel int
	// Private lets the name resolve to an address of a private network, or of this machine.
	Private bool
	// Roots are the authorities that may have signed the endpoint's certificate. Nil: the system's.
	Roots *x509.CertPool
}

func (e Endpoint) withDefaults() Endpoint {
	if e.Timeout <= 0 {
		e.Timeout = 10 * time.Second
	}
	if e.Attempts <= 0 {
		e.Attempts = 40
	}
	if e.Parallel <= 0 {
		e.Parallel = 8
	}
	return e
}

// Check refuses what no endpoint can be. The error shows no secret, and of the URL nothing but its host.
func (e Endpoint) Check() error {
	if !validName(e.Name) {
		return fmt.Errorf("webhook endpoint %q: a name has 1 to 40 lower-case letters, digits, '-' and '_'", e.Name)
	}
	u, err := neturl.Parse(e.URL)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("webhook endpoint %s: its URL can not be read", e.Name)
	case u.User != nil:
		return fmt.Errorf("webhook endpoint %s: a URL with a user in it would be logged by every proxy on the way", e.Name)
	case u.Scheme == "http" && !thisMachine(u.Hostname()):
		return fmt.Errorf("webhook endpoint %s: http is for this machine alone, use https for %s", e.Name, u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("webhook endpoint %s: its URL is not https", e.Name)
	case len(e.Secrets) < 1 || len(e.Secrets) > 2:
		return fmt.Errorf("webhook endpoint %s: it takes one secret, and during a rotation two", e.Name)
	case e.Timeout > time.Minute:
		return fmt.Errorf("webhook endpoint %s: an attempt may take a minute at the most", e.Name)
	case e.Parallel > 256:
		return fmt.Errorf("webhook endpoint %s: 256 attempts in parallel are the most", e.Name)
	}
	for _, t := range e.Types {
		if !slices.Contains(session.EventTypes(), t) {
			return fmt.Errorf("webhook endpoint %s: there is no event of the type %q", e.Name, t)
		}
	}
	return nil
}

func validName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return name != "" && len(name) <= 40
}

// thisMachine reports whether a host is this machine by its very name.
func thisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// wantsType and wantsVenue report whether the endpoint gets an event: it gets those that both say yes to.
func (e *Endpoint) wantsType(t session.EventType) bool {
	return len(e.Types) == 0 || slices.Contains(e.Types, t)
}

func (e *Endpoint) wantsVenue(event session.Event) bool {
	if len(e.Venues) == 0 {
		return true
	}
	venue, named := session.Describe(event).Get("venue").(session.Venue)
	return !named || venue == session.NoVenue || slices.Contains(e.Venues, venue)
}
