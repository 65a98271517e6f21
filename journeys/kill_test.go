package journeys

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
)

// kept is what one client knows of a session: what the server acknowledged, and what it may have done besides.
type kept struct {
	access  string // the access token of the last acknowledged login or refresh
	refresh string
	handle  string
	ended   bool // a logout was acknowledged
	unknown bool // a refresh or logout was sent and not answered
}

// client works as one user: logs in, refreshes, logs out, and keeps a record.
type client struct {
	logins *atomic.Int64 // acknowledged, of all clients
	in     *instance
	name   string
	live   []*kept
	all    []*kept
	lost   int // logins that were sent and not answered
}

func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		switch {
		case len(c.live) == 0 || (len(c.live) < 6 && rand.IntN(3) == 0):
			c.login()
		case rand.IntN(3) > 0:
			c.refresh(c.live[rand.IntN(len(c.live))])
		default:
			at := rand.IntN(len(c.live))
			k := c.live[at]
			c.live = append(c.live[:at], c.live[at+1:]...)
			c.logout(k)
		}
	}
}

func (c *client) login() {
	body := fmt.Sprintf(`{"DETAILS": {"USER_NAME": %q, "PASSWORD": %q}}`, c.name, c.name+"-has-a-long-password")
	m, err := call("POST", c.in.genesis("/event-login-auth"), nil, body)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // nobody was there to ask
	case err != nil:
		c.lost++
	case m.text("MESSAGE_TYPE") == "EVENT_LOGIN_AUTH_ACK":
		k := &kept{access: m.text("SESSION_AUTH_TOKEN"), refresh: m.text("REFRESH_AUTH_TOKEN"), handle: m.text("SESSION_ID")}
		c.live, c.all = append(c.live, k), append(c.all, k)
		c.logins.Add(1)
	case m.code() != "UNAVAILABLE":
		c.in.t.Errorf("login of %s: %v", c.name, m)
	default:
		c.lost++ // what is unavailable may have happened
	}
}

func (c *client) refresh(k *kept) {
	body := fmt.Sprintf(`{"DETAILS": {"USER_NAME": %q, "REFRESH_AUTH_TOKEN": %q}}`, c.name, k.refresh)
	m, err := call("POST", c.in.genesis("/event-login-auth"), nil, body)
	switch {
	case err != nil || m.code() == "UNAVAILABLE":
		k.unknown = true
	case m.text("MESSAGE_TYPE") == "EVENT_LOGIN_AUTH_ACK":
		k.access, k.handle, k.unknown = m.text("SESSION_AUTH_TOKEN"), m.text("SESSION_ID"), false
	default:
		c.in.t.Errorf("refresh by %s: %v", c.name, m)
	}
}

func (c *client) logout(k *kept) {
	m, err := call("POST", c.in.genesis("/event-logout"), map[string]string{"SESSION_AUTH_TOKEN": k.access, "SESSION_ID": k.handle, "USER_NAME": c.name}, "")
	switch {
	case err != nil || m.code() == "UNAVAILABLE":
		k.unknown = true
	case m.text("MESSAGE_TYPE") == "LOGOUT_ACK":
		k.ended = true
	case k.unknown: // an unanswered refresh may have changed the ids
	default:
		c.in.t.Errorf("logout by %s: %v", c.name, m)
	}
}

// verify compares what the server says now with the record.
func (c *client) verify() {
	for _, k := range c.all {
		if k.unknown && !k.ended {
			continue
		}
		m, err := call("GET", c.in.genesis("/resources-request"), map[string]string{"SESSION_AUTH_TOKEN": k.access}, "")
		if err != nil {
			c.in.t.Fatalf("check a token after the restart: %v", err)
		}
		good := m.text("MESSAGE_TYPE") == "RESOURCES_REQUEST_ACK"
		if !good && m.code() == "UNAVAILABLE" {
			c.in.t.Fatalf("not ready after the restart: %v", m)
		}
		if good == k.ended {
			c.in.t.Errorf("a session of %s: ended %t, and its token is good: %t", c.name, k.ended, good)
		}
	}
	known := c.live[:0]
	for _, k := range c.live {
		if !k.unknown { // the others are left alone: nobody knows their tokens for sure
			known = append(known, k)
		}
	}
	c.live = known
}

// TestKill kills the process again and again while clients log in, refresh and log out, and checks after each restart
// that every acknowledged login is valid and every acknowledged logout has ended; at the end, that nothing is in the
// book twice. ROLLBOOK_KILLS sets the number of kills (default 20, the least that proves anything).
func TestKill(t *testing.T) {
	kills := 20
	if n, err := strconv.Atoi(os.Getenv("ROLLBOOK_KILLS")); err == nil {
		kills = n
	}
	in := newInstance(t, "--genesis-max-sessions", "0") // unanswered logins leave sessions behind
	in.start()
	in.run(resourceFile, "resource", "apply", "-")
	var clients []*client
	var logins atomic.Int64
	for n := range 8 {
		c := &client{in: in, name: fmt.Sprintf("trader%d", n), logins: &logins}
		in.run(c.name+"-has-a-long-password\n", "user", "add", c.name)
		clients = append(clients, c)
	}
	for range kills {
		ctx, cancel := context.WithCancel(context.Background())
		var working sync.WaitGroup
		before := logins.Load()
		for _, c := range clients {
			working.Go(func() { c.work(ctx) })
		}
		time.Sleep(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		for end := time.Now().Add(time.Minute); logins.Load() < before+3 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // a busy machine: something has to have happened
		}
		in.kill()
		cancel()
		working.Wait()
		in.start()
		for _, c := range clients {
			c.verify()
		}
	}
	in.stop()
	var acked, logouts, lost int
	for _, c := range clients {
		lost += c.lost
		for _, k := range c.all {
			acked++
			if k.ended {
				logouts++
			}
		}
	}
	starts := nothingTwice(t, in.data)
	if starts < acked || starts > acked+lost {
		t.Errorf("%d sessions were started, %d acknowledged, %d unanswered", starts, acked, lost)
	}
	if acked < 2*kills || logouts == 0 {
		t.Errorf("too little happened to prove anything: %d logins, %d logouts", acked, logouts)
	}
	t.Logf("%d kills, %d acknowledged logins, %d acknowledged logouts, %d unanswered logins, %d sessions in the book", kills, acked, logouts, lost, starts)
}

const resourceFile = `{"resources": [{"name": "MY_TRADES", "type": "DATASERVER", "fields": [{"name": "TRADE_ID", "type": "STRING"}]}]}`

// nothingTwice reads the book of a stopped instance and checks that nothing happened twice. It returns how many sessions
// were started.
func nothingTwice(t *testing.T, data string) (starts int) {
	t.Helper()
	b, stop := stoppedBus(t, data)
	defer stop()
	seen := map[string]bool{}
	commands := oncePerCommand{}
	once := func(format string, args ...any) {
		if key := fmt.Sprintf(format, args...); seen[key] {
			t.Errorf("twice in the book: %s", key)
		} else {
			seen[key] = true
		}
	}
	readBook(t, t.Context(), b.Book(0), func(_ uint64, page bus.Page, events []session.Event) {
		commands.note(t, page)
		for _, event := range events {
			switch e := event.(type) {
			case *session.SessionStarted:
				starts++
				once("start of %s", e.Session)
			case *session.SessionRefreshed:
				once("generation %d of %s", e.Generation, e.Session)
			case *session.SessionEnded:
				once("end of %s", e.Session)
			}
		}
	})
	return starts
}
