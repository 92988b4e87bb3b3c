package admin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"millrace/pipeline/credential"
)

// probeTimeout bounds a probe.
const probeTimeout = 3 * time.Second

// Probe asks the worker on this machine that listens as cfg says whether it is ready. It needs no token.
func Probe(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	host, port, err := cfg.hostPort()
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip.IsUnspecified() { // it listens everywhere
		host = "localhost"
	}
	transport := &http.Transport{DisableKeepAlives: true}
	scheme := "http://"
	if cfg.tls() {
		scheme = "https://"
		if transport.TLSClientConfig, err = onlyCertificate(cfg.CertFile); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("the worker does not answer: %w", err)
	}
	defer answer.Body.Close()
	why, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("the worker does not answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New("the worker is not ready: " + strings.TrimSpace(string(why)))
	}
	return nil
}

// onlyCertificate trusts a server that shows the certificate of the file, which is the worker's own: its name and its authority
// are for others, who come from elsewhere.
func onlyCertificate(file string) (*tls.Config, error) {
	content, err := credential.NewFile(file, credential.MaxCertificateBytes).Read()
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("admin: %s holds no PEM certificate", file)
	}
	return &tls.Config{
		InsecureSkipVerify: true, // VerifyPeerCertificate is stricter
		VerifyPeerCertificate: func(shown [][]byte, _ [][]*x509.Certificate) error {
			if len(shown) == 0 || !bytes.Equal(shown[0], block.Bytes) {
				return fmt.Errorf("it shows another certificate than %s", file)
			}
			return nil
		},
	}, nil
}
