package advauth

import (
	"context"
	"encoding/hex"
	"net/url"
	"strings"
	"sync"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// whoAmI answers login/whoami.
func (h *Handler) whoAmI(ctx context.Context, c *call) (reply, *fault) {
	live, fault := h.check(ctx, c)
	if fault != nil {
		return reply{}, fault
	}
	left := time.Duration(live.Deadline - session.At(h.cfg.Now()))
	return reply{body: whoAmIResp{schemas: bothSchemas, UserLogin: printable(h.gate.Name(live.User)),
		ExpireInSec: max(0, int64(left/time.Second)), ExpireDate: h.date(live.Deadline.Time())}}, nil
}

// elsewhere answers every path that is no method: like all of the venue's methods but the logins it wants a token, and
// says that there is nothing only to whoever has a good one.
func (h *Handler) elsewhere(ctx context.Context, c *call) (reply, *fault) {
	if _, fault := h.check(ctx, c); fault != nil {
		return reply{}, fault
	}
	return reply{}, notFound(printable(c.r.URL.Path))
}

// check says whose the token in the query is.
func (h *Handler) check(ctx context.Context, c *call) (session.Live, *fault) {
	text, given := tokenOf(c.r.URL)
	if !given {
		return session.Live{}, required("Token")
	}
	token, ok := parseGUID(text)
	if !ok {
		return session.Live{}, badEntry("The Token field must be a globally unique identifier.")
	}
	live, refused, err := h.gate.Check(ctx, session.AdvAuth, token)
	now := session.At(h.cfg.Now())
	switch hash := session.HashToken(token); {
	case err != nil:
		return session.Live{}, h.failed("a token", err)
	case refused.Code == session.InvalidToken && h.ended.has(hash, now):
		return session.Live{}, h.refused(adapters.Refused{Code: session.ExpiredToken})
	case refused.No():
		if refused.Code == session.ExpiredToken && !h.ended.has(hash, now) {
			h.ended.note(hash, now, now)
		}
		return session.Live{}, h.refused(refused)
	default:
		h.ended.note(hash, live.Deadline, now)
	}
	return live, nil
}

// tokenOf takes the token out of the query: the parameter's name goes without regard to case, the first counts.
func tokenOf(u *url.URL) (text string, given bool) {
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || !strings.EqualFold(name, "Token") {
			continue
		}
		value, err := url.QueryUnescape(value)
		if err != nil {
			return "", true
		}
		return strings.TrimSpace(value), strings.TrimSpace(value) != ""
	}
	return "", false
}

// parseGUID reads the forms in which the venue's platform takes an identifier: 32 hexadecimal digits of either case, with
// the four hyphens or without any, in braces, in brackets or bare. It gives the form that tokens are made in.
func parseGUID(text string) (string, bool) {
	if n := len(text); n == 38 && (text[0] == '{' && text[n-1] == '}' || text[0] == '(' && text[n-1] == ')') {
		text = text[1 : n-1]
	}
	switch {
	case len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-':
		text = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	case len(text) != 32:
		return "", false
	}
	id, err := hex.DecodeString(text)
	if err != nil {
		return "", false
	}
	return session.SessionID(id).String(), true
}

// tombstones remember tokens that this pod granted or found good, until a while after their end. The index of live
// sessions forgets a token when it ends, and "expired" is another answer than "not found". Only tokens that were good get
// here, so nobody fills it from outside. Of a token that was revoked the answer is "not found" until its own end.
type tombstones struct {
	mu    sync.Mutex
	until map[session.TokenHash]session.Instant // guarded by mu: the deadline of a token
	queue []session.TokenHash                   // guarded by mu: the keys of until, in the order of noting
}

const (
	remembered = 60 * time.Second // after the end
	maxTombs   = 1 << 17          // the oldest give way; about 15 MiB
)

func newTombstones() *tombstones {
	return &tombstones{until: make(map[session.TokenHash]session.Instant)}
}

// note remembers a good token's deadline, and forgets what need not be remembered any more.
func (t *tombstones) note(hash session.TokenHash, deadline, now session.Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.until[hash]; known {
		t.until[hash] = deadline
		return
	}
	for len(t.queue) > 0 && (len(t.queue) >= maxTombs || t.until[t.queue[0]].Add(remembered) <= now) {
		delete(t.until, t.queue[0])
		t.queue = t.queue[1:]
	}
	t.until[hash] = deadline
	t.queue = append(t.queue, hash)
}

// has reports whether the token reached its deadline lately.
func (t *tombstones) has(hash session.TokenHash, now session.Instant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	deadline, known := t.until[hash]
	return known && deadline <= now && now < deadline.Add(remembered)
}
