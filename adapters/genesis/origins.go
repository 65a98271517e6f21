package genesis

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// loopback in a list of origins stands for every page of this machine.
const loopback = "loopback"

// origins says which pages may call from elsewhere (the CORS protocol: Fetch Standard, 3.3). All of it is about pages
// in browsers, and protects their users: a program sends whatever Origin it likes, but has nobody else's cookies.
type origins struct {
	exact    map[string]bool // in lower case
	loopback bool
}

func newOrigins(allowed []string) origins {
	o := origins{exact: make(map[string]bool, len(allowed))}
	for _, origin := range allowed {
		if origin == loopback {
			o.loopback = true
			continue
		}
		o.exact[strings.ToLower(origin)] = true
	}
	return o
}

// permits reports whether the request comes from a page that may call, or from no page.
func (o origins) permits(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || o.exact[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // such as "null": a page whose origin nobody may know
	}
	if strings.EqualFold(u.Host, r.Host) && (!reachedByLoopback(r) || isLoopback(u.Hostname())) {
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

// mayAct reports whether a request that cookies may have authorised comes from where it may. A browser names the origin
// with every POST and socket, but not with a link that is followed or a picture that is loaded; of those Sec-Fetch-Site
// tells (Fetch Metadata, 2.3), which no page can set. Its word that page and service have one origin counts too where a
// proxy has changed the Host. Without either header it is no browser of today, and nobody's page.
func (o origins) mayAct(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	if site == "same-origin" {
		return true
	}
	if r.Header.Get("Origin") == "" {
		return site == "" || site == "none" // none: the user typed it
	}
	return o.permits(r)
}

// allow tells the browser that the page may read the reply. The origin is named, never "*", because the clients send
// credentials.
func (o origins) allow(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && o.permits(r) {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Credentials", "true")
		header.Set("Access-Control-Expose-Headers", "Retry-After")
	}
}

// requestHeaders are what pages may send, in both spellings.
const requestHeaders = "content-type, source-ref, source_ref, session-auth-token, session_auth_token, session-id, " +
	"session_id, refresh-auth-token, refresh_auth_token, user-name, user_name"

// preflight answers a browser that asks before it calls, the same for every path. Whether the origin may call is said
// by [origins.allow].
func (h *Handler) preflight(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Allow", "GET, HEAD, POST, OPTIONS")
	if header.Get("Access-Control-Allow-Origin") != "" {
		header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
		header.Set("Access-Control-Allow-Headers", requestHeaders)
		header.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}
