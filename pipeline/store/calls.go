package store

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/pipeline/measure"
)

// scripts names the scripts by their hashes, for the metric of calls.
var scripts sync.Map

// named gives a script its name.
func named(name string, script *redis.Script) *redis.Script {
	scripts.Store(script.Hash(), name)
	return script
}

// callsHook counts calls to Redis. A pipeline or a transaction is one call, under the name of its first command.
type callsHook struct {
	to *measure.Server
}

// DialHook counts connecting.
func (h callsHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		began := time.Now()
		conn, err := next(ctx, network, addr)
		h.count("connect", began, err)
		return conn, err
	}
}

// ProcessHook counts a single command.
func (h callsHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.count(operationOf(cmd), began, err)
		return err
	}
}

// ProcessPipelineHook counts a pipeline or a transaction.
func (h callsHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		operation := "pipeline"
		for _, cmd := range cmds {
			if name := operationOf(cmd); name != "multi" {
				operation = name
				break
			}
		}
		h.count(operation, began, err)
		return err
	}
}

// count counts a call. What its caller has given up says nothing about Redis.
func (h callsHook) count(operation string, began time.Time, err error) {
	if !errors.Is(err, context.Canceled) {
		h.to.Done(operation, outcomeOf(err), time.Since(began))
	}
}

// operationOf names a command: a script by what it is called here, any other by its name. Both are few: they stand in the code.
func operationOf(cmd redis.Cmder) string {
	name := cmd.Name()
	args := cmd.Args()
	if !strings.HasPrefix(name, "eval") || len(args) < 2 {
		return name
	}
	hash, _ := args[1].(string)
	if !strings.HasPrefix(name, "evalsha") {
		hash = redis.NewScript(hash).Hash()
	}
	if script, ok := scripts.Load(hash); ok {
		return script.(string)
	}
	return "script"
}

// outcomeOf says what became of a call. That a script or a key is not there is an answer like any other.
func outcomeOf(err error) measure.Outcome {
	var refusal *RefusalError
	var timeout net.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOSCRIPT"):
		return measure.OK
	case errors.As(explained(err), &refusal):
		return measure.Refused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return measure.Timeout
	}
	return measure.Failed
}
