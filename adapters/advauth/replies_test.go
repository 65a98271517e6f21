package advauth

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"

	"rollbook/adapters"
	"rollbook/adapters/repliestest"
	"rollbook/engine/session"
)

// oneAnswer is a gate that answers every login alike, and knows no token.
type oneAnswer struct {
	Gate
	refused adapters.Refused
	err     error
}

func (g *oneAnswer) Login(context.Context, adapters.Login) (adapters.Grant, adapters.Refused, error) {
	return adapters.Grant{Access: "a", Refresh: "r"}, g.refused, g.err
}

func (g *oneAnswer) Check(context.Context, session.Venue, string) (session.Live, adapters.Refused, error) {
	return session.Live{}, adapters.Refused{Code: session.InvalidToken}, nil
}

func (g *oneAnswer) Find(string) (session.UserID, bool) { return "", false }
func (g *oneAnswer) Decoy(name string) session.UserID   { return session.UserID("decoy") }

func newOneAnswer() (*oneAnswer, *Handler) {
	gate := &oneAnswer{}
	return gate, New(Config{ChallengeKey: [32]byte{1}}, gate, slog.New(slog.DiscardHandler))
}

func TestRepliesAreCounted(t *testing.T) {
	gate, h := newOneAnswer()
	for _, answer := range []oneAnswer{{}, {}, {refused: adapters.Refused{Code: session.WrongCredentials}}, {refused: adapters.Refused{Code: session.TooManySessions}},
		{err: adapters.ErrUnavailable}, {err: adapters.ErrBusy}, {refused: adapters.Refused{Code: session.StaleCredential}}} {
		gate.refused, gate.err = answer.refused, answer.err
		repliestest.Ask(h, "POST", "/api/Login", `{"UserLogin":"jane","ApiKey":"AAAA"}`)
	}
	gate.refused, gate.err = adapters.Refused{}, nil
	repliestest.Ask(h, "POST", "/login/advAuthInit", `{"UserLogin":"jane"}`)
	repliestest.Ask(h, "POST", "/login/advAuth", `{"UserLogin":"jane","RndB":"x"}`)
	repliestest.Ask(h, "GET", "/login", "")
	repliestest.Ask(h, "GET", "/login/whoami", "")
	repliestest.Same(t, repliestest.Counts(t, "advauth", h.Metrics()), map[string]float64{"login ok": 2, "login 1003": 1, "login 1008": 1,
		"login UNAVAILABLE": 2, "login BUSY": 1, "challenge ok": 1, "answer 1002": 1, "login HTTP 405": 1, "whoami 1002": 1})
}

// Whatever paths and names clients make up, the labels stay the few of the tables.
func TestLabelsAreBounded(t *testing.T) {
	gate, h := newOneAnswer()
	gate.refused = adapters.Refused{Code: session.WrongCredentials}
	random := rand.New(rand.NewPCG(3, 7))
	for range 300 {
		word := strconv.FormatUint(random.Uint64(), 36)
		repliestest.Ask(h, "GET", "/"+word, "")
		repliestest.Ask(h, "POST", "/login", `{"UserLogin":"`+word+`","ApiKey":"`+word+`"}`)
		repliestest.Ask(h, word, "/login/whoami", "")
		repliestest.Ask(h, "POST", "/login/advAuthInit", word)
	}
	repliestest.Bounded(t, repliestest.Counts(t, "advauth", h.Metrics()), []string{"login", "whoami", "challenge", "other"},
		[]string{"1002", "1003", "HTTP 405"})
}
