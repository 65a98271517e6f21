package adapters

import (
	"context"

	"rollbook/engine/session"
)

// Logout is a request to end a session, named by any one of its access token (also an expired one), or the id that its
// venue shows.
type Logout struct {
	Venue  session.Venue
	Token  string
	Handle session.Handle
	Name   string // when not empty: the session must be this user's
}

// Logout ends a session. It is idempotent for sessions that ended lately.
func (g *Gate) Logout(ctx context.Context, r Logout) (Refused, error) {
	s, found := g.named(r)
	if !found {
		if err := g.barrier(ctx); err != nil {
			return Refused{}, err
		}
		s, found = g.named(r)
	}
	if !found || s.Venue != r.Venue || !g.owns(s, r.Name) {
		return Refused{Code: session.UnknownSession}, nil
	}
	return g.end(ctx, &session.Logout{User: s.User, Session: s.ID, Reason: session.LoggedOut})
}

func (g *Gate) named(r Logout) (session.Session, bool) {
	if r.Token != "" {
		if s, kind := g.cfg.Sessions.ByToken(session.HashToken(r.Token)); kind == session.AccessToken {
			return s, true
		}
	}
	if r.Handle != (session.Handle{}) {
		return g.cfg.Sessions.ByHandle(r.Handle)
	}
	return session.Session{}, false
}

// Disconnect ends a session because the connection it was opened on is gone, unless it has been refreshed since: then
// its owner is somewhere else by now (refusal Superseded).
func (g *Gate) Disconnect(ctx context.Context, s session.Session) (Refused, error) {
	return g.end(ctx, &session.Logout{User: s.User, Session: s.ID, Reason: session.Disconnected, Generation: s.Generation})
}

func (g *Gate) end(ctx context.Context, cmd *session.Logout) (Refused, error) {
	reply, err := g.submit(ctx, cmd.User, cmd)
	if err != nil {
		return Refused{}, err
	}
	return Refused{Code: reply.Refusal}, nil
}

// Verify redeems a one-time token and says whose it was. Unknown, expired and used are one refusal.
func (g *Gate) Verify(ctx context.Context, venue session.Venue, token string) (session.UserID, Refused, error) {
	hash := session.HashToken(token)
	user, ok := g.cfg.Sessions.OneTime(hash)
	if !ok {
		if err := g.barrier(ctx); err != nil {
			return "", Refused{}, err
		}
		if user, ok = g.cfg.Sessions.OneTime(hash); !ok {
			return "", Refused{Code: session.InvalidToken}, nil
		}
	}
	reply, err := g.submit(ctx, user, &session.Verify{User: user, Venue: venue, Token: hash})
	if err != nil {
		return "", Refused{}, err
	}
	return reply.User, Refused{Code: reply.Refusal}, nil
}
