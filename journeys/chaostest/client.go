package chaostest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// caller is one client program: it has one session after the other, at any pod.
type caller struct {
	site    *Site
	history *History
	user    User
	venue   Venue
	random  *rand.Rand

	left []*held // sessions that nobody has ended
}

// held is the session that a caller has.
type held struct {
	session         int
	access, refresh string
	replaced        []string // refresh tokens of before
	unsettled       int      // calls in a row that were not answered: its state is not known
}

// Load is the clients at work.
type Load struct {
	callers []*caller
	working sync.WaitGroup
}

// Load has clients work until ctx ends. Each user has one client a venue.
func (s *Site) Load(ctx context.Context, h *History, seed uint64) *Load {
	l := &Load{}
	for i, u := range s.users {
		for j, venue := range []Venue{Genesis, TraderEvolution} {
			c := &caller{site: s, history: h, user: u, venue: venue, random: rand.New(rand.NewPCG(seed, uint64(2*i+j)))}
			l.callers = append(l.callers, c)
			l.working.Go(func() { c.work(ctx) })
		}
	}
	return l
}

// Wait waits until all clients have stopped.
func (l *Load) Wait() { l.working.Wait() }

// Ask has every client ask about each session that it has not ended: all is healed, so each call is answered.
func (l *Load) Ask(ctx context.Context) {
	var asking sync.WaitGroup
	for _, c := range l.callers {
		asking.Go(func() {
			for _, s := range c.left {
				if c.refresh(ctx, s, c.pod(), s.refresh) {
					for _, pod := range c.site.balanced() {
						c.check(ctx, s.session, s.access, pod)
					}
				}
			}
		})
	}
	asking.Wait()
}

func (c *caller) pod() *node {
	pods := c.site.balanced()
	return pods[c.random.IntN(len(pods))]
}

// work has one session after the other.
func (c *caller) work(ctx context.Context) {
	for ctx.Err() == nil {
		s, ok := c.login(ctx, c.pod())
		if !ok {
			c.pause(ctx, 50*time.Millisecond)
			continue
		}
		goesOn := true
		for life := 4 + c.random.IntN(24); life > 0 && goesOn && ctx.Err() == nil; life-- {
			goesOn = c.step(ctx, s)
			c.pause(ctx, time.Duration(c.random.IntN(60))*time.Millisecond)
		}
		if goesOn && c.random.IntN(6) > 0 { // else a user would have too many
			goesOn = c.finish(ctx, s)
		}
		if goesOn {
			c.left = append(c.left, s)
		}
	}
}

// finish ends the session, by a logout or as a thief would, and says whether it goes on all the same.
func (c *caller) finish(ctx context.Context, s *held) bool {
	if c.venue == Genesis {
		_, done := c.logout(ctx, s)
		return !done
	}
	for len(s.replaced) < 2 {
		if s.unsettled > 0 || !c.refresh(ctx, s, c.pod(), s.refresh) {
			return s.unsettled > 0
		}
	}
	return c.refresh(ctx, s, c.pod(), s.replaced[0])
}

func (c *caller) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// step does one thing with the session, and says whether it goes on.
func (c *caller) step(ctx context.Context, s *held) bool {
	switch dice := c.random.IntN(100); {
	case s.unsettled > 0 || dice < 35: // what was not answered is asked again
		return c.refresh(ctx, s, c.pod(), s.refresh)
	case dice < 70:
		c.check(ctx, s.session, s.access, c.pod())
		return true
	case dice < 78:
		return c.refreshTwice(ctx, s)
	case c.venue == TraderEvolution && dice < 94:
		c.oneTime(ctx, s)
		return true
	case c.venue == TraderEvolution && dice < 97 && len(s.replaced) > 1: // a thief's try
		_ = c.refresh(ctx, s, c.pod(), s.replaced[c.random.IntN(len(s.replaced)-1)])
		c.look(ctx, s)
		return false
	case c.venue == Genesis && dice > 92:
		if at, done := c.logout(ctx, s); done {
			c.check(ctx, s.session, s.access, at) // at once, where it was acknowledged
			c.look(ctx, s)
			return false
		}
	}
	return true
}

// look asks all pods about the session's token, again and again, until they had time to know.
func (c *caller) look(ctx context.Context, s *held) {
	for range 4 {
		for _, pod := range c.site.balanced() {
			c.check(ctx, s.session, s.access, pod)
		}
		c.pause(ctx, 1200*time.Millisecond)
	}
}

