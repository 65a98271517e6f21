package directory

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/argon2"

	"rollbook/engine/session"
)

// run is one call of argon2id.
type run struct {
	Parameters
	salt   int
	length uint32
}

// counter stands in for argon2id: it notes what is asked for and does it cheaply, so that only a verifier made by
// cheapened matches.
type counter struct {
	mu   sync.Mutex
	runs []run
}

func (c *counter) hash(password, salt []byte, time, memory uint32, threads uint8, length uint32) []byte {
	c.mu.Lock()
	c.runs = append(c.runs, run{Parameters{memory, time, threads}, len(salt), length})
	c.mu.Unlock()
	return cheapened(password, salt, time, memory, threads, length)
}

func cheapened(password, salt []byte, _, _ uint32, _ uint8, length uint32) []byte {
	return argon2.IDKey(password, salt, 1, 8, 1, length)
}

func (c *counter) take() []run {
	c.mu.Lock()
	defer c.mu.Unlock()
	runs := c.runs
	c.runs = nil
	return runs
}

// TestCheckCostsTheSame: whatever a check finds, it runs one argon2id with the default's parameters and lengths.
func TestCheckCostsTheSame(t *testing.T) {
	r := newRig(t)
	salt := []byte("sixteen bytes ab")
	h := newPHC(cheapened, DefaultParameters, salt, good)
	s := r.store(r.kv)
	with := func(verifier Verifier, venues []session.Venue, name string) session.UserID {
		user, err := s.Claim(t.Context(), []string{name})
		must(t, err)
		_, err = s.Create(t.Context(), Record{User: user, Names: []string{name}, Verifier: verifier, Venues: venues})
		must(t, err)
		return user
	}
	jane := with(h.verifier(), nil, "jane")
	zoe := with(h.verifier(), []session.Venue{session.Zenith}, "zoe")
	bare := with("", nil, "bare")
	gone := with(h.verifier(), nil, "gone")
	must(t, s.Remove(t.Context(), gone))
	broken := with(h.verifier(), nil, "broken")
	_, err := r.kv.Put(t.Context(), userPrefix+string(broken), []byte("{"))
	must(t, err)

	d := New(r.kv, Config{DeploymentKey: [32]byte{1}}, slog.New(slog.DiscardHandler))
	var argon counter
	d.hash = argon.hash
	if _, err := d.Check(t.Context(), session.Genesis, "jane", good); !errors.Is(err, ErrNotReady) {
		t.Fatalf("before it is ready: error %v", err)
	}
	r.run(d)
	must(t, d.Await(t.Context()))
	argon.take()

	for _, c := range []struct {
		what, name, password string
		user                 session.UserID // empty: a decoy
		verdict              session.Verdict
	}{
		{"right", "jane", good, jane, session.Matched},
		{"right, another spelling", "JANE", good, jane, session.Matched},
		{"wrong", "jane", other, jane, session.Mismatched},
		{"empty", "jane", "", jane, session.Mismatched},
		{"too long", "jane", strings.Repeat("x", 5000), jane, session.Mismatched},
		{"too long, with the right beginning", "jane", good + strings.Repeat("x", 5000), jane, session.Mismatched},
		{"another venue", "zoe", good, zoe, session.Mismatched},
		{"no verifier", "bare", good, bare, session.Mismatched},
		{"no verifier, empty password", "bare", "", bare, session.Mismatched},
		{"erased", "gone", good, "", session.NoSuchUser},
		{"nobody", "nobody", good, "", session.NoSuchUser},
		{"nobody, too long", "nobody", strings.Repeat("x", 5000), "", session.NoSuchUser},
		{"not a name", "not a name", good, "", session.NoSuchUser},
		{"no name", "", good, "", session.NoSuchUser},
		{"unreadable", "broken", good, broken, 0},
	} {
		got, err := d.Check(t.Context(), session.Genesis, c.name, c.password)
		want := session.Credential{User: c.user, Verdict: c.verdict}
		switch {
		case c.verdict == 0:
			want = session.Credential{}
			if !errors.Is(err, ErrUnreadable) {
				t.Errorf("%s: error %v, want ErrUnreadable", c.what, err)
			}
		case c.user == "":
			want.User = decoy(&d.cfg.DeploymentKey, c.name)
		default:
			want.Generation = 1
		}
		if c.verdict != 0 && err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", c.what, got, want)
		}
		if runs := argon.take(); len(runs) != 1 || runs[0] != (run{DefaultParameters, newSalt, newHash}) {
			t.Errorf("%s: it cost %v", c.what, runs)
		}
	}
	if c, err := d.Check(t.Context(), session.Zenith, "zoe", good); err != nil || c.Verdict != session.Matched {
		t.Errorf("at her own venue: %+v, %v", c, err)
	}
}
