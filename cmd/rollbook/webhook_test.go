package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// hooksFile writes a file of one endpoint and its secret.
func hooksFile(t *testing.T, url, more string) string {
	t.Helper()
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "secret"), []byte(testSecret+"\n"))
	path := filepath.Join(dir, "hooks.toml")
	putFile(t, path, fmt.Appendf(nil, "[[endpoint]]\nname = \"audit\"\nurl = %q\nsecret_file = \"secret\"\n%s\n", url, more))
	return path
}

// outputOf runs a command of the program in this process and gives what it prints.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = file
	code := run(args)
	os.Stdout = before
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil || code != exitDone {
		t.Fatalf("%v exits with %d and prints %s, %v", args, code, text, err)
	}
	return string(text)
}

// TestWebhooksUnderTheirCredential has a process of webhooks alone deliver what an engine writes, and an operator see and
// move it, each with the credential of its role.
func TestWebhooksUnderTheirCredential(t *testing.T) {
	dir, url := printed(t, 1)
	createBook(t, dir, url, 1)
	startEngine(t, dir, url)
	var mu sync.Mutex
	var types []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var b struct{ Type string }
		text, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(text, &b) != nil || r.Header.Get("webhook-signature") == "" {
			t.Errorf("posted was %q, %v", text, err)
		}
		mu.Lock()
		defer mu.Unlock()
		types = append(types, b.Type)
	}))
	defer server.Close()
	count := func(want string) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, got := range types {
			if got == want {
				n++
			}
		}
		return n
	}
	until := func(what string, so func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s has not happened", what)
			}
		}
	}
	startHouse(t, dir, url, "webhooks", onlyWebhooks, "--webhooks", hooksFile(t, server.URL, `from = "beginning"`))
	live(t, dir, url, startPod(t, dir, url, "adapter"))
	until("the delivery", func() bool {
		return count("UserDisabled") == 1 && count("SessionStarted") == 1 && count("SessionEnded") == 1
	})

	operator := []string{"--bus", url, "--creds", filepath.Join(dir, "operator.nk")}
	var busy int // the partition of the only user
	until("the position's move", func() bool {
		for line := range strings.Lines(outputOf(t, append([]string{"webhook", "list", "--json"}, operator...)...)) {
			var l webhookLine
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Endpoint != "audit" || l.Parked != 0 {
				t.Fatalf("%s: %v", line, err)
			}
			if l.End >= 4 {
				busy = l.Partition
				return l.Page == l.End
			}
		}
		return false
	})
	if text := outputOf(t, append([]string{"webhook", "parked"}, operator...)...); text != "nothing is parked\n" {
		t.Errorf("parked is %s", text)
	}
	outputOf(t, append([]string{"webhook", "replay", "audit", "--from", fmt.Sprintf("%d/1.0", busy)}, operator...)...)
	until("the second delivery", func() bool { return count("UserDisabled") == 2 })
	if code := run(append([]string{"webhook", "retry", "audit", "0/9.9"}, operator...)); code != exitRefused {
		t.Errorf("what is not parked is tried again: %d", code)
	}
	if code := run(append([]string{"webhook", "forget", "audit"}, operator...)); code != exitRefused {
		t.Errorf("an endpoint that is served is forgotten: %d", code)
	}
	for _, what := range []string{"retry", "parked", "forget"} {
		if code := run(append([]string{"webhook", what, "audits"}, operator...)); code != exitRefused {
			t.Errorf("webhook %s of an endpoint that is none exits with %d", what, code)
		}
	}

	// An operator's right to read is enough for a backup, and the owner's to restore it onto another bus.
	input, err := os.Open(fileWith(t, "open sesame, open sesame\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	before := os.Stdin
	os.Stdin = input
	outputOf(t, append([]string{"user", "add", "eve", "--password-stdin"}, operator...)...)
	os.Stdin = before
	file := filepath.Join(t.TempDir(), "backup")
	if text := outputOf(t, append([]string{"backup", file}, operator...)...); !strings.Contains(text, "wrote "+file) {
		t.Errorf("the backup says %s", text)
	}
	there, onto := printed(t, 1)
	if text := outputOf(t, "restore", file, "--bus", onto, "--creds", filepath.Join(there, "owner.nk")); !strings.Contains(text, "restored ") {
		t.Errorf("the restore says %s", text)
	}
	startEngine(t, there, onto)
	if text := outputOf(t, "user", "list", "--bus", onto, "--creds", filepath.Join(there, "operator.nk")); !strings.Contains(text, "eve") {
		t.Errorf("the restored users are %s", text)
	}
	live(t, there, onto, startPod(t, there, onto, "adapter"))
}

// TestWebhookFiles: what is wrong in the file is refused, and no secret is shown.
func TestWebhookFiles(t *testing.T) {
	good := hooksFile(t, "https://hooks.example.com", "types = [\"SessionStarted\"]\nvenues = [\"zenith\"]\ntimeout = \"5s\"\nattempts = 3\nparallel = 2\nprivate = true")
	list, err := readEndpoints(good)
	if err != nil || len(list) != 1 || list[0].Timeout != 5*time.Second || len(list[0].Types) != 1 || len(list[0].Venues) != 1 || !list[0].Private ||
		list[0].Attempts != 3 || list[0].Parallel != 2 || list[0].FromBeginning || len(list[0].Secrets) != 1 || list[0].Check() != nil {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, more := range []string{"colour = 1", "from = \"yesterday\"", "timeout = \"5\"", "timeout = 5", "venues = [\"x\"]", "attempts = -1",
		"ca = \"nothing\"", "[other]\nx = 1"} {
		_, err := readEndpoints(hooksFile(t, "https://hooks.example.com", more))
		var no *refused
		if !errors.As(err, &no) || no.code != "bad_webhooks" || strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%s: %v", more, err)
		}
	}
	secret := filepath.Join(filepath.Dir(good), "secret")
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readEndpoints(good); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a secret that others may read: %v", err)
	}
	putFile(t, secret, []byte("whsec_letmein"))
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readEndpoints(good); err == nil || strings.Contains(err.Error(), "letmein") {
		t.Errorf("a secret that is none: %v", err)
	}
	made := strings.TrimSpace(outputOf(t, "webhook", "secret"))
	putFile(t, secret, []byte(testSecret+"\n\n"+made+"\n"))
	if list, err := readEndpoints(good); err != nil || len(list[0].Secrets) != 2 || made == testSecret {
		t.Errorf("two secrets: %v", err)
	}
}
