package zenith

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"rollbook/adapters"
)

// FuzzRespond answers any frames, one a line, as a socket does: every answer is an envelope of a request's controller
// and number or of a subscription, nobody is somebody without a session of the gate, and no grant comes back.
func FuzzRespond(f *testing.F) {
	for _, seed := range []string{loginFrame, whoFrame, loginFrame + "\n" + tokenFrame("Bearer", fakeToken(1)) + "\n" + whoFrame,
		`{"Controller":"Auth","Topic":"Identify","Action":"Sub","Confirm":true}` + "\n" + loginFrame + "\n" + loginFrame,
		`{"Topic":"Configure","Data":{"ActionTimeout":"00:00:01.5","SubscriptionTimeout":"1.00:00"}}` + "\n" + `{"Topic":"QueryConfigure","TransactionID":-7}`,
		`{"Topic":"ServerInfo","Action":"Sub"}` + "\n" + `{"Topic":"ServerInfo","Action":"Unsub","Confirm":true}`,
		`{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{"Provider":"Rollbook","ClientID":"x","Username":"JaneDee","Password":"beONneON*74","Scope":["Zenith/Market"]}}`,
		`{"Controller":"Auth","Topic":"AuthCode","TransactionID":1,"Data":{"Provider":"Rollbook","ClientID":"","AuthGrant":7,"Scope":{}}}`,
		`{"Controller":"Market","TransactionID":1,"Action":"Dance"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		gate := newFakeGate(t)
		cfg := sample()
		cfg.Now, cfg.Linger = gate.now, time.Hour
		h := New(cfg, gate, slog.New(slog.DiscardHandler))
		defer func() {
			if err := h.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		s := &socket{h: h, version: newestVersion, changed: make(chan struct{}, 1), subs: map[key]int{}, timeouts: map[string]timeouts{}}
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, frame := range bytes.Split(data, []byte("\n")) {
			if i == 8 {
				return
			}
			r, code, err := decodeEnvelope(frame)
			if err != nil {
				continue
			}
			list := s.respond(t.Context(), r, code)
			if len(list) > 2 {
				t.Fatalf("%q has %d answers", frame, len(list))
			}
			for _, e := range list {
				text := adapters.RenderJSON(e)
				subscriber := e.TransactionID == nil && (e.Controller == auth && e.Topic == identify.topic)
				if !json.Valid(text) || e.Controller != r.controller && !subscriber {
					t.Fatalf("%q is answered with %s", frame, text)
				}
				if e.TransactionID != nil && !bytes.Equal(e.TransactionID, r.transaction) {
					t.Fatalf("%q is answered with the number of another: %s", frame, text)
				}
				if !slices.Contains([]string{"", failure, subscribe, unsubscribe}, e.Action) || bytes.Contains(text, []byte(fakePassword)) && !bytes.Contains([]byte(r.topic+r.controller), []byte(fakePassword)) {
					t.Fatalf("%q is answered with %s", frame, text)
				}
			}
			if s.who != nil {
				if _, live := gate.Session(s.who.session.ID); !live || s.who.session.User != "u1janedee" {
					t.Fatalf("%q makes the client somebody of no session: %+v", frame, s.who.session)
				}
			}
			for at, references := range s.subs {
				if _, served := topics[at]; !served || references < 1 {
					t.Fatalf("%q leaves %d subscriptions to %v", frame, references, at)
				}
			}
		}
	})
}
