package storetest

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ErrInjected is what a caller gets for a command that was made to fail. Like an error of the network it says nothing
// about what the server did.
var ErrInjected = errors.New("injected fault")

// Outcome is what becomes of a command. In a pipeline the commands before it are not touched.
type Outcome int

const (
	// Pass lets the command through.
	Pass Outcome = iota
	// FailBefore fails the command and those behind it in the pipeline; the server sees none of them.
	FailBefore
	// FailAfter lets the server execute the command, loses its answer, and fails those behind it unexecuted.
	FailAfter
	// LoseReplies lets the server execute the command and those behind it, and loses all these answers.
	LoseReplies
)

// Op is a command on its way to the server.
type Op struct {
	N     int      // running number of the command among all seen, from 0
	Tag   string   // hash tag of its key, "" if it has none
	Args  []string // name (lower case) and arguments
	Index int      // place in its pipeline, 0 for a single command
}

// Write reports whether the command may change anything.
func (op Op) Write() bool { return !readOnly[op.Args[0]] }

// Faults is a go-redis hook. All commands of all clients that carry it run one after the other, so that the log of what
// the server executed has one order. Add it to any number of clients; it is safe for concurrent use.
type Faults struct {
	raw redis.UniversalClient

	mu   sync.Mutex
	plan func(Op) Outcome
	gate func(context.Context, Op)
	seen int
	log  []Op

	sources map[string]string // of the scripts seen, by hash
}

var _ redis.Hook = (*Faults)(nil)

// NewFaults returns a hook that passes everything through and records it. raw is a client of the same server without the
// hook; Rewind works with it.
func NewFaults(raw redis.UniversalClient) *Faults {
	return &Faults{raw: raw, sources: make(map[string]string)}
}

// Plan sets what decides the outcome of each command from now on; nil passes everything. It is called under the hook's
// lock, in the order of execution, and must not use the client.
func (f *Faults) Plan(plan func(Op) Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = plan
}

// Gate sets a function that every command passes before it is ordered among the others (Op.N is not set yet), in which
// it may be held back as long as wanted; nil holds nothing back. A pipeline passes once, as its first command.
func (f *Faults) Gate(gate func(context.Context, Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// DialHook implements redis.Hook.
func (f *Faults) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (f *Faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if internal(cmd) {
			return next(ctx, cmd)
		}
		f.pass(ctx, cmd)
		f.mu.Lock()
		defer f.mu.Unlock()
		op, outcome := f.decide(cmd, 0)
		if outcome == FailBefore {
			return fail(cmd)
		}
		err := next(ctx, cmd)
		f.record(op, err)
		if outcome != Pass {
			return fail(cmd)
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (f *Faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 || internal(cmds[0]) {
			return next(ctx, cmds)
		}
		f.pass(ctx, cmds[0])
		f.mu.Lock()
		defer f.mu.Unlock()
		if op := newOp(cmds[0]); op.Args[0] == "multi" {
			return f.transaction(ctx, next, cmds)
		}
		var first error
		lost, broken := false, false
		for i, cmd := range cmds {
			if broken {
				fail(cmd)
				continue
			}
			op, outcome := f.decide(cmd, i)
			lost = lost || outcome == LoseReplies
			broken = outcome == FailBefore || outcome == FailAfter
			if outcome == FailBefore {
				first = errors.Join(first, fail(cmd))
				continue
			}
			err := next(ctx, []redis.Cmder{cmd})
			f.record(op, err)
			if lost || outcome == FailAfter {
				err = fail(cmd)
			}
			if first == nil {
				first = err
			}
		}
		return first
	}
}

// transaction treats MULTI ... EXEC as the one command that it is for the server. Its first command stands for it.
func (f *Faults) transaction(ctx context.Context, next redis.ProcessPipelineHook, cmds []redis.Cmder) error {
	inner := cmds[1 : len(cmds)-1]
	_, outcome := f.decide(inner[0], 0)
	var err error
	if outcome != FailBefore {
		err = next(ctx, cmds)
		for _, cmd := range inner {
			f.record(newOp(cmd), err)
		}
	}
	if outcome != Pass {
		for _, cmd := range cmds {
			err = fail(cmd)
		}
	}
	return err
}

func (f *Faults) pass(ctx context.Context, cmd redis.Cmder) {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		gate(ctx, newOp(cmd))
	}
}

func (f *Faults) decide(cmd redis.Cmder, index int) (Op, Outcome) {
	op := newOp(cmd)
	op.N, op.Index = f.seen, index
	f.seen++
	if f.plan == nil {
		return op, Pass
	}
	return op, f.plan(op)
}

// record notes a write that the server executed.
func (f *Faults) record(op Op, err error) {
	if err != nil && !errors.Is(err, redis.Nil) {
		return
	}
	if op.Args[0] == "eval" {
		sum := sha1.Sum([]byte(op.Args[1]))
		f.sources[hex.EncodeToString(sum[:])] = op.Args[1]
	}
	if op.Write() {
		f.log = append(f.log, op)
	}
}

func fail(cmd redis.Cmder) error {
	cmd.SetErr(ErrInjected)
	return ErrInjected
}

// internal reports whether the client sends the command on its own account, such as in the middle of another command for
// which it opens a connection.
func internal(cmd redis.Cmder) bool {
	switch strings.ToLower(cmd.Name()) {
	case "hello", "auth", "client", "select", "readonly", "cluster", "command", "ping", "info":
		return true
	}
	return false
}

var readOnly = map[string]bool{
	"hello": true, "auth": true, "client": true, "select": true, "readonly": true, "cluster": true, "command": true,
	"ping": true, "info": true, "time": true, "script": true, "evalsha_ro": true, "eval_ro": true,
	"get": true, "mget": true, "exists": true, "ttl": true, "pttl": true, "type": true, "keys": true, "scan": true, "dbsize": true,
	"hget": true, "hmget": true, "hgetall": true, "hlen": true, "hexists": true, "hscan": true, "memory": true,
	"zscore": true, "zcard": true, "zrange": true,
}