func (c *caller) login(ctx context.Context, at *node) (*held, bool) {
	op := c.begin(Login, at, "")
	s := &held{}
	if c.venue == Genesis {
		op.Outcome, op.Text = c.genesis(ctx, s, at, "", `{"DETAILS":{"USER_NAME":%q,"PASSWORD":%q}}`, c.user.Name, c.user.Password)
	} else {
		op.Outcome, op.Text = c.pair(ctx, s, at, "POST", "/auth/token", "", fmt.Sprintf(`{"login":%q,"password":%q}`, c.user.Name, c.user.Password))
	}
	if op.Outcome == Yes {
		s.session = c.history.newSession()
		op.Session, op.Access, op.Renews = s.session, tokenOf(s.access), tokenOf(s.refresh)
	}
	c.end(op)
	return s, op.Outcome == Yes
}

// refresh presents a token, and takes what it gives when it is the session's own. It says whether the session goes on.
func (c *caller) refresh(ctx context.Context, s *held, at *node, token string) bool {
	op := c.begin(Refresh, at, token)
	op.Session = s.session
	next := &held{}
	if c.venue == Genesis {
		op.Outcome, op.Text = c.genesis(ctx, next, at, "", `{"DETAILS":{"USER_NAME":%q,"REFRESH_AUTH_TOKEN":%q}}`, c.user.Name, token)
	} else {
		op.Outcome, op.Text = c.pair(ctx, next, at, "GET", "/auth/token/refresh", token, "")
	}
	op.Access, op.Renews = tokenOf(next.access), tokenOf(next.refresh)
	c.end(op)
	switch {
	case op.Outcome == Unknown || op.Outcome == notSent:
		s.unsettled++
		c.pause(ctx, 100*time.Millisecond)
	case op.Outcome == Yes && token == s.refresh:
		s.unsettled = 0
		if c.venue == TraderEvolution {
			s.replaced = append(s.replaced, token)
		}
		s.access, s.refresh = next.access, next.refresh
	}
	return op.Outcome != No
}

// refreshTwice presents one token at two pods at once, as two tabs do.
func (c *caller) refreshTwice(ctx context.Context, s *held) bool {
	first, second := c.pod(), c.pod()
	other := *s
	other.replaced = nil
	var going sync.WaitGroup
	var on bool
	going.Go(func() { on = c.refresh(ctx, &other, second, s.refresh) })
	mine := *s
	goesOn := c.refresh(ctx, &mine, first, s.refresh)
	going.Wait()
	switch {
	case c.venue == Genesis || mine.refresh == s.refresh && other.refresh == s.refresh:
		// Which of two access tokens came last only the book knows; the next refresh gives one that does.
		s.unsettled = max(1, mine.unsettled, other.unsettled)
	case mine.refresh != s.refresh:
		*s = mine
	default:
		mine.access, mine.refresh, mine.replaced, mine.unsettled = other.access, other.refresh, append(mine.replaced, s.refresh), 0
		*s = mine
	}
	return goesOn && on
}

func (c *caller) logout(ctx context.Context, s *held) (*node, bool) {
	at := c.pod()
	op := c.begin(Logout, at, s.access)
	op.Session = s.session
	op.Outcome, op.Text = c.genesis(ctx, nil, at, s.access, "")
	c.end(op)
	if op.Outcome != Yes {
		s.unsettled++
	}
	return at, op.Outcome == Yes
}

func (c *caller) check(ctx context.Context, session int, access string, at *node) {
	op := c.begin(Check, at, access)
	op.Session = session
	if c.venue == Genesis {
		status, m, err := c.call(ctx, at, 4, "GET", "/resources-request", map[string]string{"SESSION_AUTH_TOKEN": access}, "")
		op.Outcome, op.Text = genesisMeans(status, m, err)
	} else {
		status, m, err := c.call(ctx, at, 5, "GET", "/accounts", map[string]string{"Authorization": "Bearer " + access}, "")
		op.Outcome, op.Text = traderEvolutionMeans(status, m, err)
	}
	c.end(op)
}

