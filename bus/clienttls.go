package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/nats-io/nats.go"
)

// ClientTLS is how a connection is secured. Whatever is set here makes TLS a
// condition; so does a URL that begins with tls://.
type ClientTLS struct {
	CA   string // file with the authorities that may have signed the server's certificate, in PEM; "": the system's
	Cert string // file with our certificate, in PEM, for a server that asks for one; read at each connection
	Key  string // file with its private key, in PEM
	Name string // the name that the server's certificate must have; "": the host of the URL
	// SameMachine is for a server that FindRunning found: its certificate is not
	// checked, since it was made for other machines' way here. Without TLS the same
	// connection would be in the clear; the key never travels.
	SameMachine bool
}

func (t ClientTLS) options() ([]nats.Option, error) {
	if t == (ClientTLS{}) {
		return nil, nil
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, fmt.Errorf("%w: a client's certificate and its key go together", ErrTLS)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Name}
	if t.CA != "" {
		text, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("%w: read the authorities: %w", ErrTLS, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%w: %s holds no certificate", ErrTLS, t.CA)
		}
	} else if t.SameMachine {
		cfg.InsecureSkipVerify = true
	}
	if t.Cert != "" {
		if _, err := t.pair(); err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.pair() }
	}
	if t.SameMachine {
		return []nats.Option{func(o *nats.Options) error { o.TLSConfig = cfg; return nil }}, nil // as the URL says
	}
	return []nats.Option{nats.Secure(cfg)}, nil
}

func (t ClientTLS) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: our certificate %s with %s: %w", ErrTLS, t.Cert, t.Key, err)
	}
	return &pair, nil
}

// explain says what a failed connection has to do with TLS.
func explain(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		plain   tls.RecordHeaderError
		network *net.OpError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: no authority that is trusted here has signed the server's certificate: %w", ErrTLS, err)
	case errors.As(err, &name):
		return fmt.Errorf("%w: the server's certificate is for another name: %w", ErrTLS, err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: the server's certificate is not valid at this time: %w", ErrTLS, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: the server's certificate is no good: %w", ErrTLS, err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf("%w: TLS is wanted here and the server does not offer it: %w", ErrTLS, err)
	case errors.Is(err, nats.ErrSecureConnRequired), errors.As(err, &plain):
		return fmt.Errorf("%w: the two sides do not agree on TLS: %w", ErrTLS, err)
	case errors.As(err, &network) && network.Op == "remote error", errors.Is(err, nats.ErrTLS):
		return fmt.Errorf("%w: the server refused the handshake, or ended it; it may want a certificate of ours, from an authority that it trusts: %w", ErrTLS, err)
	}
	return err
}
