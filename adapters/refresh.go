package adapters

import (
	"context"

	"rollbook/engine/session"
)

// Refresh is a request for new tokens.
type Refresh struct {
	Venue session.Venue
	Token string // the refresh token
	Name  string // when not empty: the session must be this user's
	Form  TokenForm
	// Origin is where the client is: [OriginOf] its request.
	Origin session.Origin
}

// Refresh renews the session that the token belongs to.
func (g *Gate) Refresh(ctx context.Context, r Refresh) (Grant, Refused, error) {
	presented := session.HashToken(r.Token)
	s, kind, err := g.find(ctx, presented)
	if err != nil {
		return Grant{}, Refused{}, err
	}
	if (kind != session.RefreshToken && kind != session.SpentToken) || s.Venue != r.Venue || !g.owns(s, r.Name) {
		return Grant{}, Refused{Code: session.InvalidToken}, nil
	}
	next := mintSuccessor(r.Form, r.Token)
	if g.cfg.Policies.Venues[r.Venue].Rotate {
		generation := s.Generation
		if kind == session.SpentToken {
			generation--
		}
		next = g.deriveSuccessor(r.Form, presented, s.ID, generation)
	}
	reply, err := g.submit(ctx, s.User, &session.Refresh{
		User: s.User, Venue: r.Venue, Session: s.ID, Presented: presented,
		Handle: next.handle, Access: session.HashToken(next.access), Refresh: session.HashToken(next.refresh), Pod: g.cfg.Pod,
		Origin: g.seal(s.User, r.Origin),
	})
	if err != nil {
		return Grant{}, Refused{}, err
	}
	if reply.Refusal != session.Accepted {
		return Grant{}, Refused{Code: reply.Refusal}, nil
	}
	name, _ := g.cfg.Directory.Name(s.User)
	return Grant{Session: reply.Session, Access: next.access, Refresh: next.refresh, Name: name}, Refused{}, nil
}

// find looks a token up, and once more after the barrier when it is not known.
func (g *Gate) find(ctx context.Context, hash session.TokenHash) (session.Session, session.TokenKind, error) {
	s, kind := g.cfg.Sessions.ByToken(hash)
	if kind != session.NoToken {
		return s, kind, nil
	}
	if err := g.barrier(ctx); err != nil {
		return session.Session{}, session.NoToken, err
	}
	s, kind = g.cfg.Sessions.ByToken(hash)
	return s, kind, nil
}

func (g *Gate) barrier(ctx context.Context) error {
	if session.Seeded("unknown is called invalid") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Timeout)
	defer cancel()
	if err := g.cfg.Follower.Barrier(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// owns reports whether the session is that of the user who logs in by name; an empty name asks nothing.
func (g *Gate) owns(s session.Session, name string) bool {
	if name == "" {
		return true
	}
	user, ok := g.cfg.Directory.Find(name)
	return ok && user == s.User
}
