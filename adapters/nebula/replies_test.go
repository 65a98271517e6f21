package nebula

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

// oneAnswer is a gate that answers every login alike. Its sessions never end.
type oneAnswer struct {
	Gate
	refused adapters.Refused
	err     error
}

func (g *oneAnswer) Login(context.Context, adapters.Login) (adapters.Grant, adapters.Refused, error) {
	return adapters.Grant{Session: session.Session{ID: adapters.MintSessionID()}, Access: "a"}, g.refused, g.err
}

func (g *oneAnswer) Disconnect(context.Context, session.Session) (adapters.Refused, error) {
	return adapters.Refused{}, nil
}

func (g *oneAnswer) Watch(session.SessionID) (<-chan struct{}, func()) { return nil, func() {} }

func newOneAnswer(t *testing.T) (*oneAnswer, *Handler) {
	gate := &oneAnswer{}
	h := New(Config{MessageRate: 10000}, gate, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return gate, h
}

const (
	oneBody  = `{"email":"jane@example.com","password":"pw"}`
	oneFrame = `{"q":"exchange.market/createSession","sid":1,"d":{"username":"jane","password":"pw"}}`
)

func TestRepliesAreCounted(t *testing.T) {
	gate, h := newOneAnswer(t)
	for _, answer := range []oneAnswer{{}, {refused: adapters.Refused{Code: session.WrongCredentials}},
		{refused: adapters.Refused{Code: session.TooManySessions}}, {err: adapters.ErrUnavailable}, {err: adapters.ErrBusy}} {
		gate.refused, gate.err = answer.refused, answer.err
		repliestest.Ask(h, "POST", tokenPath, oneBody)
		repliestest.Talk(t, h, "/", "", oneFrame)
	}
	repliestest.Ask(h, "POST", tokenPath, "{")
	repliestest.Ask(h, "GET", "/", "")
	repliestest.Ask(h, "GET", restPrefix+"x", "")
	repliestest.Talk(t, h, "/", "", `{"q":"v1/heartbeat/ping","sid":1}`, `{"q":"v1/heartbeat/ping","sid":1,"sig":3}`, `{"q":"x"}`)
	repliestest.Same(t, repliestest.Counts(t, "nebula", h.Metrics()), map[string]float64{
		"login ok": 1, "login 2": 1, "login 6003": 1, "login UNAVAILABLE": 1, "login BUSY": 1, "login 400": 1,
		"session ok": 1, "session 6000": 1, "session 6003": 1, "session UNAVAILABLE": 1, "session BUSY": 1,
		"other 404": 1, "rest 10000": 1, "socket ok": 6, "heartbeat ok": 1, "cancel ok": 1, "other 400": 1})
}

// Whatever paths, qualifiers and names clients make up, the labels stay the few of the tables.
func TestLabelsAreBounded(t *testing.T) {
	gate, h := newOneAnswer(t)
	gate.refused = adapters.Refused{Code: session.WrongCredentials}
	random := rand.New(rand.NewPCG(3, 7))
	var frames []string
	for range 100 {
		word := strconv.FormatUint(random.Uint64(), 36)
		repliestest.Ask(h, "GET", "/"+word, "")
		repliestest.Ask(h, word, restPrefix+word, "")
		repliestest.Ask(h, "POST", tokenPath, `{"email":"`+word+`","password":"`+word+`"}`)
		frames = append(frames, `{"q":"`+word+`","sid":1}`, `{"q":"broker.oms/`+word+`","sid":1}`,
			`{"q":"exchange.market/createSession","sid":1,"d":{"username":"`+word+`","password":"x"}}`)
	}
	repliestest.Talk(t, h, "/", "", frames...)
	repliestest.Bounded(t, repliestest.Counts(t, "nebula", h.Metrics()), []string{"login", "rest", "socket", "session", "other"},
		[]string{"ok", "2", "404", "10000", "6000", "503", "200"})
}
