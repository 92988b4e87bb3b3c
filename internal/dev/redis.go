package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// RedisConfig says how the embedded Redis runs. The zero value is a server on a free port that forgets everything at Close.
type RedisConfig struct {
	// DataDir keeps all keys from a Close to the next start. They live in memory meanwhile: a process that crashes leaves
	// an empty Redis behind, and a pipeline re-reads its input, as after the loss of a real one. Empty means memory only.
	// One process at a time may use a directory.
	DataDir string
	// Port to listen on at 127.0.0.1; 0 takes a free one.
	Port int
}

// Redis is a running embedded Redis. Its methods may be called from any goroutine.
type Redis struct {
	mini    *miniredis.Miniredis
	addr    string
	dir     string
	release func() error
	stop    chan struct{} // ends age
	clock   sync.WaitGroup
	once    sync.Once
	err     error
}

// StartRedis starts the server and returns when it accepts connections. ctx bounds the start only.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	r, err := startRedis(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	return r, nil
}

func startRedis(ctx context.Context, cfg RedisConfig) (_ *Redis, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	release, err := lockDir(ctx, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	mini := miniredis.NewMiniRedis()
	defer func() {
		if err != nil {
			mini.Close()
			err = errors.Join(err, release())
		}
	}()
	if cfg.DataDir != "" {
		if err := loadSnapshot(mini, cfg.DataDir); err != nil {
			return nil, err
		}
	}
	if err := mini.StartAddr(net.JoinHostPort(loopback, strconv.Itoa(cfg.Port))); err != nil {
		return nil, portError("Redis", cfg.Port, err)
	}
	if err := addCommands(mini.Server()); err != nil {
		return nil, err
	}
	if cfg.DataDir != "" {
		if err := dropSnapshot(cfg.DataDir); err != nil {
			return nil, err
		}
	}
	r := &Redis{mini: mini, addr: mini.Addr(), dir: cfg.DataDir, release: release, stop: make(chan struct{})}
	r.clock.Go(r.age)
	return r, nil
}

// expiry is how exact the lifetimes of keys are.
const expiry = time.Second

// age lets keys expire: miniredis is made for tests that move the clock themselves. Its ClockTTL option would do it too, but
// looks at every key at every command.
func (r *Redis) age() {
	tick := time.NewTicker(expiry)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case now := <-tick.C:
			r.mini.FastForward(now.Sub(last))
			last = now
		case <-r.stop:
			return
		}
	}
}

// Addr is the server's address, host:port.
func (r *Redis) Addr() string { return r.addr }

// Close stops the server and keeps its keys in the data directory. Calling it again returns the first answer.
func (r *Redis) Close() error {
	r.once.Do(func() {
		close(r.stop)
		r.clock.Wait()
		r.mini.Close()
		if r.dir != "" {
			if err := saveSnapshot(r.mini, r.dir); err != nil {
				r.err = fmt.Errorf("keep the embedded Redis' keys: %w", err)
			}
		}
		r.err = errors.Join(r.err, r.release())
	})
	return r.err
}
