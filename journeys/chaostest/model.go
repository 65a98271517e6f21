package chaostest

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is a session as the models see it. It begins live, with what its login gave.
type state struct {
	live          bool
	current, last Token // Genesis: the access token; TraderEvolution: the refresh token, and the one before it
}

// step is an op of one session, and what it would lead to if nobody knows what it gave.
type step struct {
	Op
	given Token // the token that a refresh gives, as far as the history tells; else one of its own
}

// genesisStep: a refresh gives another access token as long as the session lives; a logout takes the one it has.
func genesisStep(s state, in step) []any {
	happens := s
	switch {
	case in.Kind == Refresh && s.live:
		happens.current = in.given
	case in.Kind == Logout && s.live && in.Token == s.current:
		happens.live = false
	}
	switch in.Outcome {
	case Unknown:
		return []any{s, happens}
	case Yes:
		if in.Kind == Refresh && !s.live || in.Kind == Logout && s.live && in.Token != s.current {
			return nil
		}
		return []any{happens} // a logout of what has ended is taken
	default:
		if s.live && (in.Kind == Refresh || in.Token == s.current) {
			return nil
		}
		return []any{s}
	}
}

// traderEvolutionStep: the current refresh token gives its successor, the one before it may give the same again, and
// everything older, or later, ends the session.
func traderEvolutionStep(s state, in step) []any {
	rotated := state{live: true, current: in.given, last: in.Token}
	ended := state{current: s.current, last: s.last}
	switch {
	case !s.live && in.Outcome == Yes:
		return nil
	case !s.live:
		return []any{s}
	case in.Token == s.current: // must be taken, if it arrives
		switch in.Outcome {
		case Yes:
			return []any{rotated}
		case No:
			return nil
		}
		return []any{s, rotated}
	case in.Token == s.last: // in the grace, or reuse
		switch in.Outcome {
		case Yes:
			if in.given != s.current {
				return nil // a second branch
			}
			return []any{s}
		case No:
			return []any{ended}
		}
		return []any{s, ended}
	}
	switch in.Outcome {
	case Yes:
		return nil
	case No:
		return []any{ended}
	}
	return []any{s, ended}
}

// never is when a call ends that was not answered.
const never = time.Duration(math.MaxInt64)

// linearizable says whether one order of the calls explains what was seen of one session. The first of them is the
// login that gave it; all others began after that was answered.
func linearizable(login Op, changes []Op) porcupine.CheckResult {
	model := porcupine.NondeterministicModel{
		Init: func() []any {
			first := state{live: true, current: login.Access}
			if login.Venue == TraderEvolution {
				first.current = login.Renews
			}
			return []any{first}
		},
		Step: func(s, in, _ any) []any {
			if login.Venue == Genesis {
				return genesisStep(s.(state), in.(step))
			}
			return traderEvolutionStep(s.(state), in.(step))
		},
	}
	// A refresh of one token gives one successor, whoever asks: what one call learnt holds for the unanswered ones.
	successor := map[Token]Token{}
	for _, op := range changes {
		if op.Kind == Refresh && op.Outcome == Yes {
			successor[op.Token] = op.Renews
		}
	}
	var calls []porcupine.Operation
	for i, op := range changes {
		in := step{Op: op, given: op.Access}
		if login.Venue == TraderEvolution {
			in.given = successor[op.Token]
			if op.Outcome == Yes {
				in.given = op.Renews
			}
		}
		if in.given == "" {
			in.given = Token(fmt.Sprintf("what call %d would have given", i))
			if login.Venue == TraderEvolution {
				in.given = "what follows " + op.Token
			}
		}
		end := op.End
		if op.Outcome == Unknown {
			end = never
		}
		calls = append(calls, porcupine.Operation{ClientId: i, Input: in, Call: int64(op.Begin), Return: int64(end)})
	}
	deterministic := model.ToModel()
	return porcupine.CheckOperationsTimeout(deterministic, calls, 20*time.Second)
}
