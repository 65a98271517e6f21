package zenith

import (
	"context"
	"errors"

	"rollbook/adapters"
	"rollbook/engine/session"
)

// verdict is what came of an attempt to authenticate. The zero value: accepted.
type verdict struct {
	rejected bool   // the reply's Result says so
	code     string // otherwise, an error: nothing is known
	busy     bool   // a login was turned away because too many wait: counted apart
}

var rejected = verdict{rejected: true}

func (v verdict) no() bool { return v != verdict{} }

// wire is the one table from refusals to the venue's words. The venue has one word for every refusal of a login; what
// is none of the client's doing is an error.
var wire = map[session.Refusal]verdict{
	session.WrongCredentials: rejected,
	session.Locked:           rejected,
	session.Disabled:         rejected,
	session.TooManySessions:  rejected,
	session.StaleCredential:  {code: unavailable}, // the directory is on its way here: try again
	session.InvalidToken:     rejected,
	session.ExpiredToken:     rejected,
	session.ReusedToken:      rejected,
	session.UnknownSession:   rejected,
	session.Superseded:       rejected,
	session.UnknownUser:      rejected,
	session.AlreadyExists:    {code: unavailable}, // the minted id was taken: try again
	session.InvalidCommand:   {code: broken},
	session.UnknownResource:  {code: broken},
	session.NotPermitted:     rejected,
	session.PasswordUnset:    rejected,
}

// judge turns what the gate, or a provider, said into the verdict.
func (h *Handler) judge(ctx context.Context, refused adapters.Refused, err error) verdict {
	switch {
	case errors.Is(err, ErrGrant):
		return rejected
	case err != nil && !errors.Is(err, adapters.ErrBusy) && errors.Is(context.Cause(ctx), errOwnTimeout):
		return verdict{code: tooSlow}
	case err != nil:
		return verdict{code: unavailable, busy: h.outage.Note("a login", err)}
	case !refused.No():
		return verdict{}
	}
	v, known := wire[refused.Code]
	if !known {
		v = wire[session.InvalidCommand]
	}
	h.log.Debug("a login was refused", "refusal", refused.Code)
	return v
}

// errOwnTimeout is why a context ended that the client's own ActionTimeout bounds.
var errOwnTimeout = errors.New("the time-out that the client has set")
