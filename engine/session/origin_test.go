package session

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestOriginComesBack: whatever an origin holds, it comes back, and one that was sealed long ago still reads.
func TestOriginComesBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := Origin{Agent: rapid.StringN(0, 40, MaxAgent).Draw(rt, "agent"), Name: rapid.StringN(0, 40, MaxOriginName).Draw(rt, "name")}
		switch rapid.IntRange(0, 2).Draw(rt, "family") {
		case 1:
			o.Address = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "v4")))
		case 2:
			o.Address = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "v6")))
		}
		got, err := DecodeOrigin(EncodeOrigin(o))
		if err != nil || got != o {
			rt.Fatalf("%+v came back as %+v, %v", o, got, err)
		}
	})
	want := Origin{Address: netip.MustParseAddr("2001:db8::17"), Agent: "probe/1.0", Name: "JaneDee"}
	today, lines := hex.EncodeToString(EncodeOrigin(want)), readLines(t, filepath.Join(goldens, "sealed", "origin.hex"))
	if len(lines) == 0 || lines[len(lines)-1] != today {
		t.Errorf("it is written as %s today, which is not the last golden line: add it", today)
	}
	for _, line := range lines {
		data, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeOrigin(data); err != nil || got != want {
			t.Errorf("%s reads %+v, %v", line, got, err)
		}
	}
}

// TestOriginDamaged: an address of a length that no address has, and bytes that end early, are undecodable.
func TestOriginDamaged(t *testing.T) {
	for _, damaged := range []string{"", "94", "9401c403010203a0a0", "9401c4ff01", "9401c0a5", "9401c0a0a000"} {
		data, err := hex.DecodeString(damaged)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := DecodeOrigin(data); !errors.Is(err, ErrUndecodable) {
			t.Errorf("%s: %+v, %v", damaged, o, err)
		}
	}
}

// TestOriginGoesIntoTheBook: a login's sealed origin stands in what the login leads to, a refresh's in the refresh, and in
// the state it stands nowhere; one that is larger than any pod seals is refused.
func TestOriginGoesIntoTheBook(t *testing.T) {
	s := NewState(DefaultPolicies())
	fill(t, s, &Register{User: "alice", Credential: 1})
	login := &Login{User: "alice", Venue: TraderEvolution, Verdict: Matched, Credential: 1, Session: SessionID{1}, Access: HashToken("a"),
		Refresh: HashToken("r"), Origin: []byte("sealed at login")}
	wrong := *login
	wrong.Verdict, wrong.Origin = Mismatched, []byte("sealed at a wrong password")
	events, _ := s.Decide(&wrong, begin)
	if rejected, ok := events[0].(*LoginRejected); !ok || string(rejected.Origin) != "sealed at a wrong password" {
		t.Errorf("a wrong password leads to %+v", events[0])
	}
	events, _ = s.Decide(login, begin)
	if started, ok := events[0].(*SessionStarted); !ok || string(started.Origin) != "sealed at login" {
		t.Errorf("a login leads to %+v", events[0])
	}
	fill(t, s, login)
	refresh := &Refresh{User: "alice", Venue: TraderEvolution, Session: SessionID{1}, Presented: HashToken("r"), Handle: Handle{1},
		Access: HashToken("a2"), Refresh: HashToken("r2"), Origin: []byte("sealed at refresh")}
	events, _ = s.Decide(refresh, begin)
	if refreshed, ok := events[0].(*SessionRefreshed); !ok || string(refreshed.Origin) != "sealed at refresh" {
		t.Errorf("a refresh leads to %+v", events[0])
	}
	fill(t, s, refresh)
	if err := s.Snapshot(func(chunk []byte) error {
		if bytes.Contains(chunk, []byte("sealed at")) {
			t.Error("a snapshot holds an origin")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	large := []byte(strings.Repeat("x", maxOrigin+1))
	login.Session, login.Origin, refresh.Origin = SessionID{2}, large, large
	for _, cmd := range []Command{login, refresh} {
		if _, reply := s.Decide(cmd, begin); reply.Refusal != InvalidCommand {
			t.Errorf("%s with an origin of %d bytes: %s", cmd.Verb(), len(large), reply.Refusal)
		}
	}
}
