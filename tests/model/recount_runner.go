package model

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"millrace/pipeline/store"
)

// runner is a process that runs or ends a shadow. It may die at a call, which has an effect or has none, or freeze at one.
type runner struct {
	r        *recount
	ctx      context.Context
	stop     context.CancelFunc
	client   *redis.Client
	store    *store.Store
	done     chan error // what it comes to, when it was frozen
	frozen   chan struct{}
	thaw     chan struct{}
	before   func() // each call; nil for nothing
	dieAt    int    // number of a call, 0 for none
	late     bool   // that call has an effect
	freezeAt int

	calls  int // guarded by recounting.calls, as dead
	dead   bool
	thawed bool // the world's alone
}

func (r *recount) newRunner() *runner {
	one := &runner{r: r, frozen: make(chan struct{}), thaw: make(chan struct{})}
	one.ctx, one.stop = context.WithCancel(r.w.ctx)
	one.client = redis.NewClient(&redis.Options{Addr: "in.memory:0", MaxRetries: -1})
	one.client.AddHook(one)
	one.store = store.New(one.client)
	return one
}

func (one *runner) close() {
	one.stop()
	_ = one.client.Close()
}

// goOn lets a frozen runner go on and waits for what it comes to.
func (one *runner) goOn() {
	if one.thawed {
		return
	}
	one.thawed = true
	close(one.thaw)
	err := <-one.done
	one.close()
	one.r.w.logf("a runner of %s that was frozen comes to: %v", one.r.id, err)
}

// do makes calls of which nothing comes in between.
func (one *runner) do(all ...redis.Cmder) (first error) {
	if one.before != nil {
		one.before()
	}
	calls := &one.r.calls
	calls.Lock()
	defer calls.Unlock()
	one.calls++
	if n := one.calls; one.freezeAt > 0 && n >= one.freezeAt {
		calls.Unlock()
		if n == one.freezeAt {
			close(one.frozen)
		}
		<-one.thaw
		calls.Lock()
	}
	if one.dead {
		return errCrashed
	}
	if one.calls == one.dieAt {
		one.dead = true
		one.stop()
		if !one.late {
			return errCrashed
		}
	}
	for _, cmd := range all {
		args := argsOf(cmd)
		var err error
		reply := one.twistCall(args)
		if reply == nil {
			reply, err = one.r.w.redis.do(args)
		}
		if one.r.w.redis.unknown != "" {
			one.r.w.fail("the model's redis has no command %q", one.r.w.redis.unknown)
		}
		if err := answer(cmd, reply, err); err != nil && first == nil {
			first = err
		}
	}
	if one.dead {
		return errCrashed
	}
	return first
}

// DialHook implements redis.Hook.
func (one *runner) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (one *runner) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		err := one.do(cmd)
		cmd.SetErr(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (one *runner) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		if n := len(cmds); cmds[0].Name() == "multi" && n > 2 {
			return one.do(cmds[1 : n-1]...)
		}
		var first error
		for _, cmd := range cmds {
			if err := one.do(cmd); err != nil {
				if cmd.SetErr(err); first == nil {
					first = err
				}
			}
		}
		return first
	}
}

// twistCall does what the rule that is off would have prevented; nil lets the call be made.
func (one *runner) twistCall(args []string) any {
	if one.r.w.is(endFences) && strings.HasPrefix(args[0], "evalsha") && slices.ContainsFunc(args[3:], func(a string) bool {
		return strings.HasPrefix(a, "removed:")
	}) {
		return int64(1)
	}
	return nil
}
