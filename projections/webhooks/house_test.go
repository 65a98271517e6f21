package webhooks_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rollbook/bus"
	"rollbook/bus/bustest"
	"rollbook/engine/session"
	"rollbook/projections/webhooks"
)

func TestMain(m *testing.M) { bustest.Main(m) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a book whose pages the test writes itself.
type site struct {
	t    testing.TB
	bus  *bus.Bus
	kv   jetstream.KeyValue
	last []uint64
}

func newSite(t testing.TB, partitions int) *site {
	t.Helper()
	b := bustest.Created(t, partitions)
	kv, err := b.Webhooks(t.Context())
	ok(t, err)
	return &site{t: t, bus: b, kv: kv, last: make([]uint64, partitions)}
}

// write appends one page.
func (s *site) write(p bus.Partition, events ...session.Event) {
	s.t.Helper()
	page := bus.Page{Epoch: 1, Time: time.Now().UnixNano(), CommandsRead: s.last[p]}
	for _, e := range events {
		page.Events = append(page.Events, session.AppendEvent(nil, e))
	}
	data, err := bus.EncodePage(page)
	ok(s.t, err)
	_, err = s.bus.Book(p).Append(s.t.Context(), s.last[p], data)
	for errors.Is(err, bus.ErrOutcomeUnknown) { // a busy machine: the book knows
		var end uint64
		if end, err = s.bus.Book(p).End(s.t.Context()); err == nil && end == s.last[p] {
			_, err = s.bus.Book(p).Append(s.t.Context(), s.last[p], data)
		}
	}
	ok(s.t, err)
	s.last[p]++
}

// lives writes n pages of a partition, each with an event of every user.
func (s *site) lives(p bus.Partition, n int, users ...session.UserID) {
	for i := range n {
		var events []session.Event
		for _, user := range users {
			events = append(events, started(user, uint32(i)))
		}
		s.write(p, events...)
	}
}

// started is a login whose count of failures tells it from the user's others.
func started(user session.UserID, n uint32) *session.SessionStarted {
	return &session.SessionStarted{Header: session.Header{At: session.At(time.Unix(1_800_000_000, int64(n))), User: user}, Session: session.SessionID{1, byte(n)},
		Venue: session.Genesis, Client: "<b>client</b>", Failed: n, Access: session.TokenHash(bytes.Repeat([]byte{0xab}, 32)), Origin: []byte("sealed bytes")}
}

// posted is one request that an endpoint has got.
type posted struct {
	ID       string
	Type     string
	Position string
	User     string
	Failed   int
	Raw      string
}

// receiver is an endpoint. verdict, unless nil, gives the status of an attempt, from how many the event had before.
type receiver struct {
	server  *httptest.Server
	secret  []byte
	verdict func(p posted, before int) int

	mu       sync.Mutex
	attempts map[string]int
	taken    []posted // in order
	wrong    []string
}

func newReceiver(t testing.TB, verdict func(posted, int) int) *receiver {
	r := &receiver{secret: make([]byte, 32), verdict: verdict, attempts: map[string]int{}}
	_, _ = rand.Read(r.secret)
	r.server = httptest.NewTLSServer(r)
	t.Cleanup(r.server.Close)
	return r
}

// ServeHTTP checks the request as the specification says, and notes it.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	raw, err := io.ReadAll(q.Body)
	if err != nil {
		return // given up by the sender
	}
	var b struct {
		Type, Position, User string
		Data                 struct{ Failed int }
	}
	failed := json.Unmarshal(raw, &b)
	p := posted{ID: q.Header.Get("webhook-id"), Type: b.Type, Position: b.Position, User: b.User, Failed: b.Data.Failed, Raw: string(raw)}
	r.mu.Lock()
	if failed != nil || !signed(r.secret, q.Header, raw) {
		r.wrong = append(r.wrong, p.Raw)
	}
	before := r.attempts[p.ID]
	r.attempts[p.ID]++
	r.mu.Unlock()
	status := http.StatusNoContent
	if r.verdict != nil {
		status = r.verdict(p, before)
	}
	if status < 300 {
		r.mu.Lock()
		r.taken = append(r.taken, p)
		r.mu.Unlock()
	}
	w.WriteHeader(status)
}

// signed verifies a request, written from the specification alone: the id, the timestamp and the body, joined with dots,
// under HMAC-SHA-256; one of the space-separated signatures has to match; the timestamp is of these minutes.
func signed(secret []byte, h http.Header, body []byte) bool {
	seconds, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age > 5*time.Minute || age < -5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	want := mac.Sum(nil)
	for part := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(part, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if err == nil && version == "v1" && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}

// got is what was taken so far. A request that was not signed or not JSON fails the test.
func (r *receiver) got(t testing.TB) []posted {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) > 0 {
		t.Fatalf("requests that no receiver would take: %q", r.wrong)
	}
	return append([]posted(nil), r.taken...)
}

// awaits waits until the events of so many positions were taken.
func (r *receiver) awaits(t testing.TB, n int) []posted {
	t.Helper()
	until(t, func() bool {
		seen := map[string]bool{}
		for _, p := range r.got(t) {
			seen[p.Position] = true
		}
		return len(seen) >= n
	})
	return r.got(t)
}

// until waits for what must happen.
func until(t testing.TB, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not happened")
		}
	}
}

func (r *receiver) endpoint(t testing.TB, name string) webhooks.Endpoint {
	t.Helper()
	secret, err := webhooks.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(r.secret))
	ok(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(r.server.Certificate())
	return webhooks.Endpoint{Name: name, URL: r.server.URL + "/hook", Secrets: []webhooks.Secret{secret}, Roots: roots,
		FromBeginning: true, Timeout: 30 * time.Second}
}

// quick is a configuration whose pauses are short. The lease is not: on a busy machine a short one is lost, and then
// something is delivered twice.
func (s *site) quick(endpoints ...webhooks.Endpoint) webhooks.Config {
	cfg := webhooks.Config{Store: s.kv, Endpoints: endpoints, Lease: time.Minute, BackoffFirst: time.Millisecond,
		BackoffLast: 20 * time.Millisecond, Save: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	for p := range s.last {
		cfg.Books = append(cfg.Books, s.bus.Book(bus.Partition(p)))
	}
	return cfg
}

// run delivers until stop is called, or the test ends.
func run(t testing.TB, cfg webhooks.Config) (w *webhooks.Couriers, stop func()) {
	t.Helper()
	w, err := webhooks.New(cfg)
	ok(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the couriers ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return w, stop
}

// inOrder holds that, of each user, every event was taken, and none before an earlier one; doubles are allowed.
func inOrder(t testing.TB, got []posted, n int, users ...session.UserID) {
	t.Helper()
	next := map[string]int{}
	for _, p := range got {
		if p.Failed > next[p.User] {
			t.Fatalf("event %d of %s was taken before event %d", p.Failed, p.User, next[p.User])
		}
		next[p.User] = max(next[p.User], p.Failed+1)
	}
	for _, user := range users {
		if next[string(user)] != n {
			t.Errorf("%d of %d events of %s were taken", next[string(user)], n, user)
		}
	}
}
