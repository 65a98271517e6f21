package traderevolution

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

func TestRepliesAreCounted(t *testing.T) {
	gate := &oneAnswer{}
	h := New(Config{CallRate: -1}, gate, slog.New(slog.DiscardHandler))
	for _, answer := range []oneAnswer{{}, {}, {refused: adapters.Refused{Code: session.WrongCredentials}}, {refused: adapters.Refused{Code: session.TooManySessions}},
		{err: adapters.ErrUnavailable}, {err: adapters.ErrBusy}} {
		gate.refused, gate.err = answer.refused, answer.err
		repliestest.Ask(h, "POST", "/proftrading/rest/auth/token", `{"login":"jane","password":"pw"}`)
	}
	repliestest.Ask(h, "PUT", "/auth/token", "")
	repliestest.Ask(h, "POST", "/auth/token", "{")
	repliestest.Ask(h, "GET", "/connectors/settings", "")
	repliestest.Same(t, repliestest.Counts(t, "traderevolution", h.Metrics()), map[string]float64{"login ok": 2, "login 1.2.0.11": 1,
		"login 99.2.0.1": 1, "login UNAVAILABLE": 1, "login BUSY": 1, "login 99.0.2.1": 1, "login 99.0.1.1": 1, "settings 1.1.1.11": 1})
}

// Whatever paths and names clients make up, the labels stay the few of the tables.
func TestLabelsAreBounded(t *testing.T) {
	gate := &oneAnswer{refused: adapters.Refused{Code: session.WrongCredentials}}
	h := New(Config{CallRate: -1}, gate, slog.New(slog.DiscardHandler))
	random := rand.New(rand.NewPCG(3, 7))
	for range 300 {
		word := strconv.FormatUint(random.Uint64(), 36)
		repliestest.Ask(h, "GET", "/"+word, "")
		repliestest.Ask(h, "POST", "/auth/token", `{"login":"`+word+`","password":"`+word+`"}`)
		repliestest.Ask(h, word, "/external/token", `{"`+word+`":1}`)
		repliestest.Ask(h, "POST", "/auth/token", word)
	}
	repliestest.Bounded(t, repliestest.Counts(t, "traderevolution", h.Metrics()), []string{"login", "issue", "other"},
		[]string{string(codeCredentials), string(codeToken), string(codeNotJSON)})
}
