package advauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollbook/adapters"
	"rollbook/adapters/adapterstest"
	"rollbook/engine/session"
)

// holders are people with API keys; at this venue no password may be checked.
type holders struct{ *adapterstest.People }

func (holders) Check(context.Context, session.Venue, string, string) (session.Credential, error) {
	panic("no password is checked at this venue")
}

func userOf(name string) session.UserID {
	return session.UserID("u-" + strings.ReplaceAll(strings.ToLower(name), ".", "-"))
}

// house is the kit's, and remembers its pods.
type house struct {
	*adapterstest.House
	t    *testing.T
	pods []*adapterstest.Pod
}

func newHouse(t *testing.T, change func(*session.Policies)) *house {
	t.Helper()
	return &house{House: adapterstest.NewHouse(t, adapterstest.Settings{Policies: change}), t: t}
}

// pod is a server before a gate with projections of its own.
func (h *house) pod(cfg Config) *httptest.Server {
	h.t.Helper()
	p := h.Pod(func(c *adapters.Config) { c.Directory = holders{h.People} })
	h.pods = append(h.pods, p)
	return adapterstest.Serve(h.t, New(cfg, p, adapterstest.Discard))
}

// user makes a login with a key, and its honest client.
func (h *house) user(login string) client {
	h.t.Helper()
	c := client{login: login, key: ownMAC(block{}, []byte(login)), a: &vectorRa}
	h.Register(c.person(1))
	return c
}

// person is how the directory knows the client's login.
func (c client) person(credential uint64) adapterstest.Person {
	return adapterstest.Person{User: userOf(c.login), Names: []string{c.login}, Key: c.key[:], Credential: credential}
}

func whoAmI(t *testing.T, server *httptest.Server, token string) said {
	t.Helper()
	return ask(t, server, "GET", "/login/whoami?Token="+token, "")
}

// TestAcrossPods: the challenge of one pod is answered at another and the token used at a third, whose clocks differ;
// the answer is good once, wherever it is sent again.
func TestAcrossPods(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	seen := map[block]bool{}
	var pods []*httptest.Server
	for _, ahead := range []time.Duration{0, 4 * time.Second, -4 * time.Second} {
		cfg := sample()
		cfg.Now = func() time.Time { return h.Now().Add(ahead) }
		pods = append(pods, h.pod(cfg))
	}
	for n := range 6 {
		asked, answered, used := pods[n%3], pods[(n+1+n/3)%3], pods[(n+2)%3]
		challenge := john.challenge(t, asked)
		for seen[challenge] { // of two pods' challenges one in perSlot is the same, and good once in all
			challenge = john.challenge(t, asked)
		}
		seen[challenge] = true
		body := john.answer(challenge)
		s := ask(t, answered, "POST", "/login/advAuth", body)
		if s.status != 200 || s.ExpireInSec != 20 {
			t.Fatalf("round %d: %d %s", n, s.status, s.raw)
		}
		proof := HMAC.proof(john.key, challenge, answer{login: "john", a: vectorRa, hasA: true}, s.Token, 20).String()
		if s.header.Get(proofHeader) != proof {
			t.Errorf("round %d: proof %s, want %s", n, s.header.Get(proofHeader), proof)
		}
		if w := whoAmI(t, used, s.Token); w.status != 200 || w.UserLogin != "john" {
			t.Errorf("round %d: %d %s", n, w.status, w.raw)
		}
		for _, again := range pods[:1+n%2] {
			if s := ask(t, again, "POST", "/login/advAuth", body); s.status != 401 || s.Code != 1003 {
				t.Errorf("round %d, sent again: %d %s", n, s.status, s.raw)
			}
		}
	}
}

