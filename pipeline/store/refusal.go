package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// RefusalError is an answer by which Redis refuses to write, or to serve at all, for a reason that an operator can mend. It is
// no decision of the protocol: the same call may be accepted later.
type RefusalError struct {
	Code string // the first word of the answer, such as READONLY
	Err  error  // the answer
}

// refusals says for every code what it means and what to do.
var refusals = map[string]string{
	"READONLY":    "the server is a read-only replica; point the workers at the primary, or promote this server (REPLICAOF NO ONE)",
	"OOM":         "the server's memory is full (maxmemory reached, nothing may be evicted); raise maxmemory, or remove what is not needed",
	"MISCONF":     "the server cannot save to its disk; free disk space and mend its persistence (see its log)",
	"NOREPLICAS":  "the primary has fewer replicas than min-replicas-to-write; bring the replicas back, or lower it",
	"LOADING":     "the server still loads its data; it takes writes when it has",
	"CLUSTERDOWN": "the Cluster does not serve all slots; bring the missing primaries back (CLUSTER INFO)",
	"TRYAGAIN":    "keys of the slot are moving to another node of the Cluster; it takes the call when the move is over",
	"MASTERDOWN":  "the server is a replica whose primary is away; point the workers at the new primary",
	"NOPERM":      "the user may not run a command that is needed; grant it (ACL SETUSER)",
	"NOAUTH":      "the server wants a password; give the workers one",
	"WRONGPASS":   "the server does not know this user and password; correct them",
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("redis refuses with %s: %s (%v)", e.Code, refusals[e.Code], e.Err)
}

func (e *RefusalError) Unwrap() error { return e.Err }

// explained returns err as a RefusalError if it is an answer of that kind, and otherwise err itself, in one line.
func explained(err error) error {
	var already *RefusalError
	if err == nil || errors.As(err, &already) {
		return err
	}
	if strings.Contains(err.Error(), "\n") {
		err = lineError{err}
	}
	for code := range refusals {
		if redis.HasErrorPrefix(err, code+" ") {
			return &RefusalError{Code: code, Err: err}
		}
	}
	return err
}

// lineError is an error whose text takes one line: what several sentinels say comes in one each.
type lineError struct{ error }

func (e lineError) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "; ") }

func (e lineError) Unwrap() error { return e.error }

// refusalHook makes every answer of that kind a RefusalError, whichever command it answers.
type refusalHook struct{}

// DialHook returns next: a connection that cannot be made says so itself.
func (refusalHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook explains the answer to a single command.
func (refusalHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil {
			err = explained(err)
			cmd.SetErr(err)
		}
		return err
	}
}

// ProcessPipelineHook explains the answers to the commands of a pipeline or transaction. To EXEC the server answers no more than
// EXECABORT; why is in its answer to the command that it did not queue.
func (refusalHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err == nil {
			return nil
		}
		var first error
		for _, cmd := range cmds {
			failed := cmd.Err()
			if failed == nil {
				continue
			}
			cmd.SetErr(explained(failed))
			if first == nil && !redis.IsExecAbortError(failed) {
				first = cmd.Err()
			}
		}
		if redis.IsExecAbortError(err) && first != nil {
			return first
		}
		return explained(err)
	}
}

// NoSentinel reports whether err says that none of the sentinels named the primary: they did not answer, or refused.
func NoSentinel(err error) bool {
	return strings.Contains(err.Error(), "all sentinels specified in configuration are unreachable")
}

// NoSuchMaster reports whether err says that the sentinels answer and know no primary of that name.
func NoSuchMaster(err error) bool { return strings.Contains(err.Error(), redis.Nil.Error()) }
