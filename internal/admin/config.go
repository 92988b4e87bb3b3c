// Package admin is the worker's own HTTP listener: metrics, health and profiles. It decides where the listener binds and who
// may ask for what; what is answered comes from outside.
package admin

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Config says where the listener is and who may ask. The zero value is no listener.
type Config struct {
	// Addr is host:port, port 0 for a free one. A bare port, or ":port", is loopback: 0.0.0.0 or [::] must be said for every
	// interface. Empty means no listener.
	Addr string
	// CertFile and KeyFile are PEM files that turn TLS on. They are read again when they change.
	CertFile, KeyFile string
	// ClientCAFile is a PEM file of the authorities that sign clients. Everything but /healthz and /readyz then needs a
	// certificate of theirs. It is read again when it changes.
	ClientCAFile string
	// TokenFile holds the bearer token that everything but /healthz and /readyz then needs. It is read again when it changes.
	TokenFile string
}

const loopback = "127.0.0.1"

// Validate names every setting that cannot be.
func (c Config) Validate() error {
	var errs []error
	if c.Addr == "" {
		if c != (Config{}) {
			return errors.New("admin: a certificate, client CA or token is set, and no address; set the address too")
		}
		return nil
	}
	if _, _, err := c.hostPort(); err != nil {
		errs = append(errs, err)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("admin: certificate file is %q and key file %q; TLS wants both", c.CertFile, c.KeyFile))
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		errs = append(errs, fmt.Errorf("admin: client CA file is %q without TLS; set the certificate and key files too", c.ClientCAFile))
	}
	return errors.Join(errs...)
}

// hostPort is where to bind: loopback unless Addr names a host.
func (c Config) hostPort() (host, port string, err error) {
	host, port = "", c.Addr
	if _, err := strconv.ParseUint(c.Addr, 10, 16); err != nil {
		if host, port, err = net.SplitHostPort(c.Addr); err != nil {
			return "", "", fmt.Errorf("admin: address is %q; want host:port, or a port for loopback", c.Addr)
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("admin: address is %q; its port must be a number up to 65535", c.Addr)
	}
	if host == "" {
		host = loopback
	}
	return host, port, nil
}

// tls reports whether the listener speaks TLS.
func (c Config) tls() bool { return c.CertFile != "" }
