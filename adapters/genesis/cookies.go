package genesis

import "net/http"

// cookieTokens are the tokens that a browser's cookies carry.
type cookieTokens struct{ access, refresh string }

// The cookies. Genesis does not document its names, and no script can read them.
const (
	accessCookie  = "SESSION_AUTH_TOKEN"
	refreshCookie = "REFRESH_AUTH_TOKEN"
)

// readCookies takes the tokens out of a request; none outside of cookie mode, and none of a request that a page from
// elsewhere has made: with SameSite=Lax the browser sends the cookies along when another site's link is followed, and
// that is no use of the session by its owner. A GET is then answered like one without cookies.
func (h *Handler) readCookies(r *http.Request) (tokens cookieTokens) {
	if !h.cfg.Cookies || !h.origins.MayAct(r) {
		return cookieTokens{}
	}
	if cookie, err := r.Cookie(h.cookieName(accessCookie)); err == nil {
		tokens.access = given(cookie.Value)
	}
	if cookie, err := r.Cookie(h.cookieName(refreshCookie)); err == nil {
		tokens.refresh = given(cookie.Value)
	}
	return tokens
}

// setCookies moves the tokens of a grant from the body into cookies, and takes them back after a logout.
func (h *Handler) setCookies(w http.ResponseWriter, a answer) {
	switch {
	case a.grant != nil:
		http.SetCookie(w, h.cookie(accessCookie, a.grant.Access, 0))
		http.SetCookie(w, h.cookie(refreshCookie, a.grant.Refresh, 0))
		if ack, ok := a.body.(*loginAck); ok {
			blank := ""
			ack.Access, ack.Refresh = "", &blank
		}
	case a.ended:
		http.SetCookie(w, h.cookie(accessCookie, "", -1))
		http.SetCookie(w, h.cookie(refreshCookie, "", -1))
	}
}

func (h *Handler) cookie(name, value string, maxAge int) *http.Cookie {
	shape := h.cfg.Cookie
	return &http.Cookie{Name: h.cookieName(name), Value: value, MaxAge: maxAge, Path: shape.Path, Domain: shape.Domain,
		Secure: !shape.Insecure, HttpOnly: true, SameSite: shape.SameSite}
}

// cookieName adds the prefix by which browsers refuse such a cookie from anyone but this host, where the shape allows.
func (h *Handler) cookieName(name string) string {
	if shape := h.cfg.Cookie; !shape.Insecure && shape.Domain == "" && shape.Path == "/" {
		return "__Host-" + name
	}
	return name
}
