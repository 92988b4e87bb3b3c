package source

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/IBM/sarama"
)

// link is one connection of our own to one broker. sarama holds a broker's lock while it waits for an answer, so a
// shared connection makes everybody wait for the slowest. A link that failed or was cut is useless: dial another.
type link struct {
	broker *sarama.Broker
	wires  *wires
}

// dial connects, authenticates and asks for the broker's versions. It waits no longer than ctx.
func dial(ctx context.Context, conf *sarama.Config, addr string) (*link, error) {
	own, wires := wireUp(conf)
	l := &link{broker: sarama.NewBroker(addr), wires: wires}
	stop := context.AfterFunc(ctx, wires.cut)
	err := l.broker.Open(own)
	if err == nil {
		var connected bool
		connected, err = l.broker.Connected() // waits
		if err == nil && connected && stop() {
			return l, nil
		}
	}
	stop()
	l.close()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil:
		err = sarama.ErrNotConnected
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op != "remote error" { // its text repeats the address
		err = op.Err
	}
	return nil, fmt.Errorf("connect to %s: %w", addr, err)
}

// do runs one request and cuts the connection when ctx ends first.
func (l *link) do(ctx context.Context, request func(*sarama.Broker) error) error {
	stop := context.AfterFunc(ctx, l.wires.cut)
	err := request(l.broker)
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (l *link) broken() bool { return l.wires.broken.Load() }

// close cuts the connection and returns when nothing of it runs any more.
func (l *link) close() {
	l.wires.cut()
	_ = l.broker.Close() // says that the connection was closed before, or never made
}
