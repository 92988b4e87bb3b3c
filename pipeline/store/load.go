package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// loadAhead is how many pages are under way while one is being taken in.
const loadAhead = 2

// Load passes every entry of several slice generations to fn, slice by slice in their order, for a lane that is being
// restored: nothing writes there meanwhile. fn may see an entry twice, it must then be the same; sizes says how many
// different ones each slice has, so that the caller can tell whether it got all of them. The next pages are read while fn
// works. key and entry are valid only during the call. Errors as for ReadSlice.
func (s *Store) Load(ctx context.Context, id LaneID, stateID string, slices []SliceID, buckets int,
	fn func(slice int, key, entry []byte) error) (sizes []int, guard Guard, err error) {
	ctx, cancel := context.WithCancel(ctx)
	pages := make(chan load, loadAhead)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(pages)
		if err := s.loads(ctx, id, stateID, slices, buckets, pages); err != nil {
			select {
			case pages <- load{err: err}:
			case <-ctx.Done():
			}
		}
	}()
	defer func() { cancel(); <-done }()
	sizes = make([]int, len(slices))
	first := true
	for p := range pages {
		if p.err != nil {
			return nil, guard, fmt.Errorf("load lane %s: %w", id, p.err)
		}
		if !first && !p.guard.Follows(guard) {
			return nil, p.guard, fmt.Errorf("load lane %s: %w: from %+v to %+v", id, ErrLaneMoved, guard, p.guard)
		}
		guard, first = p.guard, false
		for i, part := range p.parts {
			fields := p.scans[i].fields()
			for j := 0; j+1 < len(fields); j += 2 {
				if err := fn(part.slice, bytesOf(fields[j]), bytesOf(fields[j+1])); err != nil {
					return nil, guard, err
				}
			}
			if part.counted {
				sizes[part.slice] += part.extent.entries
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, guard, err
	}
	return sizes, guard, nil
}

// load is what one call brought: whole buckets, or a page of a big one.
type load struct {
	guard Guard
	parts []part
	scans []scan
	err   error
}

// part is one bucket of a load.
type part struct {
	slice   int
	extent  extent
	key     string
	counted bool // its entries count here, not at another page of the same bucket
}

type scan struct{ cmd *redis.ScanCmd }

func (s scan) fields() []string {
	fields, _ := s.cmd.Val()
	return fields
}

// loads sends all pages, in order.
func (s *Store) loads(ctx context.Context, id LaneID, stateID string, slices []SliceID, buckets int, out chan<- load) error {
	all, err := s.parts(ctx, id.entryPrefix(stateID), slices, buckets)
	if err != nil {
		return err
	}
	send := func(l load) error {
		select {
		case out <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for len(all) > 0 {
		n, size := 1, all[0].extent
		for n < len(all) && s.fitsPage(size.plus(all[n].extent)) {
			size = size.plus(all[n].extent)
			n++
		}
		if s.fitsPage(size) {
			l, _, err := s.loadPage(ctx, id, all[:n], 0, wholeBucket)
			if err != nil {
				return err
			}
			if err := send(l); err != nil {
				return err
			}
			all = all[n:]
			continue
		}
		big := all[:1:1]
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			var l load
			if l, cursor, err = s.loadPage(ctx, id, big, cursor, s.scanCount(size)); err != nil {
				return err
			}
			if err := send(l); err != nil {
				return err
			}
			big = []part{{slice: big[0].slice, key: big[0].key}} // its size counted with the first page
		}
		all = all[1:]
	}
	return nil
}

// parts lists the buckets that hold anything, with their sizes.
func (s *Store) parts(ctx context.Context, prefix string, slices []SliceID, buckets int) ([]part, error) {
	var all []part
	for i, slice := range slices {
		extents, err := s.extents(ctx, prefix, slice, 0, buckets)
		if err != nil {
			return nil, err
		}
		for b, size := range extents {
			if size.entries > 0 {
				all = append(all, part{slice: i, extent: size, key: entryKey(prefix, slice, b), counted: true})
			}
		}
	}
	return all, nil
}

// loadPage reads buckets from a scan cursor on, together with the guard.
func (s *Store) loadPage(ctx context.Context, id LaneID, parts []part, cursor uint64, count int64) (load, uint64, error) {
	tx := s.client.TxPipeline()
	head := tx.HMGet(ctx, id.metaKey(), guardFields...)
	l := load{parts: parts, scans: make([]scan, len(parts))}
	for i := range parts {
		l.scans[i].cmd = tx.HScan(ctx, parts[i].key, cursor, "", count)
	}
	if _, err := tx.Exec(ctx); err != nil {
		return l, 0, err
	}
	var err error
	if l.guard, err = parseGuard(id, head.Val()); err != nil {
		return l, 0, err
	}
	_, next := l.scans[len(parts)-1].cmd.Val()
	return l, next, nil
}
