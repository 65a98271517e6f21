package adapters

import (
	"context"
	"time"

	"rollbook/engine/session"
)

// Login is a request to open a session.
type Login struct {
	Venue    session.Venue
	Name     string
	Password string
	Client   string // the client software as the venue names it; cut at 64 bytes
	Bound    bool   // the session ends with the connection
	Scopes   []string
	Form     TokenForm
}

// maxStale is how often a login is judged again because the verifier had changed meanwhile.
const maxStale = 5

// Login checks the password and opens a session. An unknown name and a wrong password are the same refusal, at the
// same cost.
func (g *Gate) Login(ctx context.Context, r Login) (Grant, Refused, error) {
	for try := 0; ; try++ {
		credential, err := g.check(ctx, r)
		if err != nil {
			return Grant{}, Refused{}, err
		}
		grant, refused, err := g.open(ctx, r, credential)
		if err != nil || refused.Code != session.StaleCredential {
			return grant, refused, err
		}
		// The book knows a newer verifier than this pod's directory: it is on its way here.
		if try == maxStale {
			return Grant{}, Refused{}, unavailable(errStaleDirectory)
		}
		select {
		case <-time.After(20 * time.Millisecond << try):
		case <-ctx.Done():
			return Grant{}, Refused{}, unavailable(ctx.Err())
		}
	}
}

// open submits the login and makes the grant.
func (g *Gate) open(ctx context.Context, r Login, credential session.Credential) (Grant, Refused, error) {
	grant := Grant{Access: r.Form.Mint(), Name: r.Name}
	cmd := &session.Login{
		User: credential.User, Venue: r.Venue, Client: clip(r.Client, 64), Verdict: credential.Verdict,
		Credential: credential.Generation, Session: MintSessionID(), Access: session.HashToken(grant.Access),
		Bound: r.Bound, Scopes: r.Scopes,
	}
	if g.cfg.Policies.Venues[r.Venue].Refreshable {
		grant.Refresh = r.Form.Mint()
		cmd.Refresh = session.HashToken(grant.Refresh)
	}
	reply, err := g.submit(ctx, credential.User, cmd)
	if err != nil {
		return Grant{}, Refused{}, err
	}
	switch reply.Refusal {
	case session.Accepted:
		grant.Session = reply.Session
		if name, ok := g.cfg.Directory.Name(credential.User); ok {
			grant.Name = name
		}
		return grant, Refused{}, nil
	case session.TooManySessions:
		return Grant{}, Refused{Code: reply.Refusal, Sessions: g.sessionsAt(r.Venue, credential.User)}, nil
	}
	return Grant{}, Refused{Code: reply.Refusal, RetryAt: reply.RetryAt}, nil
}

// check runs the password check within the bounds on concurrency and waiting.
func (g *Gate) check(ctx context.Context, r Login) (session.Credential, error) {
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return session.Credential{}, ErrBusy
	}
	select {
	case g.checks <- struct{}{}:
		defer func() { <-g.checks }()
	case <-ctx.Done():
		return session.Credential{}, unavailable(ctx.Err())
	}
	credential, err := g.cfg.Directory.Check(ctx, r.Venue, r.Name, r.Password)
	if err != nil {
		return session.Credential{}, unavailable(err)
	}
	return credential, nil
}

func (g *Gate) sessionsAt(venue session.Venue, user session.UserID) []session.Session {
	var at []session.Session
	for _, s := range g.cfg.Sessions.ByUser(user) {
		if s.Venue == venue {
			at = append(at, s)
		}
	}
	return at
}

// clip cuts text to at most n bytes, between characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return text[:n]
}
