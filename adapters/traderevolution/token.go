package traderevolution

import (
	"context"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// pair is the reply to a login and to a refresh. The times are whole seconds from the moment of the login or refresh.
type pair struct {
	AccessToken          string `json:"accessToken"`
	AccessTokenLifeTime  int64  `json:"accessTokenLifeTime"`
	RefreshToken         string `json:"refreshToken"`
	RefreshTokenLifeTime int64  `json:"refreshTokenLifeTime"`
}

// newPair renders a grant. The book's own deadlines count: a session near its absolute end gives shorter lives than the
// settings do.
func newPair(g adapters.Grant) pair {
	s := &g.Session
	return pair{
		AccessToken: g.Access, AccessTokenLifeTime: lifetime(s.LastActive, s.AccessDeadline()),
		RefreshToken: g.Refresh, RefreshTokenLifeTime: lifetime(s.LastActive, s.RefreshDeadline()),
	}
}

// lifetime is the whole seconds between two instants; a started one does not count.
func lifetime(from, until session.Instant) int64 {
	return int64((until - from) / session.Instant(time.Second))
}

// login opens a session by login and password.
func (h *Handler) login(ctx context.Context, c *call) (any, *fault) {
	login, bad := c.body.text(fieldLogin, maxLogin)
	if bad != nil {
		return nil, bad
	}
	password, bad := c.body.text(fieldPassword, maxPassword)
	if bad != nil {
		return nil, bad
	}
	if login == "" || password == "" {
		return nil, &noCredentials
	}
	grant, refused, err := h.gate.Login(ctx, adapters.Login{Venue: venue, Name: login, Password: password, Form: adapters.URLSafe,
		Origin: c.origin})
	return h.granted("login", grant, refused, err)
}

// refresh renews the session of a refresh token. Though it is a GET it changes something; a client or a proxy that
// repeats it gets the same pair, as long as that has not been used and the policy's grace lasts.
func (h *Handler) refresh(ctx context.Context, c *call) (any, *fault) {
	token := c.token
	if token == "" && h.cfg.RefreshInBody {
		var bad *fault
		if token, bad = c.body.text(fieldToken, maxToken); bad != nil {
			return nil, bad
		}
	}
	if token == "" {
		return nil, h.refused(adapters.Refused{Code: session.InvalidToken})
	}
	grant, refused, err := h.gate.Refresh(ctx, adapters.Refresh{Venue: venue, Token: token, Form: adapters.URLSafe, Origin: c.origin})
	return h.granted("refresh", grant, refused, err)
}

func (h *Handler) granted(what string, grant adapters.Grant, refused adapters.Refused, err error) (any, *fault) {
	switch {
	case err != nil:
		return nil, h.failed(what, err)
	case refused.No():
		return nil, h.refused(refused)
	}
	return newPair(grant), nil
}
