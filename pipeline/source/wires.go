package source

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// wires is the dialer behind one sarama object. sarama knows no context: what waits for a broker waits until a timeout.
// Cutting the wires ends it at once.
type wires struct {
	dialer net.Dialer
	tls    *tls.Config     // nil for plain TCP
	ctx    context.Context // of dialling
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*wire]struct{}

	// broken is set once a connection failed or was cut, as opposed to an answer that could not be decoded.
	broken atomic.Bool
}

// wireUp makes a copy of conf whose connections go through new wires.
func wireUp(conf *sarama.Config) (*sarama.Config, *wires) {
	w := &wires{
		dialer: net.Dialer{Timeout: conf.Net.DialTimeout, KeepAlive: conf.Net.KeepAlive},
		conns:  map[*wire]struct{}{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	own := *conf
	own.Net.Proxy.Enable = true
	own.Net.Proxy.Dialer = w
	// sarama leaves the TLS handshake to the first request, which it then tries again and again.
	if own.Net.TLS.Enable {
		w.tls, own.Net.TLS.Enable, own.Net.TLS.Config = own.Net.TLS.Config, false, nil
	}
	return &own, w
}

// Dial implements sarama's dialer.
func (w *wires) Dial(network, addr string) (net.Conn, error) {
	raw, err := w.dialer.DialContext(w.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn, err := w.secure(raw, addr)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	c := &wire{Conn: conn, raw: raw, of: w}
	w.conns[c] = struct{}{}
	return c, nil
}

// secure makes the TLS handshake when there is to be one, within the time for connecting.
func (w *wires) secure(raw net.Conn, addr string) (net.Conn, error) {
	if w.tls == nil {
		return raw, nil
	}
	conf := w.tls
	if conf.ServerName == "" && !conf.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conf = conf.Clone()
		conf.ServerName = host
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.dialer.Timeout)
	defer cancel()
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

// cut closes every connection and lets no new one be made. It waits for nothing.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
	w.broken.Store(true)
	for c := range w.conns {
		_ = c.raw.Close() // TLS would say good-bye first, and may have to wait for that
	}
}

type wire struct {
	net.Conn
	raw net.Conn // below TLS
	of  *wires
}

func (c *wire) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.of.broken.Store(true)
	}
	return n, err
}

func (c *wire) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.of.broken.Store(true)
	}
	return n, err
}

func (c *wire) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
