package connect

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"

	"millrace/pipeline/credential"
)

// handshakes are gRPC's transport credentials with the certificates of the moment, which gRPC's own read once.
type handshakes struct{ secure *credential.Client }

// now is gRPC's own way with the files as they are.
func (h *handshakes) now() (credentials.TransportCredentials, error) {
	conf, err := h.secure.Config("") // gRPC fills in the host
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(conf), nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (h *handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	way, err := h.now()
	if err != nil {
		return nil, nil, err
	}
	return way.ClientHandshake(ctx, authority, raw)
}

// ServerHandshake implements credentials.TransportCredentials; a client has none.
func (h *handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, credentials.ErrConnDispatched
}

// Info implements credentials.TransportCredentials.
func (h *handshakes) Info() credentials.ProtocolInfo {
	way, err := h.now()
	if err != nil {
		way = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	return way.Info()
}

// Clone implements credentials.TransportCredentials.
func (h *handshakes) Clone() credentials.TransportCredentials { return &handshakes{h.secure} }

// OverrideServerName implements credentials.TransportCredentials; gRPC never calls it.
func (h *handshakes) OverrideServerName(string) error { return nil }
