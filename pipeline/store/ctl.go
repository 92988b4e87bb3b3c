package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ReadCtl returns the closer's requests to the owners of the lanes, in the order of ids.
func (s *Store) ReadCtl(ctx context.Context, ids ...LaneID) ([]Ctl, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	values, err := s.fieldsOfLanes(ctx, ids, LaneID.ctlKey, ctlFields)
	if err != nil {
		return nil, fmt.Errorf("read requests of %d lanes: %w", len(ids), err)
	}
	ctls := make([]Ctl, len(ids))
	for i, id := range ids {
		if ctls[i], err = parseCtl(id, values[i]); err != nil {
			return nil, err
		}
	}
	return ctls, nil
}

// fieldsOfLanes reads the same fields of a hash of each lane in one call, each as of its own moment.
func (s *Store) fieldsOfLanes(ctx context.Context, ids []LaneID, key func(LaneID) string, fields []string) ([][]any, error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		cmds[i] = pipe.HMGet(ctx, key(id), fields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	values := make([][]any, len(ids))
	for i, cmd := range cmds {
		values[i] = cmd.Val()
	}
	return values, nil
}

// ctlFields are the requests in the order that parseCtl reads them in.
var ctlFields = []string{"seal_before", "drop_before", "rewrite"}

// SetSeal asks the lane's owner to treat everything before `before` (ms) as late, and returns the requests then stored.
// A lower value than the stored one changes nothing. ErrLaneMoved: the lane has another owner than the given one, "" for a
// lane that nobody has begun; what was asked of one owner is not for the next one, who may belong to another incarnation
// of the pipeline. ErrRemoved: nobody owns it any more.
func (s *Store) SetSeal(ctx context.Context, id LaneID, owner Token, before int64) (Ctl, error) {
	return s.raise(ctx, id, owner, "seal_before", before)
}

// SetDrop asks the lane's owner to drop the slices whose last deadline is at or before `before` (ms), and returns the
// requests then stored. A lower value than the stored one changes nothing. Errors as for SetSeal.
func (s *Store) SetDrop(ctx context.Context, id LaneID, owner Token, before int64) (Ctl, error) {
	return s.raise(ctx, id, owner, "drop_before", before)
}

func (s *Store) raise(ctx context.Context, id LaneID, owner Token, field string, value int64) (Ctl, error) {
	reply, err := s.run(ctx, raiseScript, []string{id.ctlKey(), id.metaKey()}, field, value, string(owner))
	if err != nil {
		return Ctl{}, fmt.Errorf("set %s of lane %s: %w", field, id, err)
	}
	if len(reply) == 2 {
		err := ErrLaneMoved
		if Token(replyString(reply, 1)).Removed() {
			err = ErrRemoved
		}
		return Ctl{}, fmt.Errorf("set %s of lane %s: %w", field, id, err)
	}
	return parseCtl(id, reply)
}

// AskRewrite asks the lane's owner to write all its entries again, because they did not add up at commit seq of its chain.
// The latest request replaces any other; one to an owner who has lost the lane is not written, and a lane passes over what
// it has done since.
func (s *Store) AskRewrite(ctx context.Context, id LaneID, owner Token, seq int64) error {
	text := string(owner) + " " + strconv.FormatInt(seq, 10)
	_, err := s.run(ctx, askScript, []string{id.ctlKey(), id.metaKey()}, string(owner), text)
	if err != nil {
		return fmt.Errorf("ask lane %s to write its entries again: %w", id, err)
	}
	return nil
}

func parseCtl(id LaneID, values []any) (Ctl, error) {
	ctl := Ctl{SealBefore: NoTime, DropBefore: NoTime}
	for i, field := range []*int64{&ctl.SealBefore, &ctl.DropBefore} {
		text := replyString(values, i)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Ctl{}, fmt.Errorf("%s: %w: %q", id.ctlKey(), ErrCorrupt, text)
		}
		*field = n
	}
	if text := replyString(values, len(ctlFields)-1); text != "" {
		owner, seq, _ := strings.Cut(text, " ")
		n, err := strconv.ParseInt(seq, 10, 64)
		if err != nil {
			return Ctl{}, fmt.Errorf("%s: %w: rewrite is %q", id.ctlKey(), ErrCorrupt, text)
		}
		ctl.Rewrite = Rewrite{Owner: Token(owner), Seq: n}
	}
	return ctl, nil
}
