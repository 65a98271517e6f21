package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// tlsSettings are the certificate of the venues' listeners.
type tlsSettings struct {
	Cert string `help:"The file with the certificate, and those between it and its root, in PEM: the venues' listeners then speak TLS; operations does not. Read again when it changes. Empty: no TLS." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_TLS_CERT"`
	Key  string `help:"The file with the certificate's private key, in PEM. Empty: no TLS." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_TLS_KEY"`
}

func (s tlsSettings) on() bool { return s.Cert != "" }

func (s tlsSettings) check() error {
	if (s.Cert == "") != (s.Key == "") {
		return refuse("usage", "--tls-cert and --tls-key go together: give both or none")
	}
	return nil
}

// scheme is that of the venues' URLs.
func (s tlsSettings) scheme(plain string) string {
	if s.on() {
		return plain + "s"
	}
	return plain
}

// certificate is a pair of files that a certificate authority's tool replaces now and then. It is safe for concurrent
// use.
type certificate struct {
	set tlsSettings
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
	stamps  [2]stamp         // guarded by mu: of the files that current was read from
	looked  time.Time        // guarded by mu: when the files were looked at last
	trouble string           // guarded by mu: what was logged last, so that it is logged once
}

// stamp tells one version of a file from the next.
type stamp struct {
	changed time.Time
	size    int64
}

// certificateRest is how long the files are not looked at again.
const certificateRest = time.Second

// openCertificate reads the pair; nil when there is to be no TLS.
func openCertificate(set tlsSettings, log *slog.Logger) (*certificate, error) {
	if !set.on() {
		return nil, nil
	}
	c := &certificate{set: set, log: log, now: time.Now}
	c.looked = c.now()
	if err := c.load(); err != nil {
		return nil, refuse("tls", "read the certificate: %w", err)
	}
	return c, nil
}

// wrap has a listener speak TLS. HTTP/2 is not offered: a socket needs its connection for itself, and the venues'
// deadlines are those of connections.
func (c *certificate) wrap(at net.Listener) net.Listener {
	if c == nil {
		return at
	}
	return tls.NewListener(at, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get})
}

// get is the certificate of a handshake that begins now.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked).Abs() >= certificateRest {
		c.looked = now
		c.look()
	}
	return c.current, nil
}

// look reads the pair again when it has changed. A pair that is no good, such as one half of which has been replaced so
// far, leaves the old one in use, and is tried again.
func (c *certificate) look() {
	trouble := ""
	if stamps, err := c.stat(); err != nil {
		trouble = err.Error()
	} else if stamps != c.stamps {
		if err := c.load(); err != nil {
			trouble = err.Error()
		} else {
			c.log.Info("read the new certificate", "file", c.set.Cert, "until", c.current.Leaf.NotAfter)
		}
	}
	if trouble != "" && trouble != c.trouble {
		c.log.Error("the new certificate cannot be used: the one before stays", "err", trouble, "until", c.current.Leaf.NotAfter)
	}
	c.trouble = trouble
}

// load reads the pair. The stamps are taken before: a change meanwhile is then noticed at the next look.
func (c *certificate) load() error {
	stamps, err := c.stat()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.set.Cert, c.set.Key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", c.set.Cert, c.set.Key, err)
	}
	c.current, c.stamps = &pair, stamps
	return nil
}

func (c *certificate) stat() (stamps [2]stamp, err error) {
	for i, file := range []string{c.set.Cert, c.set.Key} {
		info, err := os.Stat(file)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}
