package adapters

import (
	"context"
	"errors"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// OneTime is a token that can be redeemed once, and the first instant at which it cannot be any more.
type OneTime struct {
	Token string
	Until session.Instant
}

// IssueOneTime makes a token that can be redeemed once at the venue, for a user, or for one of their sessions: then it
// dies with the session. A lifetime of zero is the venue's. Beyond the policy's number of open ones, the user's oldest is
// void from here on.
func (g *Gate) IssueOneTime(ctx context.Context, venue session.Venue, user session.UserID, id session.SessionID,
	lifetime time.Duration, form TokenForm) (OneTime, Refused, error) {
	token := form.Mint()
	reply, err := g.submit(ctx, user, &session.IssueOneTime{User: user, Venue: venue, Session: id, Lifetime: lifetime,
		Token: session.HashToken(token)})
	if err != nil || reply.Refusal != session.Accepted {
		return OneTime{}, Refused{Code: reply.Refusal}, err
	}
	return OneTime{token, reply.Until}, Refused{}, nil
}

var errPartitionsDiffer = errors.New("the partitions answered differently: repeat the command")

// Lifetimes asks the writers how long the venue's tokens live, and changes it where a field is not zero. It is all or
// nothing as far as refusals go; when an error leaves some partitions changed, repeating it mends that.
func (g *Gate) Lifetimes(ctx context.Context, venue session.Venue, change session.Lifetimes) (session.Lifetimes, Refused, error) {
	var now session.Lifetimes
	for p := range g.cfg.Partitions {
		reply, err := g.submitTo(ctx, bus.Partition(p), &session.SetLifetimes{Venue: venue, Lifetimes: change})
		switch {
		case err != nil:
			return session.Lifetimes{}, Refused{}, err
		case reply.Refusal != session.Accepted:
			return session.Lifetimes{}, Refused{Code: reply.Refusal}, nil
		case p > 0 && reply.Lifetimes != now && change != (session.Lifetimes{}):
			return session.Lifetimes{}, Refused{}, unavailable(errPartitionsDiffer)
		}
		now = reply.Lifetimes
	}
	return now, Refused{}, nil
}

// Profile is what a venue may show of a user.
func (g *Gate) Profile(user session.UserID) session.Profile {
	profile, _ := g.cfg.Directory.Profile(user)
	profile.User = user
	return profile
}

// Find is the user who logs in by that name.
func (g *Gate) Find(name string) (session.UserID, bool) { return g.cfg.Directory.Find(name) }

// Decoy is the user that a name nobody has is counted under.
func (g *Gate) Decoy(name string) session.UserID { return g.cfg.Directory.Decoy(name) }

// Key is the API key of a user at a venue.
func (g *Gate) Key(user session.UserID, venue session.Venue) (key []byte, generation uint64, ok bool) {
	return g.cfg.Directory.Key(user, venue)
}

// Generation is that of the user's credential; not ok when the user may not use the venue.
func (g *Gate) Generation(user session.UserID, venue session.Venue) (generation uint64, ok bool) {
	return g.cfg.Directory.Generation(user, venue)
}