// oneTime makes a one-time token and redeems it at all pods at once.
func (c *caller) oneTime(ctx context.Context, s *held) {
	at := c.pod()
	op := c.begin(Issue, at, s.access)
	op.Session = s.session
	status, m, err := c.call(ctx, at, 5, "POST", "/external/token", map[string]string{"Authorization": "Bearer " + s.access}, "")
	op.Outcome, op.Text = traderEvolutionMeans(status, m, err)
	token, _ := m["token"].(string)
	op.Access = tokenOf(token)
	c.end(op)
	if op.Outcome != Yes || token == "" {
		return
	}
	var redeeming sync.WaitGroup
	for _, pod := range c.site.balanced() {
		redeeming.Go(func() {
			op := c.begin(Verify, pod, token)
			op.Session = s.session
			status, m, err := c.call(ctx, pod, 5, "POST", "/external/token/verify", nil, fmt.Sprintf(`{"token":%q}`, token))
			op.Outcome, op.Text = traderEvolutionMeans(status, m, err)
			if valid, _ := m["isValid"].(bool); op.Outcome == Yes && !valid {
				op.Outcome = No
			}
			c.end(op)
		})
	}
	redeeming.Wait()
}

func (c *caller) begin(kind Kind, at *node, token string) Op {
	return Op{Kind: kind, Venue: c.venue, Pod: at.incarnation(), Token: tokenOf(token), Begin: c.history.now()}
}

// end keeps a call, unless nobody was there to ask.
func (c *caller) end(op Op) {
	if op.Outcome != notSent {
		c.history.note(op)
	}
}

// notSent is a call that certainly did not happen.
const notSent Outcome = "not sent"

// noAnswer is what is known of a call whose answer did not come, as the text of its outcome.
const noAnswer = "no answer"

func (c *caller) genesis(ctx context.Context, s *held, at *node, access, format string, args ...any) (Outcome, string) {
	if s == nil {
		status, m, err := c.call(ctx, at, 4, "POST", "/event-logout", map[string]string{"SESSION_AUTH_TOKEN": access}, "")
		return genesisMeans(status, m, err)
	}
	status, m, err := c.call(ctx, at, 4, "POST", "/event-login-auth", nil, fmt.Sprintf(format, args...))
	s.access, _ = m["SESSION_AUTH_TOKEN"].(string)
	s.refresh, _ = m["REFRESH_AUTH_TOKEN"].(string)
	return genesisMeans(status, m, err)
}

func (c *caller) pair(ctx context.Context, s *held, at *node, method, path, token, body string) (Outcome, string) {
	header := map[string]string{}
	if token != "" {
		header["token"] = token
	}
	status, m, err := c.call(ctx, at, 5, method, path, header, body)
	s.access, _ = m["accessToken"].(string)
	s.refresh, _ = m["refreshToken"].(string)
	return traderEvolutionMeans(status, m, err)
}

// call asks a pod. The listener is the port above its base.
func (c *caller) call(ctx context.Context, at *node, port int, method, path string, header map[string]string, body string) (int, map[string]any, error) {
	request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, fmt.Sprintf("http://127.0.0.1:%d%s", at.base+port, path), strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		request.Header[k] = []string{v}
	}
	// The client sends a GET again when a connection that it had kept ends: refused then says nothing of the first try.
	var written atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { written.Store(true) }}
	response, err := c.site.client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		if written.Load() {
			err = fmt.Errorf("sent, and then: %v", err) // not ECONNREFUSED any more
		}
		return 0, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	var m map[string]any
	_ = json.Unmarshal(data, &m) // what is no object has no members
	return response.StatusCode, m, err
}

func genesisMeans(status int, m map[string]any, err error) (Outcome, string) {
	switch text, _ := m["MESSAGE_TYPE"].(string); {
	case errors.Is(err, syscall.ECONNREFUSED):
		return notSent, ""
	case err != nil:
		return Unknown, noAnswer
	case status >= 500:
		return Unknown, fmt.Sprint(status)
	case strings.HasSuffix(text, "_ACK"):
		return Yes, ""
	case text == "":
		return Unknown, noAnswer
	}
	said := fmt.Sprint(m["ERROR"])
	if strings.Contains(said, "UNAVAILABLE") {
		return Unknown, "UNAVAILABLE"
	}
	return No, said
}

// traderEvolutionMeans: that there is nothing at a path is told only to who may ask.
func traderEvolutionMeans(status int, m map[string]any, err error) (Outcome, string) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return notSent, ""
	case err != nil || status == 0:
		return Unknown, noAnswer
	case status >= 500:
		return Unknown, fmt.Sprint(status)
	case status == http.StatusOK || status == http.StatusNotFound:
		return Yes, ""
	}
	return No, fmt.Sprint(status, " ", m["errors"])
}
