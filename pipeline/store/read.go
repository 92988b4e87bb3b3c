package store

import (
	"context"
	"errors"
	"fmt"
	"unsafe"
)

// scanAttempts bounds how often a bucket that keeps growing is scanned anew within one readEntries.
const scanAttempts = 8

// LaneView returns the lane's meta and its slices, by end, as they were at one instant. A stateID other than "" must be
// the lane's. Slices whose first meta call is still under way have NoOffset and Folded 0.
// Errors: ErrNoMeta, *FormatError, *StateIDError.
func (s *Store) LaneView(ctx context.Context, id LaneID, stateID string) (Meta, []SliceStat, error) {
	reply, err := s.query(ctx, viewScript, []string{id.metaKey(), id.slicesKey(), id.foldsKey()})
	if err != nil {
		return Meta{}, nil, fmt.Errorf("read lane %s: %w", id, err)
	}
	hash := replyHash(replyList(reply, 0))
	if len(hash) == 0 {
		return Meta{}, nil, fmt.Errorf("read lane %s: %w", id, ErrNoMeta)
	}
	meta, err := parseMeta(id, hash)
	if err != nil {
		return meta, nil, err
	}
	if stateID != "" && meta.StateID != stateID {
		return meta, nil, &StateIDError{Lane: id, Found: meta.StateID, Want: stateID}
	}
	members, folds := replyList(reply, 1), replyHash(replyList(reply, 2))
	stats := make([]SliceStat, 0, len(members))
	for i := range members {
		member := replyString(members, i)
		stat, err := parseSliceStat(member, folds[member])
		if err != nil {
			return meta, nil, fmt.Errorf("lane %s: %w", id, err)
		}
		stats = append(stats, stat)
	}
	return meta, stats, nil
}

// readEntries passes every entry of one bucket to fn, each key once, in no particular order, about
// count of them a call; key and entry are valid only during the call. A bucket that fits a page is
// read at one instant, a bigger one page by page, in which case an entry is as new as its page. In
// either case the guard, returned as of the last page, was read in the same call as each page;
// ErrLaneMoved means that owner, cursor or offset did not follow from one page to the next. An
// error of fn is returned as it is. A missing bucket has no entries.
func (s *Store) readEntries(ctx context.Context, id LaneID, stateID string, slice SliceID, bucket int, count int64,
	fn func(key, entry []byte) error) (Guard, error) {
	keys := []string{id.metaKey(), entryKey(id.entryPrefix(stateID), slice, bucket)}
	p, err := s.page(ctx, id, keys, 0, count)
	if err != nil {
		return Guard{}, err
	}
	if p.next == 0 && len(p.fields) == 2*p.size {
		return p.guard, p.each(fn)
	}
	// A scan may return an entry twice, and misses entries when it goes on at another server. Nothing but a drop ever
	// removes an entry, so all of them were seen exactly when as many were seen as there are.
	seen := make(map[string]struct{}, p.size)
	once := func(key, entry []byte) error {
		if _, ok := seen[string(key)]; ok {
			return nil
		}
		seen[string(key)] = struct{}{}
		return fn(key, entry)
	}
	for range scanAttempts {
		for {
			if err := p.each(once); err != nil {
				return p.guard, err
			}
			if p.next == 0 {
				break
			}
			if p, err = s.nextPage(ctx, id, keys, p, p.next, count); err != nil {
				return p.guard, err
			}
		}
		if len(seen) == p.size {
			return p.guard, nil
		}
		if p, err = s.nextPage(ctx, id, keys, p, 0, count); err != nil {
			return p.guard, err
		}
	}
	return p.guard, fmt.Errorf("read lane %s slice %s bucket %d: %w: %d entries seen of %d", id, slice, bucket, ErrLaneMoved, len(seen), p.size)
}

type fieldPage struct {
	guard  Guard
	size   int      // entries in the bucket
	next   uint64   // scan cursor, 0 after the last page
	fields []string // key, entry, ...
}

func (p *fieldPage) each(fn func(key, entry []byte) error) error {
	for i := 0; i+1 < len(p.fields); i += 2 {
		if err := fn(bytesOf(p.fields[i]), bytesOf(p.fields[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf returns the bytes of s without a copy. They must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (s *Store) nextPage(ctx context.Context, id LaneID, keys []string, before fieldPage, cursor uint64, count int64) (fieldPage, error) {
	p, err := s.page(ctx, id, keys, cursor, count)
	if err == nil && !p.guard.Follows(before.guard) {
		err = fmt.Errorf("read %s: %w: from %+v to %+v", keys[1], ErrLaneMoved, before.guard, p.guard)
	}
	return p, err
}

// page reads in a transaction rather than in a script, which costs the server half as much per entry.
func (s *Store) page(ctx context.Context, id LaneID, keys []string, cursor uint64, count int64) (fieldPage, error) {
	tx := s.client.TxPipeline()
	guard := tx.HMGet(ctx, keys[0], guardFields...)
	size := tx.HLen(ctx, keys[1])
	scan := tx.HScan(ctx, keys[1], cursor, "", count)
	if _, err := tx.Exec(ctx); err != nil {
		return fieldPage{}, fmt.Errorf("read %s: %w", keys[1], err)
	}
	g, err := parseGuard(id, guard.Val())
	if err != nil {
		return fieldPage{}, fmt.Errorf("read %s: %w", keys[1], err)
	}
	p := fieldPage{guard: g, size: int(size.Val())}
	p.fields, p.next = scan.Val()
	return p, nil
}

var guardFields = []string{"owner", "cursor", "offset"}

// parseGuard reads the values of guardFields.
func parseGuard(id LaneID, values []any) (g Guard, err error) {
	if values[0] == nil {
		return Guard{}, ErrNoMeta
	}
	g.Owner = Token(replyString(values, 0))
	if g.Cursor, err = ParseCursor(replyString(values, 1)); err != nil {
		return Guard{}, fmt.Errorf("%s: %w", id.metaKey(), err)
	}
	if g.Offset, err = replyInt(values, 2); err != nil {
		return Guard{}, fmt.Errorf("%s: %w", id.metaKey(), err)
	}
	return g, nil
}

// ReadGuards returns the guards of lanes, in the order of ids; a lane without a meta has the zero
// Guard. Each is as of its own moment of one call.
func (s *Store) ReadGuards(ctx context.Context, ids ...LaneID) ([]Guard, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	values, err := s.fieldsOfLanes(ctx, ids, LaneID.metaKey, guardFields)
	if err != nil {
		return nil, fmt.Errorf("read guards of %d lanes: %w", len(ids), err)
	}
	guards := make([]Guard, len(ids))
	for i, id := range ids {
		if guards[i], err = parseGuard(id, values[i]); err != nil && !errors.Is(err, ErrNoMeta) {
			return nil, err
		}
	}
	return guards, nil
}
