package bus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"
)

// The embedded server has two accounts, and that is its security. ROLLBOOK owns
// the streams; READERS sees of it what it imports. A permission list within
// one account would not do: whoever may ask JetStream for anything may name any
// subject as the reply, so a reader's STREAM.INFO could be answered *into a
// book*, past the fence. Across accounts the reply stays in the asker's account,
// where there is no stream.

// readerInfo is where READERS has the books' STREAM.INFO. The server answers
// $JS.API.> of an account without JetStream by itself, with an error; mapped
// aside, the question reaches the other account alone.
const readerInfo = "rollbook.reader.info."

// accounts is the server configuration with the two users, given by their
// public keys.
func accounts(operator, consumer string) string {
	var exports, imports, publish strings.Builder
	for _, subject := range []string{subjectAllLive, subjectAllAnnounce} {
		fmt.Fprintf(&exports, "{stream: %q},\n", subject)
		fmt.Fprintf(&imports, "{stream: {account: ROLLBOOK, subject: %q}},\n", subject)
	}
	snapshots := apiDirectGet + StreamSnapshots
	fmt.Fprintf(&exports, "{service: %q, response: stream},\n", snapshots)
	fmt.Fprintf(&imports, "{service: {account: ROLLBOOK, subject: %q}},\n", snapshots)
	fmt.Fprintf(&publish, "%q, ", snapshots)
	for p := range Partition(MaxPartitions) {
		info, get, mapped := apiStreamInfo+BookStream(p), apiDirectGet+BookStream(p), readerInfo+BookStream(p)
		fmt.Fprintf(&exports, "{service: %q}, {service: %q, response: stream},\n", info, get)
		fmt.Fprintf(&imports, "{service: {account: ROLLBOOK, subject: %q}, to: %q},\n", info, mapped)
		fmt.Fprintf(&imports, "{service: {account: ROLLBOOK, subject: %q}},\n", get)
		fmt.Fprintf(&publish, "%q, %q, %q,\n", info, mapped, get)
	}
	return fmt.Sprintf(`accounts {
  ROLLBOOK { jetstream: enabled, users: [{nkey: %[1]s}], exports: [%[3]s] }
  READERS {
    users: [{nkey: %[2]s, permissions: {
      publish: {allow: [%[5]s]},
      subscribe: {allow: [%[6]q, %[7]q, "%[8]s%[2]s.>"]}}}]
    mappings: {%[9]q: %[10]q}
    imports: [%[4]s]
  }
}`, operator, consumer, exports.String(), imports.String(), publish.String(),
		subjectAllLive, subjectAllAnnounce, inboxPrefix, apiStreamInfo+"*", readerInfo+"$1")
}

// nkeyFile returns the public key of the seed in path, and makes the seed once,
// mode 0600, when there is no file. The caller holds the directory's lock.
func nkeyFile(path string) (public string, err error) {
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
