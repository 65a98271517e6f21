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

// deploymentKey reads the key that all pods of a deployment share; without a path that of the data directory, which
// [makeKey] has made. It makes none beside a book that is there: losing the key costs what the book holds sealed of where users
// came from, and their API keys; refresh tokens in their grace window, and failures counted under names that nobody has. A key
// that was only left behind when the directory was moved is to be fetched, and not to be replaced by one that opens nothing.
func deploymentKey(path, dir string, log *slog.Logger) (key [32]byte, err error) {
	named := path != ""
	if !named {
		path = filepath.Join(dir, fileDeploymentKey)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !named {
		return key, refuse("deployment_key", "%s is missing, and the book there was made with it: put it back, or name it with "+
			"--deployment-key-file; if it is lost, put 32 random bytes in its place, and what is sealed under it stays closed", path)
	}
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

// makeKey puts 32 random bytes into a data directory that gets a book, unless a key is there. It comes before the book, so that
// there is never a book without one. The embedded bus's lock is held by then: nobody makes another at the same time. A crash
// leaves the whole file or none.
func makeKey(dir string) error {
	path := filepath.Join(dir, fileDeploymentKey)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var key [32]byte
	rand.Read(key[:])
	return writeWhole(path, key[:])
}
