package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// deploymentKey reads the key that all pods of a deployment share. In a data directory it is made once; the embedded
// bus's lock is held by then, so nobody makes another at the same time. Losing it costs what the book holds
// sealed of where users came from, and their API keys; refresh tokens in their grace window, and failures counted under
// names that nobody has.
func deploymentKey(path, dir string, log *slog.Logger) (key [32]byte, err error) {
	if path == "" {
		path = filepath.Join(dir, fileDeploymentKey)
		if err := makeKey(path); err != nil {
			return key, fmt.Errorf("make the deployment key: %w", err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("read the deployment key: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others on this machine may read the deployment key", "file", path, "mode", info.Mode().Perm().String())
	}
	if len(text) != len(key) {
		decoded, err := hex.DecodeString(string(bytes.TrimSpace(text)))
		if err != nil || len(decoded) != len(key) {
			return key, refuse("deployment_key", "%s does not hold a deployment key: it takes 32 bytes, or 64 hexadecimal digits", path)
		}
		text = decoded
	}
	copy(key[:], text)
	return key, nil
}

// makeKey puts 32 random bytes into path unless it is there. A crash leaves the whole file or none.
func makeKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var key [32]byte
	rand.Read(key[:])
	return writeWhole(path, key[:])
}
