package main

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rollbook/engine/session"
	"rollbook/projections/feed/subscribe"
)

// tellsAConsumer reads the feed with a consumer's credential until ann's session has started and ended.
func tellsAConsumer(t *testing.T, dir, url string) {
	t.Helper()
	creds := filepath.Join(dir, "consumer.nk")
	nc, err := subscribe.Connect(url, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var types []session.EventType
	var user session.UserID
	err = subscribe.New(subscribe.Config{Conn: nc, From: subscribe.Beginning()}).Run(ctx, func(e subscribe.Event) error {
		if types = append(types, e.Type); e.Type == "SessionStarted" {
			user = e.User
		}
		if slices.Contains(types, "SessionEnded") && slices.Contains(types, "UserRegistered") && slices.Contains(types, "UserDisabled") {
			cancel()
		}
		return nil
	})
	if !slices.Contains(types, "SessionEnded") {
		t.Fatalf("the consumer is told %v: %v", types, err)
	}
	for _, args := range [][]string{{}, {"--json", "--type", "SessionStarted,SessionEnded"}, {"--user", string(user), "--since", "0/0.0"}, {"--venue", "genesis"}} {
		for _, role := range []string{"consumer", "operator"} {
			at := []string{"tail", "--bus", url, "--creds", filepath.Join(dir, role+".nk")}
			if code := run(append(at, args...)); code != exitDone {
				t.Errorf("tail %v of the %s exits with %d", args, role, code)
			}
		}
	}
}

// TestSince reads each form of a beginning.
func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 15, 0, 0, 0, time.Local)
	at := func(d time.Duration) subscribe.Start { return subscribe.Since(now.Add(d)) }
	p := subscribe.Position{Partition: 3, Page: 17, Index: 4}
	for text, want := range map[string]subscribe.Start{
		"90s": at(-90 * time.Second), "0s": at(0), "2h30m": at(-150 * time.Minute), "14:30": at(-30 * time.Minute), "14:59:58.5": at(-1500 * time.Millisecond),
		"2026-11-22 14:00:00": at(-time.Hour), "2026-11-22": at(-15 * time.Hour), "yesterday": at(-39 * time.Hour), "2026-11-22T14:59:59Z": subscribe.Since(time.Date(2026, 11, 22, 14, 59, 59, 0, time.UTC)),
	} {
		got, err := since(text, now)
		if err != nil || !got.Same(want) {
			t.Errorf("--since %s is %+v, %v", text, got, err)
		}
	}
	if got, err := since(p.String(), now); err != nil || !got.Same(subscribe.Behind(p)) {
		t.Errorf("--since %s is %+v, %v", p, got, err)
	}
	for _, bad := range []string{"", "someday", "-2h", "0/17", "25:00"} {
		if _, err := since(bad, now); err == nil {
			t.Errorf("--since %q is taken", bad)
		}
	}
}
