package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollbook/bus"
)

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	ok(t, err)
	a.cert, err = x509.ParseCertificate(der)
	ok(t, err)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// sign makes a certificate for a name, good until some time, and gives its files.
func (a *authority) sign(name string, until time.Time) (cert, key string) {
	a.t.Helper()
	dir, private := a.t.TempDir(), newKey(a.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	ok(a.t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	ok(a.t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(a.t, cert, "CERTIFICATE", der)
	writePEM(a.t, key, "PRIVATE KEY", encoded)
	return cert, key
}

// listener is the TLS configuration of a server; with clients, they need a
// certificate of that authority.
func (a *authority) listener(name string, until time.Time, clients *authority) *tls.Config {
	a.t.Helper()
	pair, err := tls.LoadX509KeyPair(a.sign(name, until))
	ok(a.t, err)
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		cfg.ClientCAs.AddCert(clients.cert)
	}
	return cfg
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	ourCert, ourKey := ours.sign("pod", later)
	strangerCert, strangerKey := theirs.sign("pod", later)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	ok(t, os.WriteFile(empty, []byte("nothing\n"), 0o600))

	good := ours.listener("127.0.0.1", later, nil)
	mutual := ours.listener("127.0.0.1", later, ours)
	for name, c := range map[string]struct {
		server *tls.Config
		client bus.ClientTLS
		says   string // "": it connects
	}{
		"trusted":                   {good, bus.ClientTLS{CA: ours.file}, ""},
		"trusted by another name":   {ours.listener("bus.example", later, nil), bus.ClientTLS{CA: ours.file, Name: "bus.example"}, ""},
		"the system's authorities":  {good, bus.ClientTLS{}, "no authority that is trusted here"},
		"another authority":         {good, bus.ClientTLS{CA: theirs.file}, "no authority that is trusted here"},
		"another name":              {ours.listener("bus.example", later, nil), bus.ClientTLS{CA: ours.file}, "for another name"},
		"a wrong name is asked for": {good, bus.ClientTLS{CA: ours.file, Name: "bus.example"}, "for another name"},
		"expired":                   {ours.listener("127.0.0.1", past, nil), bus.ClientTLS{CA: ours.file}, "not valid at this time"},
		"no certificate of ours":    {mutual, bus.ClientTLS{CA: ours.file}, "may want a certificate of ours"},
		"a stranger's certificate":  {mutual, bus.ClientTLS{CA: ours.file, Cert: strangerCert, Key: strangerKey}, "may want a certificate of ours"},
		"both sides":                {mutual, bus.ClientTLS{CA: ours.file, Cert: ourCert, Key: ourKey}, ""},
		"wanted, not offered":       {nil, bus.ClientTLS{CA: ours.file}, "does not offer it"},
		"half a pair":               {good, bus.ClientTLS{CA: ours.file, Cert: ourCert}, "go together"},
		"another's key":             {mutual, bus.ClientTLS{CA: ours.file, Cert: ourCert, Key: strangerKey}, "our certificate"},
		"no authorities' file":      {good, bus.ClientTLS{CA: filepath.Join(t.TempDir(), "none")}, "read the authorities"},
		"no authority in it":        {good, bus.ClientTLS{CA: empty}, "holds no certificate"},
		"found on this machine":     {good, bus.ClientTLS{SameMachine: true}, ""},
		"found, and mutual":         {mutual, bus.ClientTLS{SameMachine: true, Cert: ourCert, Key: ourKey}, ""},
		"found, in the clear":       {nil, bus.ClientTLS{SameMachine: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir, Listen: "127.0.0.1:0", TLS: c.server})
			ok(t, err)
			defer e.Shutdown()
			url, found := bus.FindRunning(dir)
			if !found || strings.HasPrefix(url, "tls://") != (c.server != nil) {
				t.Fatalf("found %q, %v", url, found)
			}
			if !c.client.SameMachine {
				url = strings.Replace(url, "tls://", "nats://", 1) // the setting alone must be enough
			}
			ctx := soon(t)
			b, err := bus.Connect(ctx, bus.ConnectConfig{URL: url, Creds: filepath.Join(dir, "operator.nk"), TLS: c.client})
			if c.says == "" {
				ok(t, err)
				defer b.Close()
				ok(t, b.Create(ctx, bus.Layout{Partitions: 1, Replicas: 1}))
				ok(t, connect(t, e).CheckDurability(ctx)) // the process's own connection needs no certificate
				return
			}
			if err == nil {
				b.Close()
			}
			want(t, err, bus.ErrTLS)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error %q does not say %q", err, c.says)
			}
		})
	}
}

// TestOurCertificateIsReadAtEachConnection: a replaced one serves the next.
func TestOurCertificateIsReadAtEachConnection(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	dir := t.TempDir()
	e, err := bus.StartEmbedded(bus.EmbeddedConfig{DataDir: dir, Listen: "127.0.0.1:0", TLS: ours.listener("127.0.0.1", later, ours)})
	ok(t, err)
	defer e.Shutdown()
	cert, key := ours.sign("pod", later)
	b, err := bus.Connect(soon(t), bus.ConnectConfig{URL: e.URL(), Creds: filepath.Join(dir, "operator.nk"), TLS: bus.ClientTLS{CA: ours.file, Cert: cert, Key: key}})
	ok(t, err)
	defer b.Close()
	badCert, badKey := theirs.sign("pod", later)
	for from, to := range map[string]string{badCert: cert, badKey: key} {
		text, err := os.ReadFile(from)
		ok(t, err)
		ok(t, os.WriteFile(to, text, 0o600))
	}
	ok(t, b.Conn().ForceReconnect())
	lost := time.Now().Add(30 * time.Second)
	for b.Conn().LastError() == nil {
		if time.Now().After(lost) {
			t.Fatal("it connected again with a certificate that the server does not take")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
