package source

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
)

// wires is the dialer behind one sarama object. sarama knows no context: what waits for a broker waits until a timeout.
// Cutting the wires ends it at once.
type wires struct {
	dialer net.Dialer
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
	return &own, w
}

// Dial implements sarama's dialer.
func (w *wires) Dial(network, addr string) (net.Conn, error) {
	conn, err := w.dialer.DialContext(w.ctx, network, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c := &wire{Conn: conn, of: w}
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
		_ = c.Conn.Close()
	}
}

type wire struct {
	net.Conn
	of *wires
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
