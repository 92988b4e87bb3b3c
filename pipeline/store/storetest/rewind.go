package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Log returns the writes the server has executed so far, oldest first, those of one hash tag or, with "", all.
func (f *Faults) Log(tag string) []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of(tag)
}

func (f *Faults) of(tag string) []Op {
	var ops []Op
	for _, op := range f.log {
		if tag == "" || op.Tag == tag {
			ops = append(ops, op)
		}
	}
	return ops
}

// Rewind makes the server forget all writes under a hash tag but the first n, as a fail-over to a replica that had not
// received the others would: a prefix of the calls of one tag survives. With tag "" it forgets all writes but the first n
// of the server. The log forgets them too.
func (f *Faults) Rewind(ctx context.Context, tag string, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.of(tag)
	if n < 0 || n > len(kept) {
		return fmt.Errorf("rewind %q to %d of %d writes", tag, n, len(kept))
	}
	kept = kept[:n]
	if err := f.clear(ctx, tag); err != nil {
		return err
	}
	for _, op := range kept {
		if err := f.replay(ctx, op); err != nil {
			return fmt.Errorf("replay %s under %q: %w", op.Args[0], op.Tag, err)
		}
	}
	if tag == "" {
		f.log = kept
		return nil
	}
	log := f.log[:0]
	for _, op := range f.log {
		if op.Tag != tag {
			log = append(log, op)
		} else if n > 0 {
			log = append(log, op)
			n--
		}
	}
	f.log = log
	return nil
}

// replay executes a recorded write again, by its source when the server has forgotten the script.
func (f *Faults) replay(ctx context.Context, op Op) error {
	args := make([]any, len(op.Args))
	for i, arg := range op.Args {
		args[i] = arg
	}
	err := f.raw.Do(ctx, args...).Err()
	if source, ok := f.sources[op.Args[1]]; ok && redis.HasErrorPrefix(err, "NOSCRIPT") {
		args[0], args[1] = "eval", source
		err = f.raw.Do(ctx, args...).Err()
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

func (f *Faults) clear(ctx context.Context, tag string) error {
	if tag == "" {
		return f.raw.FlushDB(ctx).Err()
	}
	keys, err := f.raw.Keys(ctx, "*{"+tag+"}*").Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	return f.raw.Unlink(ctx, keys...).Err()
}

func newOp(cmd redis.Cmder) Op {
	args := cmd.Args()
	op := Op{Args: make([]string, len(args))}
	for i, arg := range args {
		op.Args[i] = text(arg)
	}
	op.Args[0] = strings.ToLower(op.Args[0])
	op.Tag = hashTag(op.Args)
	return op
}

// hashTag returns what stands in braces in the first key of the command.
func hashTag(args []string) string {
	key := 1
	switch args[0] {
	case "eval", "evalsha", "eval_ro", "evalsha_ro":
		key = 3
	}
	if key >= len(args) {
		return ""
	}
	_, rest, found := strings.Cut(args[key], "{")
	tag, _, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return ""
	}
	return tag
}

// text writes an argument as go-redis would.
func text(arg any) string {
	switch v := arg.(type) {
	case nil:
		return ""
	case string:
		return v
	case *string:
		return *v
	case []byte:
		return string(v)
	case *int64:
		return strconv.FormatInt(*v, 10)
	case bool:
		if v {
			return "1"
		}
		return "0"
	default:
		return fmt.Sprint(v)
	}
}
