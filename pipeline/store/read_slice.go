package store

import (
	"context"
	"fmt"
	"math"

	"github.com/redis/go-redis/v9"
)

// ReadSlice is readEntries for buckets [from, to) of a slice generation: buckets that fit a page together come in one
// call, at one instant, bigger ones by pages of their own. Entries are passed bucket by bucket in ascending order.
func (s *Store) ReadSlice(ctx context.Context, id LaneID, stateID string, slice SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) (Guard, error) {
	prefix := id.entryPrefix(stateID)
	extents, err := s.extents(ctx, prefix, slice, from, to)
	if err != nil {
		return Guard{}, fmt.Errorf("read slice %s of lane %s: %w", slice, id, err)
	}
	var last Guard
	for b := from; b < to; {
		n, size := 1, extents[b-from]
		for b+n < to && s.fitsPage(size.plus(extents[b+n-from])) {
			size = size.plus(extents[b+n-from])
			n++
		}
		var next Guard
		if !s.fitsPage(size) {
			next, err = s.readEntries(ctx, id, stateID, slice, b, s.scanCount(size),
				func(key, entry []byte) error { return fn(b, key, entry) })
		} else {
			next, err = s.readBuckets(ctx, id, prefix, slice, b, b+n, fn)
		}
		if err != nil {
			return next, err
		}
		if b > from && !next.Follows(last) {
			return next, fmt.Errorf("read slice %s of lane %s: %w: from %+v to %+v", slice, id, ErrLaneMoved, last, next)
		}
		last = next
		b += n
	}
	return last, nil
}

// wholeBucket as the COUNT of a scan makes one call return all entries. Unlike HGETALL a scan answers alike in every
// version of the Redis wire protocol.
const wholeBucket = math.MaxInt32

// readBuckets reads whole buckets and the guard in one transaction.
func (s *Store) readBuckets(ctx context.Context, id LaneID, prefix string, slice SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) (Guard, error) {
	tx := s.client.TxPipeline()
	head := tx.HMGet(ctx, id.metaKey(), guardFields...)
	scans := make([]*redis.ScanCmd, 0, to-from)
	for b := from; b < to; b++ {
		scans = append(scans, tx.HScan(ctx, entryKey(prefix, slice, b), 0, "", wholeBucket))
	}
	if _, err := tx.Exec(ctx); err != nil {
		return Guard{}, fmt.Errorf("read slice %s of lane %s: %w", slice, id, err)
	}
	guard, err := parseGuard(id, head.Val())
	if err != nil {
		return Guard{}, fmt.Errorf("read slice %s of lane %s: %w", slice, id, err)
	}
	for i, scan := range scans {
		fields, _ := scan.Val()
		p := fieldPage{fields: fields}
		if err := p.each(func(key, entry []byte) error { return fn(from+i, key, entry) }); err != nil {
			return guard, err
		}
	}
	return guard, nil
}
