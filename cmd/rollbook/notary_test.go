package main

import (
	"path/filepath"
	"testing"
	"time"

	"rollbook/bus"
)

// TestNotaryUnderItsCredential has an engine write, a notary sign in an account of its own, a pod compare, and an auditor
// and a witness check, each with the credential of its role.
func TestNotaryUnderItsCredential(t *testing.T) {
	dir, url := printed(t, 1)
	createBook(t, dir, url, 1)
	if code := run([]string{"audit", "key", "rollbook/test", "--out", dir}); code != exitDone {
		t.Fatalf("audit key exits with %d", code)
	}
	key, vkey := filepath.Join(dir, fileNotaryKey), filepath.Join(dir, fileNotaryVKey)
	startEngine(t, dir, url)
	notary, _ := startHouse(t, dir, url, "notary", onlyNotary, "--notary-key-file", key)
	pod, _ := startHouse(t, dir, url, "adapter", onlyAdapters, "--notary-vkey", vkey)
	live(t, dir, url, pod.doorURL(pod.doors[0], "http"))

	for p := range bus.Partition(2) {
		for end := time.Now().Add(time.Minute); pod.watch.Agreed(p) < 1 || pod.watch.Agreed(p) < notary.notary.Signed(p).Page; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("partition %s: signed %+v, agreed at %d", p, notary.notary.Signed(p), pod.watch.Agreed(p))
			}
		}
	}
	if alarms := notary.notary.Alarms(); len(alarms) > 0 || !notary.status.ready().OK {
		t.Errorf("%v, %+v", alarms, notary.status.ready())
	}
	auditor := []string{"--bus", url, "--creds", filepath.Join(dir, "auditor.nk"), "--vkey", vkey}
	kept := filepath.Join(dir, "kept")
	for _, args := range [][]string{
		{"audit", "checkpoints", "--save", kept}, {"audit", "verify", "--known", filepath.Join(kept, "p0.checkpoint"), "--known", filepath.Join(kept, "p1.checkpoint")},
		{"audit", "export", filepath.Join(dir, "export"), "--partition", "1"},
		{"audit", "witness", "--dir", filepath.Join(dir, "seen"), "--key-file", key},
	} {
		if code := run(append(args, auditor...)); code != exitDone {
			t.Errorf("%v exits with %d", args, code)
		}
	}
	if code := run([]string{"audit", "verify", filepath.Join(dir, "export"), "--vkey", vkey}); code != exitDone {
		t.Errorf("the export does not verify: %d", code)
	}
}
