package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
)

// asAnOlderProgramLeftIt removes what an older program has not made.
func asAnOlderProgramLeftIt(t *testing.T, b *bus.Bus) []string {
	t.Helper()
	names := []string{bus.StreamCheckpoints, bus.StreamFeed, "KV_" + bus.BucketWebhooks, bus.StreamHistory}
	for _, name := range names {
		if err := b.JetStream().DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// TestUpgradeOnABusElsewhere: a start says what the book lacks and the command that adds it; that command adds it, for what
// runs already too, and nobody but the owner may.
func TestUpgradeOnABusElsewhere(t *testing.T) {
	dir, url := printed(t, 1)
	createBook(t, dir, url, 1)
	owner := connectAs(t, dir, url, "owner")
	if _, err := owner.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	absent := asAnOlderProgramLeftIt(t, owner)
	command := "rollbook init --upgrade --bus " + url

	err := create(t.Context(), owner, bus.Layout{Partitions: 2, Replicas: 1}, url)
	var no *refused
	if !errors.As(err, &no) || no.code != "exists" || !strings.Contains(err.Error(), "without CHECKPOINTS, EVENTS, KV_WEBHOOKS, HISTORY: nothing was changed; add them with: rollbook init --upgrade") {
		t.Errorf("init says %v", err)
	}
	for role, starts := range map[string]roles{"engine": onlyWriters, "adapter": onlyAdapters, "webhooks": onlyWebhooks} {
		var told *lines
		eventually(t, "what the "+role+" says", func() bool { // which on a machine at its limit it may not find out
			told, err = starting(t, dir, url, role, starts, "--webhooks", hooksFile(t, "https://hooks.example.com", ""))
			return told.count(command) > 0
		})
		if role == "webhooks" {
			if !errors.As(err, &no) || no.code != "not_created" || !strings.Contains(err.Error(), command) {
				t.Errorf("webhooks without their bucket: %v", err)
			}
		} else if err != nil {
			t.Errorf("the %s does not start: %v", role, err)
		}
		if told.count(command) != 1 || told.count("CHECKPOINTS") != map[string]int{"engine": 1, "adapter": 1}[role] || told.count("HISTORY") != map[string]int{"engine": 1}[role] {
			t.Errorf("the %s says %s", role, told.all())
		}
	}

	startEngine(t, dir, url) // and runs on while the owner adds what it lacks
	if code := run([]string{"init", "--upgrade", "--bus", url, "--creds", filepath.Join(dir, "engine.nk")}); code != exitFailed {
		t.Errorf("the engine adds streams: %d", code)
	}
	if code := run([]string{"init", "--upgrade", "--bus", url, "--creds", filepath.Join(dir, "owner.nk"), "--partitions", "3"}); code != exitRefused {
		t.Errorf("a book of two partitions is upgraded as one of three: %d", code)
	}
	if code := run([]string{"tail", "--bus", url, "--creds", filepath.Join(dir, "operator.nk")}); code != exitRefused {
		t.Errorf("tail without a feed exits with %d", code)
	}
	upgrade := func(more ...string) string {
		t.Helper()
		return outputOf(t, append([]string{"init", "--upgrade", "--bus", url, "--creds", filepath.Join(dir, "owner.nk"), "--feed-max-age", "48h"}, more...)...)
	}
	var line upgradedLine
	if text := upgrade("--json"); json.Unmarshal([]byte(text), &line) != nil || !slices.Equal(line.Added, absent) || line.Partitions != 2 || line.Replicas != 1 {
		t.Errorf("the upgrade says %s", text)
	}
	if text := upgrade(); !strings.Contains(text, "\nEVENTS        there\n") || !strings.HasSuffix(text, "nothing was missing\n") {
		t.Errorf("the second upgrade says %s", text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if state, err := owner.Feed(0).State(ctx); err != nil || state.MaxAge != 48*time.Hour {
		t.Errorf("the feed's retention is %s, %v", state.MaxAge, err)
	}
	if told, err := starting(t, dir, url, "adapter", onlyAdapters); err != nil || told.count("lacks") != 0 {
		t.Errorf("after the upgrade: %v, %s", err, told.all())
	}
	live(t, dir, url, startPod(t, dir, url, "adapter"))
	tellsAConsumer(t, dir, url) // the engine has found its feed
}

// starting builds a process and takes it down again; it gives what its log says.
func starting(t *testing.T, dir, url, role string, with roles, more ...string) (*lines, error) {
	t.Helper()
	var c cli
	args := []string{"serve", "--bus", url, "--creds", filepath.Join(dir, role+".nk"), "--port-base", "0", "--deployment-key-file", fileWith(t, strings.Repeat("k", 32))}
	if _, err := parserOf(t, &c).Parse(append(args, more...)); err != nil {
		t.Fatal(err)
	}
	told := &lines{}
	for end := time.Now().Add(time.Minute); ; { // a machine at its limit may be slow to say whether it syncs
		h, err := buildHouse(context.Background(), &c.Serve.serveSettings, with, "", slog.New(slog.NewTextHandler(told, nil)))
		if err == nil {
			h.close()
		}
		var no *refused
		if err == nil || errors.As(err, &no) && no.code != "not_durable" || time.Now().After(end) {
			return told, err
		}
		told = &lines{}
	}
}

// TestUpgradeOfADirectory: what a directory lacks is there after whatever opens it, and the embedded bus's book needs no init.
func TestUpgradeOfADirectory(t *testing.T) {
	dir := t.TempDir()
	server, b := instance(t, dir)
	if err := b.Create(t.Context(), bus.Layout{Partitions: 1, Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	asAnOlderProgramLeftIt(t, b)
	server.Shutdown()
	if err := makeKey(dir); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"init", "--upgrade", "--data", dir}); code != exitRefused {
		t.Errorf("init --upgrade of a directory exits with %d", code)
	}
	var c cli
	if _, err := parserOf(t, &c).Parse([]string{"serve", "--data", dir, "--port-base", "0"}); err != nil {
		t.Fatal(err)
	}
	var told lines
	h, err := buildHouse(t.Context(), &c.Serve.serveSettings, everything, dir, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	if missing, err := h.bus.Missing(t.Context()); err != nil || len(missing) != 0 || told.count("lacks") != 0 {
		t.Errorf("missing are %v, %v; the log says %s", missing, err, told.all())
	}
}
