package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// scriptAttempts bounds how often one Apply sends a script's source because the server does not know it.
const scriptAttempts = 3

// Apply sends calls, chained to each other, as pipelines of bounded size. It returns how many of them are known to be
// applied, counted from the first, whatever err is.
//
// ErrFenced, ErrLostWrites (with ErrPartialLoss or without), ErrNoMeta and ErrNotSealed are final:
// the call after the applied ones had no effect, nor had any later one. Any other error says
// nothing about the calls after the applied ones: send all of them again, or those not applied;
// what was applied already is acknowledged without effect.
//
// Durability is that of the server: an acknowledged call may be forgotten in a fail-over, which the next call notices.
func (s *Store) Apply(ctx context.Context, id LaneID, stateID string, owner Token, calls []Call) (applied int, err error) {
	if err := checkCalls(calls); err != nil {
		return 0, fmt.Errorf("commit to lane %s: %w", id, err)
	}
	enc := newEncoder(id, stateID, owner)
	defer enc.release()
	withSource, misses := false, 0
	for applied < len(calls) {
		n, status, detail, err := s.send(ctx, enc, calls[applied:], withSource)
		applied += n
		withSource = redis.HasErrorPrefix(err, "NOSCRIPT") && misses < scriptAttempts
		switch {
		case withSource:
			misses++
		case err != nil:
			return applied, fmt.Errorf("commit to lane %s: %w", id, err)
		case status == statusApplied:
		case status == statusLost && n > 0:
			// It may have overtaken the call before it on another connection (a Cluster redirection). What counts is
			// the answer it gets after that one is acknowledged.
		default:
			return applied, fmt.Errorf("commit to lane %s at %s: %w", id, calls[applied].Next, statusError(status, detail))
		}
	}
	return applied, nil
}

func checkCalls(calls []Call) error {
	for i := range calls {
		c := &calls[i]
		paged := c.Format == PageFormat
		switch {
		case c.Buckets < 1 && (paged || len(c.Drop)+len(c.Purge) > 0):
			return fmt.Errorf("call %s: buckets is %d, want at least 1", c.Next, c.Buckets)
		case paged && len(c.Writes) > 0:
			return fmt.Errorf("call %s has fields, and is of the format of pages", c.Next)
		case paged && c.Meta != nil && !c.Meta.Balance.Known:
			return fmt.Errorf("call %s has no balance, and is of the format of pages", c.Next)
		case !paged && len(c.Pages)+len(c.Delete)+len(c.Unfield) > 0:
			return fmt.Errorf("call %s has pages, and is of the format of fields", c.Next)
		}
	}
	return nil
}

// send encodes as many calls as fit one pipeline and sends them; the first by its source if withSource. It returns how
// many were applied and the status, or the error, of the first that was not.
func (s *Store) send(ctx context.Context, enc *encoder, calls []Call, withSource bool) (n int, status int64, detail string, err error) {
	enc.reset()
	pipe := s.client.Pipeline()
	for i := range calls {
		if i > 0 && enc.bytes >= s.pipelineBytes {
			break
		}
		cmd := redis.NewCmd(ctx, enc.call(&calls[i], withSource && i == 0)...)
		cmd.SetFirstKeyPos(3)
		if err := pipe.Process(ctx, cmd); err != nil {
			return 0, 0, "", err
		}
	}
	cmds, err := pipe.Exec(ctx)
	for _, cmd := range cmds {
		status, detail, err := callStatus(cmd)
		if err != nil || status < 0 {
			return n, status, detail, err
		}
		n++
	}
	if n == 0 {
		return 0, 0, "", err
	}
	return n, statusApplied, "", nil
}

// callStatus reads the reply of applyScript. A repeated call counts as applied.
func callStatus(cmd redis.Cmder) (status int64, detail string, err error) {
	reply, err := cmd.(*redis.Cmd).Result()
	if err != nil {
		return 0, "", err
	}
	switch v := reply.(type) {
	case int64:
		return statusApplied, "", nil
	case []any:
		status, err = replyInt(v, 0)
		return status, replyString(v, 1), err
	default:
		return 0, "", fmt.Errorf("%w: reply %T", ErrCorrupt, v)
	}
}

func statusError(status int64, detail string) error {
	switch status {
	case statusFenced:
		return fmt.Errorf("%w: %s", ErrFenced, detail)
	case statusLost:
		return fmt.Errorf("%w: it stands at %s", ErrLostWrites, detail)
	case statusPartial:
		return fmt.Errorf("%w: %w: %s", ErrLostWrites, ErrPartialLoss, detail)
	case statusNoMeta:
		return ErrNoMeta
	case statusNotSealed:
		return fmt.Errorf("%w: %s", ErrNotSealed, detail)
	default:
		return fmt.Errorf("%w: status %d", ErrCorrupt, status)
	}
}
