package connect

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"millrace/pipeline/address"
	"millrace/pipeline/credential"
)

// secured is how a connection that failed was to be made.
type secured struct {
	addrs  []string
	client *credential.Client // nil for plain TCP
	own    *x509.Certificate  // nil for none
}

// explainTLS says what TLS has to do with err: one side speaks it and the other does not, one side does not accept the certificate
// of the other, or a certificate has expired. The text is empty when TLS has nothing to do with it. It takes a few seconds of ctx at most.
func (s Server) explainTLS(ctx context.Context, c secured, err error) string {
	if text := s.explainCertificates(c, err); text != "" {
		return text
	}
	for _, addr := range c.addrs {
		switch address.Probe(ctx, addr) {
		case address.TLS:
			if c.client == nil {
				return fmt.Sprintf("%s at %s answers with TLS, and this program does not: is TLS on? Set %s=true", s.Name, addr, s.label("tls.enabled"))
			}
			if hungUp(err) { // perhaps without the alert that says why
				if text := s.explainCertificates(c, c.client.Try(ctx, addr)); text != "" {
					return text
				}
			}
		case address.Plain:
			if c.client != nil {
				return fmt.Sprintf("%s at %s does not answer with TLS, and this program does: is TLS on there? Without it unset %s and all beside it",
					s.Name, addr, s.label("tls.enabled"))
			}
		case address.Unreachable:
		}
	}
	return ""
}

// explainCertificates says which certificate is not accepted. It goes by the text of err: gRPC keeps no more of it, nor do the errors
// of several addresses.
func (s Server) explainCertificates(c secured, err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	var authority x509.UnknownAuthorityError
	switch {
	case strings.Contains(text, authority.Error()):
		return fmt.Sprintf("the certificate of %s is signed by an authority that is not trusted: name its file in %s", s.Name, s.label("tls.ca"))
	case strings.Contains(text, "certificate has expired or is not yet valid"):
		return fmt.Sprintf("the certificate of %s has expired or is not valid yet: renew it there, and look at both clocks", s.Name)
	case strings.Contains(text, "certificate is valid for "), strings.Contains(text, "certificate is not valid for any names"),
		strings.Contains(text, "doesn't contain any IP SANs"):
		return fmt.Sprintf("the certificate of %s is for another name than this address: name what it is for in %s", s.Name, s.label("tls.server_name"))
	}
	_, alert, refused := strings.Cut(text, "remote error: tls: ")
	if !refused || strings.HasPrefix(alert, "protocol version") {
		return ""
	}
	files := s.label("tls.cert") + " and " + s.label("tls.key")
	if c.own == nil {
		return fmt.Sprintf("%s wants a certificate of this program: name its files in %s", s.Name, files)
	}
	if wrong := credential.CheckTime(c.own, time.Now()); wrong != nil {
		return fmt.Sprintf("%s refuses the certificate of this program, for %v: replace the files in %s", s.Name, wrong, files)
	}
	return fmt.Sprintf("%s refuses the certificate of this program, %q: is it signed by an authority that the server trusts? Its files are in %s",
		s.Name, c.own.Subject, files)
}

// hungUp reports whether err says that the server ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.HasSuffix(err.Error(), "EOF") || strings.Contains(err.Error(), "connection reset by peer") ||
		strings.Contains(err.Error(), "broken pipe")
}

// explained puts the explanation before err.
func explained(text string, err error) error {
	if text == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", text, err)
}
