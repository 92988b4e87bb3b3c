package model

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

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
	thawed   sync.Once
	before   func() // each call; nil for nothing
	dieAt    int    // number of a call, 0 for none
	late     bool   // that call has an effect
	freezeAt int

	// Guarded by recounting.calls.
	calls int
	dead  bool
}

func (r *recount) newRunner() *runner {
	one := &runner{r: r, frozen: make(chan struct{}), thaw: make(chan struct{})}
	one.ctx, one.stop = context.WithCancel(r.w.ctx)
	one.client = newClient(one)
	one.store = store.New(one.client)
	return one
}

func (one *runner) close() {
	one.stop()
	_ = one.client.Close()
}

// thawsAt lets the runners of the recount that are frozen go on before this one makes a call of that number, or one after it.
func (one *runner) thawsAt(call int64) {
	var calls atomic.Int64
	one.before = func() {
		if calls.Add(1) == call {
			one.r.thaw()
		}
	}
}

// goOn lets a frozen runner go on and waits for what it comes to. It may be called again, and from any goroutine.
func (one *runner) goOn() {
	one.thawed.Do(func() {
		close(one.thaw)
		err := <-one.done
		one.close()
		one.r.w.logf("a runner of %s that was frozen comes to: %v", one.r.id, err)
	})
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
		reply, err := one.execute(argsOf(cmd))
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

// execute makes a call. Nobody but the owner of a shadow's guard writes beside it; what is written without one is left at the end.
func (one *runner) execute(args []string) (reply any, err error) {
	w := one.r.w
	token, write := guarded(args)
	owner := ""
	if write {
		owner = w.redis.tag(hashTag(args)).hashes[args[3]]["owner"]
	}
	reply, twisted := one.twistCall(args)
	if !twisted {
		reply, err = w.redis.do(args)
	}
	if w.redis.unknown != "" {
		w.fail("the model's redis has no command %q", w.redis.unknown)
	}
	if applied, _ := reply.(int64); write && applied == 1 && owner != token && owner != "" {
		w.fail("a runner of recount %s with token %s writes what it has found, and %q owns the guard", one.r.id, short(token), owner)
	}
	return reply, err
}

// guarded returns the token that a command shows to a shadow's guard, if it is a write of what was found.
func guarded(args []string) (token string, ok bool) {
	if !strings.HasPrefix(args[0], "eval") || args[2] != "2" || !strings.HasSuffix(args[3], ":guard") {
		return "", false
	}
	return args[5], true
}
