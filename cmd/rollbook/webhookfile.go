package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"rollbook/engine/session"
	"rollbook/projections/webhooks"
)

// webhookFile is the file of --webhooks. docs/webhooks.md describes it.
type webhookFile struct {
	Endpoints []endpointText `toml:"endpoint"`
}

// endpointText is [webhooks.Endpoint] as the file has it.
type endpointText struct {
	Name       string   `toml:"name"`
	URL        string   `toml:"url"`
	SecretFile string   `toml:"secret_file"` // a secret a line, one or two; relative to the file's own directory
	Types      []string `toml:"types"`
	Venues     []string `toml:"venues"`
	From       string   `toml:"from"` // "now" or "beginning"
	Timeout    string   `toml:"timeout"`
	Attempts   int      `toml:"attempts"`
	Parallel   int      `toml:"parallel"`
	Private    bool     `toml:"private"`
	CA         string   `toml:"ca"` // a file, relative to the file's own directory
}

// readEndpoints reads the file. A key that is none, and everything that cannot be meant, is refused.
func readEndpoints(path string) ([]webhooks.Endpoint, error) {
	var file webhookFile
	meta, err := toml.DecodeFile(path, &file)
	if err != nil {
		return nil, refuse("bad_webhooks", "read the webhooks %s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, refuse("bad_webhooks", "the webhooks %s have an unknown key %q", path, unknown[0])
	}
	var list []webhooks.Endpoint
	for _, text := range file.Endpoints {
		e, err := text.read(filepath.Dir(path))
		if err != nil {
			return nil, refuse("bad_webhooks", "%s: webhook endpoint %s: %w", path, text.Name, err)
		}
		list = append(list, e)
	}
	return list, nil
}

func (x endpointText) read(dir string) (e webhooks.Endpoint, err error) {
	e = webhooks.Endpoint{Name: x.Name, URL: x.URL, Attempts: x.Attempts, Parallel: x.Parallel, Private: x.Private}
	if x.Attempts < 0 || x.Parallel < 0 {
		return e, fmt.Errorf("attempts and parallel cannot be negative")
	}
	switch x.From {
	case "", "now":
	case "beginning":
		e.FromBeginning = true
	default:
		return e, fmt.Errorf("from takes \"now\" or \"beginning\", not %q", x.From)
	}
	if x.Timeout != "" {
		if e.Timeout, err = time.ParseDuration(x.Timeout); err != nil || e.Timeout <= 0 {
			return e, fmt.Errorf("timeout takes a time such as \"10s\", not %q", x.Timeout)
		}
	}
	for _, name := range x.Types {
		e.Types = append(e.Types, session.EventType(name))
	}
	for _, name := range x.Venues {
		venue, err := session.ParseVenue(name)
		if err != nil {
			return e, err
		}
		e.Venues = append(e.Venues, venue)
	}
	if x.CA != "" {
		text, err := os.ReadFile(within(dir, x.CA))
		if err != nil {
			return e, err
		}
		e.Roots = x509.NewCertPool()
		if !e.Roots.AppendCertsFromPEM(text) {
			return e, fmt.Errorf("%s holds no certificate", x.CA)
		}
	}
	e.Secrets, err = readSecrets(within(dir, x.SecretFile))
	return e, err
}

// readSecrets reads a secret a line. Others must not be able to read them.
func readSecrets(path string) (list []webhooks.Secret, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read its secret: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others on this machine may read its secret in %s: give the file the mode 0600", path)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		secret, err := webhooks.ParseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, secret)
	}
	return list, nil
}

// within is a path of the file, which is relative to the file's directory.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
