package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// extent is how much a bucket holds. The bytes are the server's own estimate, from a sample of the entries; 0 when it does
// not give one.
type extent struct {
	entries int
	bytes   int64
}

func (e extent) plus(other extent) extent {
	return extent{e.entries + other.entries, e.bytes + other.bytes}
}

// fitsPage reports whether so much may be read in one call. Entries alone do not say: 600 of 600 kB in one answer take
// longer than any timeout.
func (s *Store) fitsPage(e extent) bool {
	return e.entries <= s.pageEntries && e.bytes <= s.pageBytes
}

// scanCount is how many entries of a bucket to ask for at a time.
func (s *Store) scanCount(e extent) int64 {
	count := int64(s.pageEntries)
	if e.bytes > 0 && e.entries > 0 {
		count = min(count, max(1, int64(float64(s.pageBytes)*float64(e.entries)/float64(e.bytes))))
	}
	return count
}

// extents asks for the extents of buckets [from, to) of a slice generation.
func (s *Store) extents(ctx context.Context, prefix string, slice SliceID, from, to int) ([]extent, error) {
	pipe := s.client.Pipeline()
	lengths, usages := make([]*redis.IntCmd, 0, to-from), make([]*redis.IntCmd, 0, to-from)
	for b := from; b < to; b++ {
		key := entryKey(prefix, slice, b)
		lengths = append(lengths, pipe.HLen(ctx, key))
		usages = append(usages, pipe.MemoryUsage(ctx, key))
	}
	_, _ = pipe.Exec(ctx) // the error of the first command that failed; each is looked at below
	all := make([]extent, to-from)
	for i := range all {
		if err := lengths[i].Err(); err != nil {
			return nil, err
		}
		all[i].entries = int(lengths[i].Val())
		var refused redis.Error // a bucket that is not there, or a user who may not ask
		if err := usages[i].Err(); err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		all[i].bytes = usages[i].Val()
	}
	return all, nil
}
