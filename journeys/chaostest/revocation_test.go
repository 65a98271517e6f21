package chaostest

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

var revocations = flag.Int("revocations", 10, "how many sessions are ended, to measure how soon all pods know")

// TestRevocation ends sessions at one of five pods while all of them validate tokens, and measures the time from the
// acknowledgement to the last pod's no. A pod that says yes for longer than it promises fails the test.
func TestRevocation(t *testing.T) {
	if testing.Short() || raced {
		t.Skip("starts a cluster, without the race detector")
	}
	cfg := Config{Servers: 3, Engines: 2, Pods: 5, Partitions: 4, Users: 5, Dir: t.TempDir()}
	cfg.Rollbook, cfg.NATS = programs(t)
	site := Start(t, cfg)
	history, random := NewHistory(), rand.New(rand.NewPCG(*seed, 2))
	ctx, stop := context.WithCancel(t.Context())
	validating, checks := site.validate(ctx, history)
	defer func() { stop(); validating.Wait() }()

	var times []time.Duration
	for n := range *revocations {
		c := &caller{site: site, history: history, user: site.users[n%len(site.users)], venue: Genesis, random: random}
		s, ok := c.login(ctx, c.pod())
		if !ok {
			t.Fatal("a login was refused")
		}
		for _, pod := range site.pods {
			if o := c.said(ctx, s.access, pod); o != Yes {
				t.Fatalf("%s says %s to a session that has just begun", pod.name, o)
			}
		}
		if _, done := c.logout(ctx, s); !done {
			t.Fatal("a logout was refused")
		}
		acknowledged := time.Now()
		var asking sync.WaitGroup
		last := make([]time.Duration, len(site.pods))
		for i, pod := range site.pods {
			asking.Go(func() {
				for last[i] = time.Since(acknowledged); c.said(ctx, s.access, pod) == Yes; {
					last[i] = time.Since(acknowledged)
				}
			})
		}
		asking.Wait()
		// When the last yes was asked for: what was asked later got a no.
		times = append(times, slices.Max(last))
	}
	stop()
	validating.Wait()
	total := 0
	for _, n := range checks {
		total += n
	}
	t.Logf("%d revocations at 5 pods with %d validations beside them: until the last yes was asked for, p50 %s, p99 %s, max %s",
		len(times), total, at(times, 0.5), at(times, 0.99), at(times, 1))
	if slow := slices.Max(times); slow > promised.Stale {
		t.Errorf("a pod said yes for %s", slow)
	}
	if total < 100 {
		t.Errorf("%d validations are no load", total)
	}
}

// validate has every pod check tokens, over and over.
func (s *Site) validate(ctx context.Context, h *History) (*sync.WaitGroup, []int) {
	working, checks := &sync.WaitGroup{}, make([]int, len(s.pods))
	for i, pod := range s.pods {
		c := &caller{site: s, history: h, user: s.users[i%len(s.users)], venue: Genesis, random: rand.New(rand.NewPCG(uint64(i), 1))}
		working.Go(func() {
			held, ok := c.login(ctx, pod)
			for ok && ctx.Err() == nil {
				if c.said(ctx, held.access, pod) == Yes {
					checks[i]++
				}
			}
		})
	}
	return working, checks
}

// said is what a pod says of an access token, noted in no history.
func (c *caller) said(ctx context.Context, access string, at *node) Outcome {
	status, m, err := c.call(ctx, at, 4, "GET", "/resources-request", map[string]string{"SESSION_AUTH_TOKEN": access}, "")
	outcome, _ := genesisMeans(status, m, err)
	return outcome
}
