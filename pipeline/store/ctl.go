package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// ReadCtl returns the closer's requests to the owners of the lanes, in the order of ids.
func (s *Store) ReadCtl(ctx context.Context, ids ...LaneID) ([]Ctl, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(ids))
	for i, id := range ids {
		cmds[i] = pipe.HMGet(ctx, id.ctlKey(), "seal_before", "drop_before")
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read requests of %d lanes: %w", len(ids), err)
	}
	ctls := make([]Ctl, len(ids))
	for i, id := range ids {
		var err error
		if ctls[i], err = parseCtl(id, cmds[i].Val()); err != nil {
			return nil, err
		}
	}
	return ctls, nil
}

// SetSeal asks the lane's owner to treat everything before `before` (ms) as late, and returns the requests then stored.
// A lower value than the stored one changes nothing. ErrRemoved: nobody owns the lane any more.
func (s *Store) SetSeal(ctx context.Context, id LaneID, before int64) (Ctl, error) {
	return s.raise(ctx, id, "seal_before", before)
}

// SetDrop asks the lane's owner to drop the slices whose last deadline is at or before `before` (ms), and returns the
// requests then stored. A lower value than the stored one changes nothing. ErrRemoved: nobody owns the lane any more.
func (s *Store) SetDrop(ctx context.Context, id LaneID, before int64) (Ctl, error) {
	return s.raise(ctx, id, "drop_before", before)
}

func (s *Store) raise(ctx context.Context, id LaneID, field string, value int64) (Ctl, error) {
	reply, err := s.run(ctx, raiseScript, []string{id.ctlKey(), id.metaKey()}, field, value)
	if err != nil {
		return Ctl{}, fmt.Errorf("set %s of lane %s: %w", field, id, err)
	}
	if _, refused := reply[0].(int64); refused {
		return Ctl{}, fmt.Errorf("set %s of lane %s: %w", field, id, ErrRemoved)
	}
	return parseCtl(id, reply)
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
	return ctl, nil
}
