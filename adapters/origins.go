package adapters

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Words that stand for more than one origin.
const (
	Loopback  = "loopback" // every page of this machine: http and https on localhost, 127.0.0.0/8 and [::1], on any port
	AnyOrigin = "*"        // every page there is
)

// OriginRules say which pages may call from elsewhere (the CORS protocol: Fetch Standard, 3.3). All of it is about pages
// in browsers, and protects their users: a program sends whatever Origin it likes, but has nobody else's cookies.
type OriginRules struct {
	// Allowed are the origins, such as "https://app.example.com"; [Loopback] and, of a Public venue, [AnyOrigin] may
	// stand among them.
	Allowed []string
	// Public says that nothing which a browser adds by itself authorises a call here. Then no page is told that it may
	// send such things, and a page counts only by the list. Otherwise a page on the host that the request names may
	// call too.
	Public bool
	// Headers are what pages may send, as Access-Control-Allow-Headers lists them.
	Headers string
}

// Validate says in one sentence what is wrong with the list; nil when nothing is.
func (r OriginRules) Validate() error {
	word := Loopback
	if r.Public {
		word = AnyOrigin
	}
	for _, origin := range r.Allowed {
		if origin == word {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" ||
			origin != u.Scheme+"://"+u.Host || strings.ContainsRune(u.Host, '*') {
			return fmt.Errorf("allowed origin %q: write scheme://host or scheme://host:port, or the word %q", origin, word)
		}
	}
	return nil
}

// Origins judges where requests come from. It is safe for concurrent use.
type Origins struct {
	rules         OriginRules
	exact         map[string]bool // in lower case
	loopback, any bool
}

// NewOrigins makes the judge of valid rules.
func NewOrigins(rules OriginRules) *Origins {
	o := &Origins{rules: rules, exact: make(map[string]bool, len(rules.Allowed))}
	for _, origin := range rules.Allowed {
		switch origin {
		case Loopback:
			o.loopback = true
		case AnyOrigin:
			o.any = rules.Public
		default:
			o.exact[strings.ToLower(origin)] = true
		}
	}
	return o
}

// Permits reports whether the request comes from a page that may call, or from no page.
func (o *Origins) Permits(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || o.any || o.exact[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // such as "null": a page whose origin nobody may know
	}
	if !o.rules.Public && strings.EqualFold(u.Host, r.Host) && (!reachedByLoopback(r) || isLoopback(u.Hostname())) {
		return true
	}
	return o.loopback && (u.Scheme == "http" || u.Scheme == "https") && isLoopback(u.Hostname())
}

// reachedByLoopback reports whether the request came over a loopback address. There its Host proves nothing: a page's
// owner can let the page's own name point to 127.0.0.1 (DNS rebinding), and page and Host then have one name. Behind a
// proxy on this machine the origin has to be listed for the same reason.
func reachedByLoopback(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && at.IP.IsLoopback()
}

// isLoopback reports whether a host name can stand for nothing but this machine.
func isLoopback(name string) bool {
	return strings.EqualFold(name, "localhost") || net.ParseIP(name).IsLoopback()
}

// MayAct reports whether a request that cookies may have authorised comes from where it may. A browser names the origin
// with every POST and socket, but not with a link that is followed or a picture that is loaded; of those Sec-Fetch-Site
// tells (Fetch Metadata, 2.3), which no page can set. Its word that page and service have one origin counts too where a
// proxy has changed the Host. Without either header it is no browser of today, and nobody's page.
func (o *Origins) MayAct(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site == "same-origin" {
		return true
	}
	if r.Header.Get("Origin") == "" {
		return site == "" || site == "none" // none: the user typed it
	}
	return o.Permits(r)
}

// Allow tells the browser whether the page may read the reply. The origin is named, never "*", because clients may send
// credentials, and because replies that may be kept would else be one page's for all.
func (o *Origins) Allow(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && o.Permits(r) {
		header.Set("Access-Control-Allow-Origin", origin)
		if !o.rules.Public {
			header.Set("Access-Control-Allow-Credentials", "true")
		}
		header.Set("Access-Control-Expose-Headers", "Retry-After")
	}
}

// Preflight answers a browser that asks before it calls, the same for every path. Whether the origin may call has been
// said by [Origins.Allow].
func (o *Origins) Preflight(w http.ResponseWriter) {
	const methods = "GET, HEAD, POST, OPTIONS"
	header := w.Header()
	header.Set("Allow", methods)
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", methods)
		header.Set("Access-Control-Allow-Headers", o.rules.Headers)
		header.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}
