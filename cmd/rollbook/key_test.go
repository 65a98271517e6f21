package main

import (
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDeploymentKey(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	var no *refused
	if _, err := deploymentKey("", dir, log); !errors.As(err, &no) || no.code != "deployment_key" {
		t.Errorf("a directory without its key gave %v", err)
	}
	if err := makeKey(dir); err != nil {
		t.Fatal(err)
	}
	made, err := deploymentKey("", dir, log)
	if err != nil || made == [32]byte{} {
		t.Fatalf("a new key: %v", err)
	}
	if err := makeKey(dir); err != nil {
		t.Fatal(err)
	}
	if again, err := deploymentKey("", dir, log); err != nil || again != made {
		t.Errorf("the second start has another key, or none: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, fileDeploymentKey))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("the file: %v, %v", info, err)
	}
	elsewhere := t.TempDir()
	if err := makeKey(elsewhere); err != nil {
		t.Fatal(err)
	}
	if other, err := deploymentKey("", elsewhere, log); err != nil || other == made {
		t.Errorf("another directory has the same key, or none: %v", err)
	}

	written := filepath.Join(dir, "hex")
	if err := os.WriteFile(written, []byte(hex.EncodeToString(made[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if read, err := deploymentKey(written, "", log); err != nil || read != made {
		t.Errorf("a key in hexadecimal digits: %v", err)
	}
	for _, text := range []string{"", "short", strings.Repeat("x", 64), strings.Repeat("0", 62)} {
		if err := os.WriteFile(written, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := deploymentKey(written, "", log)
		if !errors.As(err, &no) || no.code != "deployment_key" || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q gave %v", text, err)
		}
	}
	if _, err := deploymentKey(filepath.Join(dir, "missing"), dir, log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
}
