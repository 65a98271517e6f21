package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/engine/session"
	"rollbook/projections/directory"
)

// BenchmarkHouse asks the whole service, in this process with everything on, over HTTP at the Genesis venue: logins with a
// password, refreshes, and checks of a token; in turns with a bare net/http handler that answers as much as a check does,
// and with a publisher of synced messages to the same bus. The clients share the cores with it.
func BenchmarkHouse(b *testing.B) {
	for _, hooks := range []bool{false, true} {
		b.Run(fmt.Sprintf("clients=64/webhooks=%v", hooks), func(b *testing.B) { benchHouse(b, 64, hooks) })
	}
}

func benchHouse(b *testing.B, clients int, hooks bool) {
	var posted atomic.Int64
	var args []string
	if hooks {
		args = []string{"--webhooks", hookFile(b, &posted)}
	}
	h := startDemo(b, args...)
	c := newCrowd(b, h, clients)
	bare := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"MESSAGE_TYPE":"HEARTBEAT_PONG","SOURCE_REF":"1","IS_AUTHENTICATED":true}`)
	})}
	at, err := listen("bare", "127.0.0.1:0", "")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = bare.Serve(at) }()
	b.Cleanup(func() { _ = bare.Close() })
	raw, err := h.bus.JetStream().CreateStream(b.Context(), jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}, Storage: jetstream.FileStorage})
	if err != nil {
		b.Fatal(err)
	}

	var sums [5]turnSum
	for b.Loop() {
		sums[0].add(c.each(b, 1, c.logInAndOut))
		sums[1].add(c.each(b, 50, c.refresh))
		sums[2].add(c.each(b, 100, c.check))
		sums[3].add(c.each(b, 100, func(one *client) error { return c.ping(one, url(at)) }))
		start := time.Now()
		for range 500 {
			if _, err := h.bus.JetStream().Publish(b.Context(), raw.CachedInfo().Config.Subjects[0], make([]byte, 350)); err != nil {
				b.Fatal(err)
			}
		}
		sums[4].add(500, time.Since(start), nil)
	}
	b.ReportMetric(0, "ns/op")
	for i, name := range []string{"login", "refresh", "check", "bare", "raw"} {
		b.ReportMetric(sums[i].rate(), name+"/s")
		if i < 4 {
			b.ReportMetric(sums[i].at(0.5), name+"-p50-ms")
			b.ReportMetric(sums[i].at(0.99), name+"-p99-ms")
		}
	}
	b.ReportMetric(sums[2].rate()/sums[3].rate(), "check/bare")
	b.ReportMetric(sums[1].rate()/sums[4].rate(), "refresh/raw")
	b.ReportMetric(float64(h.feed.Lags()[0].Events), "feed-behind")
	if hooks {
		b.ReportMetric(float64(posted.Load()), "posted")
	}
}

// turnSum adds up turns of one kind.
type turnSum struct {
	n    int
	time time.Duration
	took []time.Duration
}

func (s *turnSum) add(n int, total time.Duration, took []time.Duration) {
	s.n, s.time, s.took = s.n+n, s.time+total, append(s.took, took...)
}

func (s *turnSum) rate() float64 { return float64(s.n) / s.time.Seconds() }

// at is a quantile in ms.
func (s *turnSum) at(q float64) float64 {
	slices.Sort(s.took)
	return float64(s.took[int(q*float64(len(s.took)-1))].Microseconds()) / 1000
}

// crowd is clients of the Genesis venue, each of its own user, with a session.
type crowd struct {
	url  string
	http *http.Client
	all  []*client
}

type client struct {
	name, token, refresh, session string
}

const crowdPassword = "a password of theirs"

func newCrowd(b *testing.B, h *house, n int) *crowd {
	c := &crowd{url: url(h.door(b, session.Genesis).at), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}}
	b.Cleanup(c.http.CloseIdleConnections)
	d := &desk{bus: h.bus, layout: h.layout, log: h.log, submit: h.submit}
	store, err := d.store(b.Context(), directory.PasswordPolicy{MinLength: 8})
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		one := &client{name: fmt.Sprintf("user%d", i)}
		if _, err := addUser(b.Context(), d, store, directory.Record{Names: []string{one.name}}, crowdPassword); err != nil {
			b.Fatal(err)
		}
		for known := false; !known; _, known = h.directory.Find(one.name) {
			time.Sleep(time.Millisecond)
		}
		c.all = append(c.all, one)
	}
	c.each(b, 1, func(one *client) error { return c.logIn(one) })
	return c
}

// each has every client do n things in a row, and gives how many they were, how long they took in all, and each.
func (c *crowd) each(b *testing.B, n int, do func(*client) error) (int, time.Duration, []time.Duration) {
	took := make([]time.Duration, n*len(c.all))
	var working sync.WaitGroup
	start := time.Now()
	for i, one := range c.all {
		working.Go(func() {
			for k := range n {
				begin := time.Now()
				if err := do(one); err != nil {
					b.Error(err)
					return
				}
				took[i*n+k] = time.Since(begin)
			}
		})
	}
	working.Wait()
	return len(took), time.Since(start), took
}

// ask makes one call, and reads an answer that is acknowledged with the type.
func (c *crowd) ask(path, token, body, want string, into any) error {
	q, err := http.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("SOURCE_REF", "1")
	if token != "" {
		q.Header.Set("SESSION_AUTH_TOKEN", token)
	}
	answer, err := c.http.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(text), want) {
		return fmt.Errorf("%s in place of %s: %w", text, want, err)
	}
	if into != nil {
		return json.Unmarshal(text, into)
	}
	return nil
}

func (c *crowd) enter(one *client, details string) error {
	var got struct {
		Token   string `json:"SESSION_AUTH_TOKEN"`
		Refresh string `json:"REFRESH_AUTH_TOKEN"`
		Session string `json:"SESSION_ID"`
	}
	err := c.ask(c.url+"/event-login-auth", "", fmt.Sprintf(`{"DETAILS":{"USER_NAME":%q,%s}}`, one.name, details), `"EVENT_LOGIN_AUTH_ACK"`, &got)
	one.token, one.refresh, one.session = got.Token, got.Refresh, got.Session
	return err
}

func (c *crowd) logIn(one *client) error {
	return c.enter(one, fmt.Sprintf(`"PASSWORD":%q`, crowdPassword))
}

// logInAndOut is a login whose session goes again: the client's own stays.
func (c *crowd) logInAndOut(one *client) error {
	other := *one
	if err := c.logIn(&other); err != nil {
		return err
	}
	return c.ask(c.url+"/event-logout", "", fmt.Sprintf(`{"DETAILS":{"USER_NAME":%q,"SESSION_ID":%q}}`, one.name, other.session), `"LOGOUT_ACK"`, nil)
}

func (c *crowd) refresh(one *client) error {
	return c.enter(one, fmt.Sprintf(`"REFRESH_AUTH_TOKEN":%q`, one.refresh))
}

func (c *crowd) check(one *client) error { return c.ping(one, c.url) }

func (c *crowd) ping(one *client, at string) error {
	return c.ask(at+"/heartbeat-ping", one.token, "", `"IS_AUTHENTICATED":true`, nil)
}

// hookFile is a file of --webhooks with an endpoint that takes every event, and counts.
func hookFile(b *testing.B, posted *atomic.Int64) string {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		posted.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	b.Cleanup(server.Close)
	dir := b.TempDir()
	putFile(b, filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	putFile(b, filepath.Join(dir, "secret"), []byte("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"))
	path := filepath.Join(dir, "webhooks.toml")
	putFile(b, path, fmt.Appendf(nil, "[[endpoint]]\nname = \"all\"\nurl = %q\nsecret_file = \"secret\"\nca = \"ca.pem\"\nparallel = 32\n", server.URL))
	return path
}
