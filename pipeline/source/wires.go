package source

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"

	"millrace/pipeline/credential"
)

// dialer connects to brokers, with TLS when there is to be any, within the time for connecting.
type dialer struct {
	tcp    net.Dialer
	secure *credential.Client // nil for plain TCP
}

// Dial implements sarama's dialer.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	_, conn, err := d.dial(context.Background(), network, addr)
	return conn, err
}

// dial returns the connection and what is below TLS, which may be the same.
func (d *dialer) dial(ctx context.Context, network, addr string) (raw, conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.tcp.Timeout)
	defer cancel()
	if raw, err = d.tcp.DialContext(ctx, network, addr); err != nil || d.secure == nil {
		return raw, raw, err
	}
	if conn, err = d.secure.Handshake(ctx, raw, addr); err != nil {
		_ = raw.Close()
		return nil, nil, err
	}
	return raw, conn, nil
}

// wires is the dialer behind one sarama object. sarama knows no context: what waits for a broker waits until a timeout.
// Cutting the wires ends it at once.
type wires struct {
	dialer *dialer
	ctx    context.Context // of dialling
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[*wire]struct{}

	// broken is set once a connection failed or was cut, as opposed to an answer that could not be decoded.
	broken atomic.Bool
}

// wireUp makes a copy of conf, which comes from NewConfig, whose connections go through new wires.
func wireUp(conf *sarama.Config) (*sarama.Config, *wires) {
	w := &wires{dialer: conf.Net.Proxy.Dialer.(*dialer), conns: map[*wire]struct{}{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	own := *conf
	own.Net.Proxy.Dialer = w
	return &own, w
}

// Dial implements sarama's dialer.
func (w *wires) Dial(network, addr string) (net.Conn, error) {
	raw, conn, err := w.dialer.dial(w.ctx, network, addr)
	if err != nil {
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
