package traderevolution

import (
	"context"
	"time"

	"rollbook/engine/session"
)

// settings is the reply with the settings, and the shape of a change of them: whole seconds.
type settings struct {
	AccessTokenLifeTime  int64 `json:"accessTokenLifeTime"`
	RefreshTokenLifeTime int64 `json:"refreshTokenLifeTime"`
	OneTimeTokenLifeTime int64 `json:"oneTimeTokenLifeTime"`
}

// Bounds of the settings. That access tokens die before refresh tokens is for the book to see to, which knows both.
const (
	minLifetime = time.Second
	maxLifetime = 30 * 24 * time.Hour
	minOneTime  = 5 * time.Second
	maxOneTime  = 5 * time.Minute
)

// settings tells an operator how long tokens live.
func (h *Handler) settings(ctx context.Context, c *call) (any, *fault) {
	if f := h.operator(c); f != nil {
		return nil, f
	}
	return h.setLifetimes(ctx, c, session.Lifetimes{})
}

// changeSettings changes what the body names (as JSON Merge Patch does, RFC 7396), for the tokens made from now on. A
// setting cannot be taken away, so null is refused.
func (h *Handler) changeSettings(ctx context.Context, c *call) (any, *fault) {
	if f := h.operator(c); f != nil {
		return nil, f
	}
	var change session.Lifetimes
	for _, s := range []struct {
		field    field
		into     *time.Duration
		min, max time.Duration
	}{
		{fieldAccessLife, &change.Access, minLifetime, maxLifetime},
		{fieldRefreshLife, &change.Refresh, minLifetime, maxLifetime},
		{fieldOneTimeLife, &change.OneTime, minOneTime, maxOneTime},
	} {
		if _, given := c.body[s.field.member()]; !given {
			continue
		}
		seconds, bad := member[int64](c.body, s.field)
		switch {
		case bad != nil:
			return nil, bad
		case seconds < int64(s.min/time.Second) || seconds > int64(s.max/time.Second):
			return nil, s.field.fault(outOfRange)
		}
		*s.into = time.Duration(seconds) * time.Second
	}
	return h.setLifetimes(ctx, c, change)
}

// setLifetimes changes what is not zero in change, and renders what is so from then on.
func (h *Handler) setLifetimes(ctx context.Context, c *call, change session.Lifetimes) (any, *fault) {
	now, refused, err := h.gate.Lifetimes(ctx, venue, change)
	switch {
	case err != nil:
		return nil, h.failed("settings", err)
	case refused.Code == session.InvalidCommand && change != (session.Lifetimes{}):
		return nil, fieldWhole.fault(outOfRange) // each is in its range, together they make no policy
	case refused.No():
		return nil, h.refused(refused)
	}
	if change != (session.Lifetimes{}) {
		h.log.Info("the lifetimes of tokens were changed", "user", c.caller.User, "session", c.caller.ID,
			"access", now.Access, "refresh", now.Refresh, "one_time", now.OneTime)
	}
	return settings{int64(now.Access / time.Second), int64(now.Refresh / time.Second), int64(now.OneTime / time.Second)}, nil
}

// explained is the reply that decodes an error code.
type explained struct {
	ErrorID     code   `json:"errorId"`
	Description string `json:"description"`
}

// explain decodes an error code.
func (h *Handler) explain(_ context.Context, c *call) (any, *fault) {
	if c.errorID == "" {
		return nil, fieldErrorID.fault(empty)
	}
	text, known := codes[code(c.errorID)]
	if !known {
		return nil, fieldErrorID.fault(unknown)
	}
	return explained{code(c.errorID), text}, nil
}
