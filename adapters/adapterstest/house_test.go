package adapterstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/engine/session"
)

const (
	password = "seventeen tall ships"
	venue    = session.Genesis
)

func login(p *Pod, name, password string) (adapters.Grant, adapters.Refused, error) {
	return p.Login(context.Background(), adapters.Login{Venue: venue, Name: name, Password: password})
}

func check(t *testing.T, p *Pod, token string) session.Refusal {
	t.Helper()
	_, refused, err := p.Check(context.Background(), venue, token)
	Must(t, err)
	return refused.Code
}

// TestBusComesBack: while the bus is away nothing is refused that is not known to be wrong; when it is back so is all
// that was in it, and the pods and the writers have found it by themselves.
func TestBusComesBack(t *testing.T) {
	h := NewHouse(t, Settings{OverTCP: true, Partitions: 2})
	registry := h.Registry()
	users := []session.UserID{registry.Enrol(Person{Names: []string{"ann"}, Password: password}), registry.Enrol(Person{Names: []string{"bea"}, Password: password})}
	real := func(c *adapters.Config) { c.Directory = registry }
	one, two := h.Pod(real), h.Pod(real)
	lame := h.Pod(func(c *adapters.Config) { c.Directory, c.Timeout = registry, 100*time.Millisecond })
	var tokens []string
	for _, name := range []string{"ann", "bea"} {
		grant, refused, err := login(one, name, password)
		if err != nil || refused.No() {
			t.Fatal(refused.Code, err)
		}
		if got := check(t, two, grant.Access); got != session.Accepted {
			t.Fatalf("the other pod: %s", got)
		}
		tokens = append(tokens, grant.Access)
	}
	h.StopBus()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, refused, err := lame.Login(ctx, adapters.Login{Venue: venue, Name: "ann", Password: password}); !errors.Is(err, adapters.ErrUnavailable) || refused.No() {
		t.Errorf("a login without the bus: %s, %v", refused.Code, err)
	}
	h.StartBus()
	h.Command(&session.Revoke{User: users[0]}) // every pod has seen it
	for _, p := range []*Pod{one, two} {
		if got := check(t, p, tokens[0]); got != session.InvalidToken {
			t.Errorf("a session that was revoked: %s", got)
		}
		if got := check(t, p, tokens[1]); got != session.Accepted {
			t.Errorf("a session from before: %s", got)
		}
	}
	if _, refused, err := login(two, "bea", password); err != nil || refused.No() {
		t.Errorf("a login with the bus: %s, %v", refused.Code, err)
	}
}

// TestWritersComeBack: another writer takes over the book, and the clock of the house is everybody's.
func TestWritersComeBack(t *testing.T) {
	h := NewHouse(t, Settings{People: []Person{{User: "u-ann", Names: []string{"Ann"}, Password: password}},
		Policies: func(p *session.Policies) { p.Lockout.Threshold = 1 }})
	pod := h.Pod(nil)
	grant, refused, err := login(pod, "ANN", password)
	if err != nil || refused.No() || grant.Name != "Ann" {
		t.Fatal(grant.Name, refused.Code, err)
	}
	h.StopWriters()
	h.StartWriters()
	if got := h.Ask(&session.Register{User: "u-ann", Credential: 1}); got.Refusal != session.AlreadyExists {
		t.Errorf("the writer knows nobody: %s", got.Refusal)
	}
	if got := check(t, pod, grant.Access); got != session.Accepted {
		t.Errorf("a session from before: %s", got)
	}
	h.Later(31 * time.Minute)
	if got := check(t, pod, grant.Access); got != session.ExpiredToken {
		t.Errorf("after half an hour: %s", got)
	}
	if _, refused, err := login(pod, "ann", "wrong"); err != nil || refused.Code != session.WrongCredentials {
		t.Errorf("%s, %v", refused.Code, err)
	}
	if _, refused, err := login(pod, "ann", password); err != nil || refused.Code != session.Locked {
		t.Errorf("the policy is not the house's: %s, %v", refused.Code, err)
	}
	h.Later(time.Hour)
	if _, refused, err := login(pod, "ann", password); err != nil || refused.No() {
		t.Errorf("after the lock: %s, %v", refused.Code, err)
	}
}

// TestPeopleAnswerAsTheRegistryDoes holds the directory in memory to what the real one answers.
func TestPeopleAnswerAsTheRegistryDoes(t *testing.T) {
	h := NewHouse(t, Settings{})
	registry := h.Registry()
	ann := Person{Names: []string{"Ann", "ann@example.com"}, Password: password, Scopes: []string{"reports"}, Venues: []session.Venue{session.Genesis, session.Nebula}}
	bot := Person{Names: []string{"bot"}, Key: []byte("0123456789abcdef"), Venues: []session.Venue{session.Nebula}}
	ann.User, bot.User = registry.Enrol(ann), registry.Enrol(bot)
	bot.Credential = 2 // the key came second
	people := NewPeople(ann, bot)
	answers := func(d adapters.Directory) (said []string) {
		say := func(args ...any) { said = append(said, fmt.Sprintln(args...)) }
		ctx := context.Background()
		for _, v := range []session.Venue{session.Genesis, session.Nebula, session.Zenith} {
			for _, name := range []string{"Ann", "aNN", "ann@example.com", "bot", "nobody"} {
				for _, password := range []string{password, "wrong", ""} {
					c, err := d.Check(ctx, v, name, password)
					if c.Verdict == session.NoSuchUser {
						c = session.Credential{Verdict: c.Verdict} // whose it is counted as is each directory's own
					}
					say("check", v, name, password, c, err)
				}
			}
			for _, user := range []session.UserID{ann.User, bot.User, "u-nobody"} {
				key, credential, ok := d.Key(user, v)
				say("key", v, user, key, credential, ok)
				if credential, ok := d.Generation(user, v); ok {
					say("generation", v, user, credential)
				}
			}
		}
		for _, name := range []string{"Ann", "ANN@example.com", "bot", "nobody"} {
			user, ok := d.Find(name)
			say("find", name, user, ok)
			decoy := d.Decoy(name)
			say("decoy", name, decoy != "", decoy == d.Decoy(strings.ToUpper(name)), decoy == user, decoy == d.Decoy(name+"x"))
		}
		for _, user := range []session.UserID{ann.User, bot.User, "u-nobody"} {
			name, ok := d.Name(user)
			profile, known := d.Profile(user)
			say("profile", user, name, ok, known, len(profile.Names), fmt.Sprint(profile.Names, profile.Scopes))
		}
		say("current", d.Current(ctx))
		return said
	}
	want, got := answers(registry), answers(people)
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("the registry says %sthe people say %s", want[i], got[i])
		}
	}
}
