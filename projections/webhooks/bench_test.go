package webhooks_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollbook/bus"
	"rollbook/engine/session"
	"rollbook/projections/webhooks"
)

// counter is an HTTPS endpoint that takes everything and notes when.
type counter struct {
	server *httptest.Server
	mu     sync.Mutex
	want   int
	all    chan struct{}        // closed when want have been taken
	at     map[uint64]time.Time // by the page, when kept
}

func newCounter(b *testing.B) *counter {
	c := &counter{}
	c.server = httptest.NewTLSServer(c)
	b.Cleanup(c.server.Close)
	return c
}

func (c *counter) expect(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want, c.all, c.at = n, make(chan struct{}), map[uint64]time.Time{}
	return c.all
}

func (c *counter) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body)
	var page uint64
	if parts := strings.Split(q.Header.Get("webhook-id"), "_"); len(parts) > 2 {
		page, _ = strconv.ParseUint(parts[2], 10, 64)
	}
	now := time.Now()
	w.WriteHeader(http.StatusNoContent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[page] = now
	if c.want--; c.want == 0 {
		close(c.all)
	}
}

func (c *counter) roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(c.server.Certificate())
	return roots
}

func (c *counter) endpoint(b *testing.B, name string, parallel int) webhooks.Endpoint {
	secret, err := webhooks.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	ok(b, err)
	return webhooks.Endpoint{Name: name, URL: c.server.URL + "/hook", Secrets: []webhooks.Secret{secret}, Roots: c.roots(),
		FromBeginning: true, Timeout: 30 * time.Second, Parallel: parallel}
}

// bare is a client that posts with nothing else than net/http.
func (c *counter) bare(parallel int) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots()}, MaxIdleConnsPerHost: parallel}}
}

// posts posts bodies, with headers of the same names as a delivery's, and says how long that took.
func (c *counter) posts(b *testing.B, client *http.Client, parallel int, bodies [][]byte) time.Duration {
	all := c.expect(len(bodies))
	var posting sync.WaitGroup
	start := time.Now()
	for first := range parallel {
		posting.Go(func() {
			for i := first; i < len(bodies); i += parallel {
				q, err := http.NewRequestWithContext(b.Context(), http.MethodPost, c.server.URL+"/hook", bytes.NewReader(bodies[i]))
				if err != nil {
					b.Error(err)
					return
				}
				q.Header["Content-Type"], q.Header["User-Agent"] = []string{"application/json"}, []string{"rollbook"}
				q.Header["webhook-id"], q.Header["webhook-timestamp"] = []string{"evt_0_1_1_0123456789abcdef"}, []string{"1800000000"}
				q.Header["webhook-signature"] = []string{"v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
				answer, err := client.Do(q)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	posting.Wait()
	took := time.Since(start)
	if !b.Failed() {
		<-all
	}
	return took
}

// BenchmarkDeliveries delivers a stretch of the book, logins of 500 users, to an HTTPS endpoint of this machine, and posts the same
// bytes without the house, in turns. delivered/bare is what order, signature, position and the book leave of net/http's rate.
func BenchmarkDeliveries(b *testing.B) {
	for _, parallel := range []int{8, 64} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) { deliveries(b, parallel) })
	}
}

func deliveries(b *testing.B, parallel int) {
	const users, pages = 500, 4
	s, c := newSite(b, 1), newCounter(b)
	var names []session.UserID
	for n := range users {
		names = append(names, session.UserID(fmt.Sprintf("u-%d", n)))
	}
	var bodies [][]byte
	for i := range uint32(pages) {
		for n, name := range names {
			body, err := webhooks.Body(bus.Position{Page: uint64(i), Index: uint32(n)}, started(name, i))
			ok(b, err)
			bodies = append(bodies, body)
		}
	}
	s.lives(0, pages, names...)
	var delivered, bare time.Duration
	turns := 0
	for b.Loop() {
		client := c.bare(parallel) // it makes its connections anew, as the couriers do
		bare += c.posts(b, client, parallel, bodies)
		client.CloseIdleConnections()
		all := c.expect(len(bodies))
		turns++
		start := time.Now()
		_, stop := run(b, s.quick(c.endpoint(b, fmt.Sprintf("turn-%d", turns), parallel)))
		<-all
		delivered += time.Since(start)
		stop()
	}
	n := float64(turns * len(bodies))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/delivered.Seconds(), "delivered/s")
	b.ReportMetric(n/bare.Seconds(), "bare/s")
	b.ReportMetric(bare.Seconds()/delivered.Seconds(), "delivered/bare")
}

// BenchmarkDeliveryLatency stores one event every 5 ms, and measures how long after it was stored it arrived at an HTTPS
// endpoint of this machine; and, in between, how long a bare post takes there.
func BenchmarkDeliveryLatency(b *testing.B) {
	s, c := newSite(b, 1), newCounter(b)
	_, stop := run(b, s.quick(c.endpoint(b, "audit", 8)))
	defer stop()
	all := c.expect(1)
	s.lives(0, 1, "ann") // the first has the lease taken and the connection made
	<-all
	body, err := webhooks.Body(bus.Position{Page: 1}, started("ann", 1))
	ok(b, err)
	other := newCounter(b)
	client := other.bare(1)
	defer client.CloseIdleConnections()
	other.posts(b, client, 1, [][]byte{body})
	var took, bare []time.Duration
	for n := uint32(1); b.Loop(); n++ {
		all := c.expect(1)
		s.lives(0, 1, session.UserID(fmt.Sprintf("u-%d", n%100)))
		stored := time.Now()
		<-all
		// It may arrive before the writer has heard that it is stored.
		took = append(took, max(0, c.at[s.last[0]].Sub(stored)))
		bare = append(bare, other.posts(b, client, 1, [][]byte{body}))
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(took)
	slices.Sort(bare)
	at := func(of []time.Duration, q float64) float64 {
		return float64(of[int(q*float64(len(of)-1))].Microseconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at(took, 0.5), "p50-µs")
	b.ReportMetric(at(took, 0.99), "p99-µs")
	b.ReportMetric(at(bare, 0.5), "bare-p50-µs")
}
