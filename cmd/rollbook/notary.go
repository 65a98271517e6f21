package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"rollbook/bus"
	"rollbook/projections/proof"
)

// What the notary has in a data directory.
const (
	fileNotaryKey  = "notary.key"
	fileNotaryVKey = "notary.vkey"
)

// notarySettings are about what is signed, and compared with.
type notarySettings struct {
	NotaryKeyFile string `help:"The file with the notary's private key; rollbook notary needs it. Empty: notary.key in the data directory, made once; other processes on a bus elsewhere have no notary." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_NOTARY_KEY_FILE"`
	NotaryState   string `help:"The directory in which the notary remembers, apart from the bus, what it signed last, so that it never signs another history when the bus has lost something. Empty: the data directory; on a bus elsewhere it knows what is stored there and no more." placeholder:"DIR" type:"path" default:"" env:"ROLLBOOK_NOTARY_STATE"`
	NotaryVkey    string `help:"The notary's public key, or the file that has it. What this process reads of the book is compared with what was signed, and when it differs the process stops saying yes. Empty: that of the data directory's notary; on a bus elsewhere nothing is compared." placeholder:"VKEY" default:"" env:"ROLLBOOK_NOTARY_VKEY"`
	NotaryVerify  bool   `help:"Have the notary read everything that was signed once after its start, beside its work, and raise the alarm when it has changed." default:"true" negatable:"" env:"ROLLBOOK_NOTARY_VERIFY"`
}

type notaryCommand struct {
	serveSettings `embed:""`
}

// Help is shown by notary --help.
func (notaryCommand) Help() string {
	return `It follows the books on --bus and signs, once a second where something happened, what is in them: a checkpoint, in
the stream CHECKPOINTS. Nobody can then change a page without rollbook audit verify naming it. It needs --notary-key-file
(rollbook audit key makes one) and the credential of the role notary. Keep the key away from those who run the engine.

Several may run with one key; they sign one history. It takes the settings of rollbook serve, so that one file serves all
roles, and uses few. Operations listens on --port-base.`
}

// Run signs until a signal comes.
func (c *notaryCommand) Run(ctx context.Context, app *cli) error {
	return c.serveSettings.run(ctx, onlyNotary, app.Log.logger(os.Stderr, slog.LevelInfo))
}

// furnishNotary makes what signs and what compares, where this process has it; they start nothing.
func (h *house) furnishNotary() error {
	var public proof.PublicKey
	if h.embedded != nil || h.roles.notary {
		key, err := notaryKey(h.set.NotaryKeyFile, h.dir, h.log)
		if err != nil {
			return err
		}
		public = key.Public()
		cfg := proof.NotaryConfig{Store: h.bus, Key: key, Log: h.log}
		if dir := cmp.Or(h.set.NotaryState, h.dir); dir != "" {
			cfg.Memory = notaryMemory(dir)
		}
		if h.set.NotaryVerify {
			cfg.Verify = &proof.Live{Bus: h.bus}
		}
		for p := range bus.Partition(h.layout.Partitions) {
			cfg.Books = append(cfg.Books, h.bus.Book(p))
		}
		h.notary = proof.NewNotary(cfg)
		h.status.notary = h.notary
		h.registry.MustRegister(h.notary)
		h.log.Info("what is written is signed", "vkey", strings.ReplaceAll(public.String(), "\n", " "))
	}
	if h.set.NotaryVkey != "" {
		var err error
		if public, err = publicKey(h.set.NotaryVkey); err != nil {
			return err
		}
	}
	if h.roles.venues && !public.Zero() {
		h.watch = proof.NewWatch(proof.WatchConfig{Key: public, Partitions: h.layout.Partitions, Store: h.bus, Log: h.log})
		h.registry.MustRegister(h.watch)
	}
	return nil
}

// notaryKey reads the notary's key. In a data directory it is made once, with a name that no other book has; the embedded
// bus's lock is held by then. Losing it ends the history that was signed: what is signed with another is another log.
func notaryKey(path, dir string, log *slog.Logger) (proof.Key, error) {
	ours := path == ""
	if ours {
		path = filepath.Join(dir, fileNotaryKey)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if _, err := makeNotaryKey(dir, "rollbook/"+randomName(), fileNotaryKey, fileNotaryVKey); err != nil {
				return proof.Key{}, err
			}
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return proof.Key{}, fmt.Errorf("read the notary's key: %w", err)
	}
	defer clear(text)
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others on this machine may read the notary's key", "file", path, "mode", info.Mode().Perm().String())
	}
	key, err := proof.ParseKey(string(text))
	if err != nil {
		return proof.Key{}, refuse("notary_key", "%s does not hold a notary's key: rollbook audit key makes one", path)
	}
	if ours {
		pairPublicKey(filepath.Join(dir, fileNotaryVKey), key, log)
	}
	return key, nil
}

// pairPublicKey has the public key beside a data directory's private one be the one that belongs to it: whoever put the old
// notary.key into a restored directory has put no notary.vkey there, or there is one of the key that a start without it made.
func pairPublicKey(path string, key proof.Key, log *slog.Logger) {
	text := key.Public().String()
	was, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(was)) == text {
		return
	}
	if err == nil {
		log.Warn("the notary's public key was another one than its key's, and is made anew", "file", path)
	}
	if err := writeWhole(path, []byte(text+"\n")); err != nil {
		log.Warn("the notary's public key is not written", "file", path, "err", err)
	}
}

// notaryMemory is a directory with the last signed checkpoint of each partition.
type notaryMemory string

func (m notaryMemory) path(p bus.Partition) string {
	return filepath.Join(string(m), "notary.p"+p.String()+".checkpoint")
}

// Load implements [proof.Memory].
func (m notaryMemory) Load(p bus.Partition) ([]byte, error) {
	signed, err := os.ReadFile(m.path(p))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return signed, err
}

// Save implements [proof.Memory].
func (m notaryMemory) Save(p bus.Partition, signed []byte) error {
	return writeWhole(m.path(p), signed)
}

// randomName tells one book's logs from another's.
func randomName() string {
	var raw [6]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// makeNotaryKey puts a new key into two files of a directory. The public half is written first: a crash between leaves one
// that belongs to no key, and that the next attempt replaces.
func makeNotaryKey(dir, name, private, public string) (proof.Key, error) {
	key, err := proof.NewKey(name)
	if err != nil {
		return key, refuse("usage", "%q is no name for a key: it has no spaces and no plus signs", name)
	}
	if err := writeWhole(filepath.Join(dir, public), []byte(key.Public().String()+"\n")); err != nil {
		return key, fmt.Errorf("make the notary's key: %w", err)
	}
	if err := writeWhole(filepath.Join(dir, private), []byte(key.Text()+"\n")); err != nil {
		return key, fmt.Errorf("make the notary's key: %w", err)
	}
	return key, nil
}

// publicKey reads a vkey, or the file that has it.
func publicKey(text string) (proof.PublicKey, error) {
	key, err := proof.ParsePublicKey(keyText(text))
	if err != nil {
		return key, refuse("vkey", "%q is no notary's public key, and no file that has one", text)
	}
	return key, nil
}

// keyText is what stands in the file of that name, or else the text itself.
func keyText(text string) string {
	if data, err := os.ReadFile(text); err == nil {
		return strings.TrimSpace(string(data))
	}
	return text
}
