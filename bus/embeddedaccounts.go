package bus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// accounts is the server configuration with the embedded server's two users,
// given by their public keys: the operator, who is everybody in this process and
// has all rights, and the reader of the books and of the feed.
func accounts(operator, consumer string) string {
	return accountsText([]accountUser{
		{User: User{RoleOwner, operator}, all: true},
		{User: User{RoleAuditor, consumer}, rights: rightsOf(RoleAuditor, MaxPartitions, nil)},
	})
}

// KeyFile returns the public key of the seed in path, and makes the seed once,
// mode 0600, when there is no file. The caller sees to it that nobody else does
// so at the same time.
func KeyFile(path string) (public string, err error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		seed, err = newSeed(path)
	}
	if err != nil {
		return "", err
	}
	defer clear(seed)
	key, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return "", fmt.Errorf("read the key in %s: %w", path, err)
	}
	defer key.Wipe()
	return key.PublicKey()
}

func newSeed(path string) ([]byte, error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	defer key.Wipe()
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	text := append(bytes.Clone(seed), '\n') // seed is the key's own memory, which Wipe clears
	return text, writeFileWhole(path, text)
}

// writeFileWhole puts data into path, mode 0600, so that a crash leaves the old
// file or the new one, and never half of one.
func writeFileWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
