package traderevolution

import (
	"context"
	"errors"
	"net/url"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// verified is the reply to a verification. IsValid is the seed's wording; IsExpired and Login are what the older call's
// client reads.
type verified struct {
	IsValid   bool   `json:"isValid"`
	IsExpired bool   `json:"isExpired"`
	Login     string `json:"login,omitempty"`
}

// verifiedByHeader is the older call's reply.
type verifiedByHeader struct {
	Login     string `json:"login,omitempty"`
	IsExpired bool   `json:"isExpired"`
}

// verify redeems the one-time token of the body.
func (h *Handler) verify(ctx context.Context, c *call) (any, *fault) {
	token, bad := c.body.text(fieldToken, maxToken)
	if bad != nil {
		return nil, bad
	}
	login, f := h.redeem(ctx, token)
	if f != nil {
		return nil, f
	}
	return verified{IsValid: login != "", IsExpired: login == "", Login: login}, nil
}

// verifyByHeader is the older sibling: the token comes in the header.
func (h *Handler) verifyByHeader(ctx context.Context, c *call) (any, *fault) {
	login, f := h.redeem(ctx, c.token)
	if f != nil {
		return nil, f
	}
	return verifiedByHeader{Login: login, IsExpired: login == ""}, nil
}

// redeem gives the login that the token was made for; empty when it is unknown, expired or used, which is one answer.
func (h *Handler) redeem(ctx context.Context, token string) (login string, f *fault) {
	if token == "" {
		return "", fieldToken.fault(empty)
	}
	user, refused, err := h.gate.Verify(ctx, venue, token)
	switch {
	case err != nil:
		return "", h.failed("verify", err)
	case refused.Code == session.InvalidToken:
		return "", nil
	case refused.No():
		return "", h.refused(refused)
	}
	if login = h.gate.Name(user); login == "" {
		// The user was there when the token was redeemed, so this pod's directory is behind, or the user has just been
		// erased. The token is spent either way.
		return "", h.failed("verify", errNoName)
	}
	return login, nil
}

var errNoName = errors.New("the directory has no name of the user that a one-time token was redeemed for")

// issued is the reply to a request for a one-time token.
type issued struct {
	Token string `json:"token"`
	Login string `json:"login"`
	Link  string `json:"link,omitempty"`
}

// issue makes a one-time token: for the caller's own session, with which it dies; or for a login, which takes the
// operator's right. With a link, the reply has the link with the token in its query, as the terminal opens it.
func (h *Handler) issue(ctx context.Context, c *call) (any, *fault) {
	login, bad := c.body.text(fieldLogin, maxLogin)
	if bad != nil {
		return nil, bad
	}
	link, bad := c.body.text(fieldLink, maxLink)
	if bad != nil {
		return nil, bad
	}
	target, ok := parseLink(link)
	if !ok {
		return nil, fieldLink.fault(outOfRange)
	}
	user, id := c.caller.User, c.caller.ID
	if login != "" {
		if f := h.operator(c); f != nil {
			return nil, f
		}
		found := false
		if user, found = h.gate.Find(login); !found {
			return nil, h.refused(adapters.Refused{Code: session.UnknownUser})
		}
		id = session.SessionID{}
	}
	made, refused, err := h.gate.IssueOneTime(ctx, venue, user, id, 0, adapters.URLSafe)
	switch {
	case err != nil:
		return nil, h.failed("issue", err)
	case refused.Code == session.Disabled && login != "":
		return nil, h.refused(adapters.Refused{Code: session.UnknownUser}) // it is not the caller's own account that is closed
	case refused.Code == session.Disabled:
		return nil, h.refused(adapters.Refused{Code: session.InvalidToken}) // the account's sessions have ended with it
	case refused.No():
		return nil, h.refused(refused)
	}
	return issued{Token: made.Token, Login: h.gate.Name(user), Link: target.with(made.Token)}, nil
}

// link is the page that a token is for; nil: none was named.
type link struct{ *url.URL }

// parseLink takes an absolute link whose query has no token yet: a page that found two would have to choose.
func parseLink(text string) (link, bool) {
	if text == "" {
		return link{}, true
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return link{}, false
	}
	query, err := url.ParseQuery(u.RawQuery)
	return link{u}, err == nil && !query.Has("token")
}

// with is the link with the token in its query, which otherwise stays as it was written.
func (l link) with(token string) string {
	if l.URL == nil {
		return ""
	}
	u := *l.URL
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "token=" + url.QueryEscape(token)
	return u.String()
}
