package address

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// probeTimeout bounds a probe: whoever waits has waited for a failure already.
const probeTimeout = 2 * time.Second

// Speech is what a server says to somebody who begins with TLS.
type Speech int

const (
	Unreachable Speech = iota // nothing accepts connections there
	Plain                     // it does not answer with TLS
	TLS
)

// Probe finds out whether the server at addr speaks TLS. It says nothing that a server could take for a request.
func Probe(ctx context.Context, addr string) Speech {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return Unreachable
	}
	defer conn.Close()
	// The certificate does not matter: nothing is sent over this connection.
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	var op *net.OpError
	if err == nil || errors.As(err, &op) && op.Op == "remote error" { // an alert: only who speaks TLS sends one
		return TLS
	}
	return Plain
}
