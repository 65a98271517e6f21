package adapters

import (
	"context"
	"time"

	"rollbook/bus"
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
	// Origin is where the client is: [OriginOf] its request. The name in it is the gate's to set.
	Origin session.Origin

	// Judge, when set, says whose the login is and whether what was presented is right, in place of the check of Name and
	// Password: an answer to a challenge, a token of another issuer. For a name nobody has it gives a decoy
	// ([Directory.Decoy]) and takes as long. An error means "not known".
	Judge func(ctx context.Context) (session.Credential, error)
	// Nonce, when set, is what the client answered to: it is good for one accepted login of this user.
	Nonce session.TokenHash
	// Until, when set, is the latest end of the session: that of the other issuer's token that it is opened with
	// (OWASP ASVS 5.0, 7.6.1).
	Until time.Time
	// Sign, when set, makes the access token in place of Form: a token that carries claims.
	Sign func(Claims) (string, error)
}

// Claims is what a signed access token says.
type Claims struct {
	Session session.SessionID
	User    session.UserID
	Issued  time.Time
	Expires time.Time // not after the session's own end
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
	grant, id := Grant{Name: r.Name}, MintSessionID()
	var err error
	if grant.Access, err = g.mintAccess(r, id, credential.User); err != nil {
		return Grant{}, Refused{}, unavailable(err)
	}
	cmd := &session.Login{
		User: credential.User, Venue: r.Venue, Client: clip(r.Client, 64), Verdict: credential.Verdict,
		Credential: credential.Generation, Session: id, Access: session.HashToken(grant.Access),
		Bound: r.Bound, Scopes: r.Scopes, Nonce: r.Nonce,
	}
	r.Origin.Name = r.Name
	cmd.Origin = g.seal(credential.User, r.Origin)
	if r.Bound {
		cmd.Pod = g.cfg.Pod
	}
	if !r.Until.IsZero() && r.Until.Before(session.Forever.Time()) { // an issuer may write the year 9999
		cmd.Until = session.At(r.Until)
	}
	if g.cfg.Policies.Venues[r.Venue].Refreshable {
		grant.Refresh = r.Form.Mint()
		cmd.Refresh = session.HashToken(grant.Refresh)
	}
	reply, at, err := g.ask(ctx, bus.PartitionOf(string(credential.User), g.cfg.Partitions), cmd)
	if err != nil {
		return Grant{}, Refused{}, err
	}
	switch reply.Refusal {
	case session.Accepted:
		grant.Session = reply.Session
		g.cfg.Sessions.Expect(grant.Session.ID, at)
		if name, ok := g.cfg.Directory.Name(credential.User); ok {
			grant.Name = name
		}
		return grant, Refused{}, nil
	case session.TooManySessions:
		return Grant{}, Refused{Code: reply.Refusal, Sessions: g.sessionsAt(r.Venue, credential.User)}, nil
	}
	return Grant{}, Refused{Code: reply.Refusal, RetryAt: reply.RetryAt}, nil
}

// mintAccess makes the access token of a new session.
func (g *Gate) mintAccess(r Login, id session.SessionID, user session.UserID) (string, error) {
	if r.Sign == nil {
		return r.Form.Mint(), nil
	}
	policy, now := g.cfg.Policies.Venues[r.Venue], g.cfg.Now()
	lifetime := policy.Absolute
	if policy.AccessLifetime > 0 {
		lifetime = min(lifetime, policy.AccessLifetime)
	}
	return r.Sign(Claims{Session: id, User: user, Issued: now, Expires: now.Add(lifetime)})
}

// check runs the password check within the bounds on concurrency and waiting.
func (g *Gate) check(ctx context.Context, r Login) (session.Credential, error) {
	if r.Judge != nil {
		if err := g.cfg.Directory.Current(ctx); err != nil {
			return session.Credential{}, unavailable(err)
		}
		credential, err := r.Judge(ctx)
		if err == nil && credential.Verdict == session.NoSuchUser {
			err = g.cfg.Directory.Doubt(r.Name)
		}
		if err != nil {
			return session.Credential{}, unavailable(err)
		}
		return credential, nil
	}
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
