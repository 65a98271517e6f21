package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"

	"rollbook/bus"
)

// busTLS is how this process secures its way to a bus that another one runs.
type busTLS struct {
	CA   string `name:"ca" help:"The file with the authorities that may have signed the bus's certificate, in PEM. Empty: the system's, and then TLS is used when the bus wants it or its URL begins with tls://." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_TLS_CA"`
	Cert string `help:"The file with this process's certificate, in PEM, for a bus that asks for one. Read at each connection. Empty: none." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_TLS_CERT"`
	Key  string `help:"The file with that certificate's private key, in PEM. Empty: none." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_TLS_KEY"`
	Name string `help:"The name that the bus's certificate must have. Empty: the host of the URL." placeholder:"HOST" default:"" env:"ROLLBOOK_BUS_TLS_NAME"`
}

func (s busTLS) check() error {
	if (s.Cert == "") != (s.Key == "") {
		return refuse("usage", "--bus-tls-cert and --bus-tls-key go together: give both or none")
	}
	return nil
}

func (s busTLS) client() bus.ClientTLS {
	return bus.ClientTLS{CA: s.CA, Cert: s.Cert, Key: s.Key, Name: s.Name}
}

// busListenTLS is the certificate of the embedded bus's listener.
type busListenTLS struct {
	Cert string `help:"The file with the certificate of the embedded bus's listener, and those between it and its root, in PEM: other processes then come by TLS. Read again when it changes. Empty: in the clear." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_LISTEN_CERT"`
	Key  string `help:"The file with that certificate's private key, in PEM. Empty: in the clear." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_LISTEN_KEY"`
	CA   string `name:"ca" help:"The file with the authorities of which one must have signed the certificate of whoever comes to the embedded bus, in PEM. Empty: no certificate is asked for." placeholder:"FILE" type:"path" default:"" env:"ROLLBOOK_BUS_LISTEN_CA"`
}

func (s busListenTLS) check() error {
	switch {
	case (s.Cert == "") != (s.Key == ""):
		return refuse("usage", "--bus-listen-cert and --bus-listen-key go together: give both or none")
	case s.CA != "" && s.Cert == "":
		return refuse("usage", "--bus-listen-ca asks for certificates, which takes TLS: give --bus-listen-cert and --bus-listen-key")
	}
	return nil
}

// server is the listener's side of TLS; nil: in the clear.
func (s busListenTLS) server(log *slog.Logger) (*tls.Config, error) {
	cert, err := openCertificate(tlsSettings{Cert: s.Cert, Key: s.Key}, log)
	if err != nil || cert == nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get}
	if s.CA == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, refuse("tls", "read the authorities of --bus-listen-ca: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(text) {
		return nil, refuse("tls", "--bus-listen-ca %s holds no certificate", s.CA)
	}
	return cfg, nil
}