// TestOneAnswerManyPods: of one answer that is sent many times at once, one is taken.
func TestOneAnswerManyPods(t *testing.T) {
	h := newHouse(t, nil)
	pods := []*httptest.Server{h.pod(sample()), h.pod(sample())}
	for n := range 8 {
		c := h.user(fmt.Sprintf("user%d", n))
		body := c.answer(c.challenge(t, pods[n%2]))
		var taken, refused atomic.Int32
		var sending sync.WaitGroup
		for i := range 16 {
			sending.Go(func() {
				response, err := http.Post(pods[i%2].URL+"/login/advAuth", "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				response.Body.Close()
				switch response.StatusCode {
				case 200:
					taken.Add(1)
				case 401:
					refused.Add(1)
				}
			})
		}
		sending.Wait()
		if taken.Load() != 1 || refused.Load() != 15 {
			t.Errorf("round %d: %d taken, %d refused", n, taken.Load(), refused.Load())
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestManyLogins: a login whose clients ask all at once gets a challenge for each.
func TestManyLogins(t *testing.T) {
	h := newHouse(t, nil)
	john, server := h.user("john"), h.pod(sample())
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() {
			if s := john.in(t, server); s.status != 200 {
				t.Errorf("%d %s", s.status, s.raw)
			}
		})
	}
	working.Wait()
}

// TestWrongAnswersLock: wrong answers and nobody's logins are counted, get one reply, and lock alike; the right answer is
// then refused like a wrong one, but for the time to wait.
func TestWrongAnswersLock(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	server := h.pod(sample())
	key := base64.StdEncoding.EncodeToString(john.key[:])
	for _, c := range []client{{login: "john", key: block{9}}, {login: "nobody", key: john.key}} {
		var replies []string
		for n := range 6 {
			path, body := "/login", fmt.Sprintf(`{"UserLogin":%q,"ApiKey":"AAAAAAAAAAAAAAAAAAAAAA=="}`, c.login)
			if n%2 == 0 {
				path, body = "/login/advAuth", c.answer(c.challenge(t, server))
			}
			s := ask(t, server, "POST", path, body)
			if s.status != 401 || s.Code != 1003 || (s.header.Get("Retry-After") != "") != (n == 5) { // the fifth locks
				t.Errorf("%s, attempt %d: %d %s, retry after %q", c.login, n, s.status, s.raw, s.header.Get("Retry-After"))
			}
			replies = append(replies, s.raw)
		}
		if replies[0] != replies[5] {
			t.Errorf("%s: %q", c.login, replies)
		}
	}
	for _, s := range []said{john.in(t, server), ask(t, server, "POST", "/login", fmt.Sprintf(`{"UserLogin":"john","ApiKey":%q}`, key))} {
		if s.status != 401 || s.Code != 1003 || s.header.Get("Retry-After") == "" || s.header.Get(proofHeader) != "" {
			t.Errorf("a right one after the lock: %d %s", s.status, s.raw)
		}
	}
	h.Command(&session.Unlock{User: "u-john"})
	if s := ask(t, server, "POST", "/login", fmt.Sprintf(`{"UserLogin":"JOHN","ApiKey":%q}`, key)); s.status != 200 {
		t.Errorf("after the unlock: %d %s", s.status, s.raw)
	}
	h.Command(&session.Disable{User: "u-john"})
	if s := john.in(t, server); s.status != 401 || s.Code != 1003 {
		t.Errorf("disabled: %d %s", s.status, s.raw)
	}
}

// TestExpiryAndRevocation: a token is good for its time on every pod; after its end the pods that met it say expired,
// others that they do not know it; a revoked one is not known.
func TestExpiryAndRevocation(t *testing.T) {
	h := newHouse(t, func(p *session.Policies) {
		policy := p.Venues[session.AdvAuth]
		policy.Absolute = 3 * time.Minute
		p.Venues[session.AdvAuth] = policy
	})
	john := h.user("john")
	cfg := sample()
	cfg.Now = h.Now
	granting, met, never := h.pod(cfg), h.pod(cfg), h.pod(cfg)
	s := john.in(t, granting)
	if s.ExpireInSec != 180 {
		t.Errorf("the policy's lifetime is not told: %s", s.raw)
	}
	for range 3 {
		if w := whoAmI(t, met, s.Token); w.status != 200 {
			t.Fatalf("%d %s", w.status, w.raw)
		}
	}
	revoked := john.in(t, granting).Token
	h.Command(&session.Revoke{User: "u-john"})
	if w := whoAmI(t, granting, revoked); w.Code != 1000 {
		t.Errorf("revoked: %s", w.raw)
	}
	second := john.in(t, granting).Token
	whoAmI(t, met, second)
	h.Later(3 * time.Minute)
	h.Command(&session.Unlock{User: userOf("john")}) // the writer looks at the clock
	for _, p := range h.pods {
		adapterstest.Eventually(t, "the sessions end", func() bool { return p.Index.Len() == 0 })
	}
	if w := whoAmI(t, never, second); w.status != 401 || w.Code != 1000 {
		t.Errorf("expired, never met: %d %s", w.status, w.raw)
	}
	for _, server := range []*httptest.Server{granting, met} {
		if w := whoAmI(t, server, second); w.status != 401 || w.Code != 1001 {
			t.Errorf("expired: %d %s", w.status, w.raw)
		}
	}
}

// TestNewKey: when the book knows a newer key than the pod, an answer is judged by the newer one once it is here, and is
// good once all the same.
func TestNewKey(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	server := h.pod(sample())
	h.Command(&session.ChangeCredential{User: "u-john", Credential: 2})
	john.key = block{42}
	body := john.answer(john.challenge(t, server))
	go func() { // the directory catches up a little later
		time.Sleep(50 * time.Millisecond)
		h.People.Put(john.person(2))
	}()
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 200 {
		t.Fatalf("%d %s", s.status, s.raw)
	}
	if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 401 || s.Code != 1003 {
		t.Errorf("the same answer again: %d %s", s.status, s.raw)
	}
}

// TestDirectoryAway: while the directory may lack the key, a right answer is not called wrong, nor counted.
func TestDirectoryAway(t *testing.T) {
	h := newHouse(t, nil)
	server := h.pod(sample())
	h.Command(&session.Register{User: "u-john", Credential: 1})
	john := client{login: "john", key: block{1}}
	h.People.Away(errors.New("the directory has not been read yet"))
	for range 6 {
		if s := john.in(t, server); s.status != 500 || s.Code != 0 {
			t.Errorf("%d %s", s.status, s.raw)
		}
	}
	h.People.Away(nil)
	h.People.Put(john.person(1))
	if s := john.in(t, server); s.status != 200 {
		t.Errorf("with the directory: %d %s", s.status, s.raw)
	}
}

// TestWriterAway: without a writer a login is neither accepted nor refused, and good tokens stay good.
func TestWriterAway(t *testing.T) {
	h := newHouse(t, nil)
	john := h.user("john")
	cfg := sample()
	cfg.CallTimeout = 500 * time.Millisecond
	server := h.pod(cfg)
	s := john.in(t, h.pod(sample()))
	h.StopWriters()
	if w := whoAmI(t, server, s.Token); w.status != 200 {
		t.Errorf("a good token: %d %s %s", w.status, w.raw, s.raw)
	}
	for _, body := range []string{john.answer(john.challenge(t, server)), `{"UserLogin":"nobody"}`} {
		if s := ask(t, server, "POST", "/login/advAuth", body); s.status != 500 || s.Code != 0 || s.header.Get("Retry-After") != "1" {
			t.Errorf("%d %s", s.status, s.raw)
		}
	}
}
