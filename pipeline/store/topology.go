package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// topologyHook makes the client of a Redis Cluster ask anew which node serves which slots when a node does not answer. By itself
// the client asks when it is redirected, which a dead primary cannot do, and otherwise only once a minute: it would call the
// dead one long after a replica has taken over.
type topologyHook struct{ cluster *redis.ClusterClient }

// DialHook returns next: the outcome of a dial is that of the command it was for.
func (topologyHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook looks at the outcome of a single command.
func (h topologyHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		h.reloadAfter(ctx, err)
		return err
	}
}

// ProcessPipelineHook looks at the outcome of a pipeline or transaction.
func (h topologyHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		h.reloadAfter(ctx, err)
		return err
	}
}

// reloadAfter asks for the topology, beside the caller, unless err is nil or a server's answer.
func (h topologyHook) reloadAfter(ctx context.Context, err error) {
	var answer redis.Error
	if err == nil || errors.As(err, &answer) || errors.Is(err, context.Canceled) {
		return
	}
	h.cluster.ReloadState(ctx)
}
