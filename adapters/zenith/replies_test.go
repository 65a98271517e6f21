package zenith

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

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
	return adapters.Grant{Session: session.Session{ID: adapters.MintSessionID()}, Refresh: "r"}, g.refused, g.err
}

func (g *oneAnswer) Disconnect(context.Context, session.Session) (adapters.Refused, error) {
	return adapters.Refused{}, nil
}

func (g *oneAnswer) Session(session.SessionID) (session.Session, bool) {
	return session.Session{}, false
}
func (g *oneAnswer) Find(string) (session.UserID, bool)                { return "", false }
func (g *oneAnswer) Profile(session.UserID) session.Profile            { return session.Profile{} }
func (g *oneAnswer) Watch(session.SessionID) (<-chan struct{}, func()) { return nil, func() {} }

func newOneAnswer(t *testing.T) (*oneAnswer, *Handler) {
	gate := &oneAnswer{}
	// A clock at the beginning of time: the sessions above are good.
	h := New(Config{MessageRate: 10000, Now: func() time.Time { return time.Unix(-1, 0) }}, gate, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return gate, h
}

// oneLogin is a login by name and password.
func oneLogin(name string) string {
	return fmt.Sprintf(`{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{"Provider":"Rollbook","ClientID":"c","UserName":%q,"Password":"pw"}}`, name)
}

func TestRepliesAreCounted(t *testing.T) {
	gate, h := newOneAnswer(t)
	for _, answer := range []oneAnswer{{}, {refused: adapters.Refused{Code: session.WrongCredentials}},
		{err: adapters.ErrUnavailable}, {err: adapters.ErrBusy}} {
		gate.refused, gate.err = answer.refused, answer.err
		repliestest.Talk(t, h, "/Zenith", subprotocol, oneLogin("jane"))
	}
	repliestest.Ask(h, "GET", "/", "")
	repliestest.Ask(h, "GET", "/Zenith", "")
	repliestest.Talk(t, h, "/Zenith", subprotocol, `{"Controller":"Zenith","Topic":"ServerInfo","Action":"Sub"}`, `{"Controller":"Nowhere","Topic":"x"}`,
		`{"Controller":"Auth","Topic":"AuthToken","TransactionID":1,"Data":{"Provider":"Bearer","AccessToken":"x"}}`,
		`{"Controller":"Auth","Topic":"AuthCode","TransactionID":1}`, `{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}`)
	repliestest.Same(t, repliestest.Counts(t, "zenith", h.Metrics()), map[string]float64{"login ok": 1, "login Reject": 1,
		"login UNAVAILABLE": 1, "login BUSY": 1, "other HTTP 404": 1, "other HTTP 426": 1, "socket ok": 5, "subscribe ok": 1,
		"other Controller": 1, "refresh Reject": 1, "login Data": 1, "identify ok": 1})
}

// Whatever controllers, topics and names clients make up, the labels stay the few of the tables.
func TestLabelsAreBounded(t *testing.T) {
	gate, h := newOneAnswer(t)
	gate.refused = adapters.Refused{Code: session.WrongCredentials}
	random := rand.New(rand.NewPCG(3, 7))
	var frames []string
	for range 100 {
		word := strconv.FormatUint(random.Uint64(), 36)
		repliestest.Ask(h, word, "/"+word, "")
		repliestest.Ask(h, word, "/Zenith", "")
		frames = append(frames, oneLogin(word), `{"Controller":"`+word+`","Topic":"x"}`,
			`{"Controller":"Auth","Topic":"`+word+`","TransactionID":1}`, `{"Controller":"Auth","Topic":"`+word+`","Action":"`+word+`"}`,
			`{"Controller":"Auth","Topic":"`+word+`","Action":"Sub","Confirm":false}`)
	}
	repliestest.Talk(t, h, "/Zenith", subprotocol, frames...)
	repliestest.Bounded(t, repliestest.Counts(t, "zenith", h.Metrics()), []string{"login", "socket", "subscribe", "other"},
		[]string{"ok", "Reject", "Controller", "Operation.Unknown", "HTTP 404", "HTTP 405"})
}
