package credential

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// TLS says how connections to a server are made. The zero value is plain TCP.
type TLS struct {
	Enable bool
	// CAFile holds PEM certificates to trust instead of the system's.
	CAFile string
	// CertFile and KeyFile identify this program (PEM); both or neither.
	CertFile, KeyFile string
	// ServerName is the name expected in the server's certificate instead of the host's.
	ServerName string
	// SkipVerify accepts any certificate: for tests only.
	SkipVerify bool
}

// Client makes TLS connections as a TLS says. It is safe for concurrent use.
type Client struct {
	conf  *tls.Config // instead of all else
	tls   TLS
	roots *Pool // nil: the system's
	pair  *Pair // nil: none
}

// Client reads the files; nil without TLS. The error names the file.
func (t TLS) Client() (*Client, error) {
	if !t.Enable {
		return nil, nil
	}
	c := &Client{tls: t}
	if t.CAFile != "" {
		c.roots = NewPool(t.CAFile, nil)
		if _, err := c.roots.Get(); err != nil {
			return nil, err
		}
	}
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return nil, errors.New("certificate and key files go together; give both or neither")
	case t.CertFile != "":
		c.pair = NewPair(t.CertFile, t.KeyFile, nil)
		if _, err := c.pair.Get(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Config returns a configuration for one connection to host, with the files as they are now. Only the certificates to trust are
// fixed in it; the program's own are looked up at every handshake.
func (c *Client) Config(host string) (*tls.Config, error) {
	if c.conf != nil {
		conf := c.conf.Clone()
		if conf.ServerName == "" {
			conf.ServerName = host
		}
		return conf, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.tls.ServerName, InsecureSkipVerify: c.tls.SkipVerify}
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	if c.roots != nil {
		pool, err := c.roots.Get()
		if err != nil {
			return nil, err
		}
		conf.RootCAs = pool
	}
	if c.pair != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.pair.Get() }
	}
	return conf, nil
}

// Handshake makes a TLS connection over raw to the server at addr. On an error raw stays open.
func (c *Client) Handshake(ctx context.Context, raw net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conf, err := c.Config(host)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

// ClientOf makes connections as a finished configuration says.
func ClientOf(conf *tls.Config) *Client { return &Client{conf: conf} }

// tryTimeout bounds a trial, and tryRead how long it waits for a server that has something against this program.
const (
	tryTimeout = 3 * time.Second
	tryRead    = 500 * time.Millisecond
)

// Try connects to find out what a server has against this program: with TLS 1.3 it says so only after the handshake. Nil: nothing
// that it says.
func (c *Client) Try(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer raw.Close()
	conn, err := c.Handshake(ctx, raw, addr)
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(tryRead)); err != nil {
		return nil
	}
	var timeout net.Error
	if _, err = conn.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return err
}

// Own is the program's certificate, nil without one.
func (c *Client) Own() *x509.Certificate {
	if c == nil || c.pair == nil {
		return nil
	}
	pair, err := c.pair.Get()
	if err != nil {
		return nil
	}
	return pair.Leaf
}

// CheckTime says what is wrong with when a certificate is valid.
func CheckTime(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("it expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("it is not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Pool is the certificates of a PEM file.
type Pool = Parsed[*x509.CertPool]

// NewPool returns the certificates of a PEM file.
func NewPool(file string, outdated func(error)) *Pool {
	parse := func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, errors.New("holds no PEM certificate")
		}
		return pool, nil
	}
	return NewParsed(parse, outdated, Part{"CA file", NewFile(file, MaxCertificateBytes)})
}

// Pair is a certificate with its key, of two PEM files.
type Pair = Parsed[*tls.Certificate]

// NewPair returns the certificate with its key of two PEM files. While the files do not belong together, because only one of them
// has been replaced yet, it is the pair as it was.
func NewPair(certFile, keyFile string, outdated func(error)) *Pair {
	parse := func(contents [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("with key file %s: %w", keyFile, err)
		}
		return &pair, nil
	}
	return NewParsed(parse, outdated,
		Part{"certificate file", NewFile(certFile, MaxCertificateBytes)}, Part{"key file", NewFile(keyFile, MaxSecretBytes)})
}
