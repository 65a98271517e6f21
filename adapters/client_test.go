package adapters_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/bus"
	"rollbook/engine/session"
)

// TestOriginOf: a request's address in one spelling, and its agent as it is.
func TestOriginOf(t *testing.T) {
	for remote, want := range map[string]string{
		"203.0.113.7:4711": "203.0.113.7", "[2001:db8::7]:4711": "2001:db8::7", "[::ffff:203.0.113.7]:1": "203.0.113.7",
		"[fe80::1%eth0]:1": "fe80::1", "@": "invalid IP", "": "invalid IP",
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = remote
		r.Header.Set("User-Agent", "probe/1")
		if got := adapters.OriginOf(r); got.Address.String() != want || got.Agent != "probe/1" || got.Name != "" {
			t.Errorf("from %q: %+v", remote, got)
		}
	}
}

// TestGateSealsOrigins: a login and a refresh carry what the directory sealed, of the user or of the decoy; a login's with
// the name as it was presented, all texts valid and within their bounds.
func TestGateSealsOrigins(t *testing.T) {
	h := newHouse(t)
	commands := make(taken, 8)
	gate := adapters.NewGate(adapters.Config{Submit: commands, Directory: h.People, Sessions: h.Pod(nil).Index, Policies: session.DefaultPolicies(),
		Partitions: 1, Timeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	from := session.Origin{Address: netip.MustParseAddr("203.0.113.7"), Agent: "\xffbad " + strings.Repeat("é", 200), Name: "not the venue's to say"}
	for name, want := range map[string]session.UserID{"JANE": jane.User, "nobody" + strings.Repeat("日", 99): ""} {
		if want == "" {
			want = h.People.Decoy(name)
		}
		_, _, _ = gate.Login(context.Background(), adapters.Login{Venue: session.Genesis, Name: name, Password: "x", Origin: from})
		login := (<-commands).(*session.Login)
		user, sealed, _ := strings.Cut(string(login.Origin), "\x00")
		o, err := session.DecodeOrigin([]byte(sealed))
		must(t, err)
		if session.UserID(user) != want || login.User != want || o.Address != from.Address || !strings.HasPrefix(name, o.Name) || o.Name == "" ||
			len(o.Name) > session.MaxOriginName || !strings.HasPrefix(o.Agent, "\uFFFDbad é") || len(o.Agent) > session.MaxAgent {
			t.Errorf("%q is sealed of %s as %+v", name, user, o)
		}
	}
}

// TestOriginsAreInTheBook: what a login and a refresh bring stands in their events.
func TestOriginsAreInTheBook(t *testing.T) {
	h := newHouse(t)
	gate := h.pod(nil)
	at := func(address, agent string) session.Origin {
		return session.Origin{Address: netip.MustParseAddr(address), Agent: agent}
	}
	grant, refused, err := gate.Login(t.Context(), adapters.Login{Venue: session.TraderEvolution, Name: "Jane", Password: "right",
		Form: adapters.URLSafe, Origin: at("203.0.113.7", "one")})
	must(t, err)
	if refused.No() {
		t.Fatal(refused.Code)
	}
	_, refused, err = gate.Refresh(t.Context(), adapters.Refresh{Venue: session.TraderEvolution, Token: grant.Refresh, Form: adapters.URLSafe,
		Origin: at("203.0.113.8", "two")})
	must(t, err)
	if refused.No() {
		t.Fatal(refused.Code)
	}
	_, refused, err = gate.Login(t.Context(), adapters.Login{Venue: session.Zenith, Name: "jane", Password: "wrong", Origin: at("203.0.113.9", "three")})
	must(t, err)
	if refused.Code != session.WrongCredentials {
		t.Fatal(refused.Code)
	}
	var got []session.Origin
	for _, e := range events(h) {
		var sealed []byte
		switch e := e.(type) {
		case *session.SessionStarted:
			sealed = e.Origin
		case *session.SessionRefreshed:
			sealed = e.Origin
		case *session.LoginRejected:
			sealed = e.Origin
		default:
			continue
		}
		user, plain, _ := strings.Cut(string(sealed), "\x00")
		o, err := session.DecodeOrigin([]byte(plain))
		must(t, err)
		if session.UserID(user) != jane.User {
			t.Errorf("sealed for %s", user)
		}
		got = append(got, o)
	}
	want := []session.Origin{{Address: netip.MustParseAddr("203.0.113.7"), Agent: "one", Name: "Jane"}, at("203.0.113.8", "two"),
		{Address: netip.MustParseAddr("203.0.113.9"), Agent: "three", Name: "jane"}}
	if len(got) != len(want) {
		t.Fatalf("%d origins: %+v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("origin %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// events are all that the book holds.
func events(h *house) (list []session.Event) {
	book := h.Bus.Book(0)
	end, err := book.End(h.t.Context())
	must(h.t, err)
	must(h.t, book.Read(h.t.Context(), 0, end, func(stored bus.StoredPage) error {
		page, err := bus.DecodePage(stored.Data)
		must(h.t, err)
		for _, data := range page.Events {
			e, err := session.DecodeEvent(data)
			must(h.t, err)
			list = append(list, e)
		}
		return nil
	}))
	return list
}

var _ adapters.Directory = (*adapterstest.People)(nil)
