package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// issueCertificate makes a certificate for 127.0.0.1 that is its own authority.
func issueCertificate(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func putFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateIsReplacedWhileServing: a new pair is served from the next second on, half a pair leaves the old one.
func TestCertificateIsReplacedWhileServing(t *testing.T) {
	dir := t.TempDir()
	set := tlsSettings{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, key := issueCertificate(t, 1)
	putFile(t, set.Cert, cert)
	putFile(t, set.Key, key)
	var log bytes.Buffer
	c, err := openCertificate(set, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64 // how far the clock has been moved
	c.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWeb("test", c.wrap(at), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.ProtoMajor != 1 {
			t.Errorf("not TLS with HTTP/1.1: %s", r.Proto)
		}
	}), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(cert)
	serial := func() int64 {
		t.Helper()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted}}}
		answer, err := client.Get("https://" + at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		return answer.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("certificate %d is served", got)
	}

	next, nextKey := issueCertificate(t, 20000)
	trusted.AppendCertsFromPEM(next)
	putFile(t, set.Cert, next)
	for range 3 {
		ahead.Add(int64(time.Second))
		if got := serial(); got != 1 {
			t.Fatalf("half of a new pair: certificate %d is served", got)
		}
	}
	putFile(t, set.Key, nextKey)
	ahead.Add(int64(time.Second))
	if got := serial(); got != 20000 {
		t.Fatalf("a new pair: certificate %d is served", got)
	}
	if err := os.Remove(set.Key); err != nil {
		t.Fatal(err)
	}
	ahead.Add(int64(time.Second))
	if got := serial(); got != 20000 {
		t.Fatalf("no key: certificate %d is served", got)
	}
	if logged := log.String(); strings.Count(logged, "cannot be used") != 2 || strings.Count(logged, "read the new") != 1 || strings.Contains(logged, "PRIVATE") {
		t.Errorf("the log says:\n%s", logged)
	}
}

// TestCertificateMustBeWhole: the service does not start without one.
func TestCertificateMustBeWhole(t *testing.T) {
	dir := t.TempDir()
	set := tlsSettings{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, _ := issueCertificate(t, 1)
	_, key := issueCertificate(t, 2)
	putFile(t, set.Cert, cert)
	if _, err := openCertificate(set, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("without the key's file it is taken")
	}
	putFile(t, set.Key, key)
	var no *refused
	if _, err := openCertificate(set, slog.New(slog.DiscardHandler)); !errors.As(err, &no) || no.code != "tls" {
		t.Errorf("another certificate's key: %v", err)
	}
}
