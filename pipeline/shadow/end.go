package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/store"
)

// endSweeps bounds how often End looks for keys: whoever goes on writing some is no worker that was fenced.
const endSweeps = 10

// End takes the shadow away from whoever runs it and deletes everything it has in Redis: lanes are fenced first, then the
// guard, and metas and guard go last. progress is told how many keys were deleted so far; it may be nil. Ending what is not
// there does nothing, so it may be repeated.
func End(ctx context.Context, st *store.Store, pipeline, id string, now time.Time, progress func(deleted int64)) error {
	if err := CheckID(id); err != nil {
		return err
	}
	sid := store.ShadowID{Pipeline: pipeline, ID: id}
	token := store.RemovedToken(id)
	deleted := int64(0)
	count := func(n int64) {
		if deleted += n; progress != nil {
			progress(deleted)
		}
	}
	p, err := Load(ctx, st, pipeline, id)
	if err != nil && !errors.Is(err, store.ErrNoShadow) {
		return err
	}
	if p != nil {
		for i := range p.Lanes {
			if err := fenceExisting(ctx, st, laneID(p, &p.Lanes[i]), token); err != nil {
				return err
			}
		}
	}
	if err := st.FenceShadow(ctx, sid, token); err != nil {
		return err
	}
	for range endSweeps {
		found, err := sweepOnce(ctx, st, sid, token, count)
		if err != nil {
			return err
		}
		if found == 0 {
			return st.UnregisterShadow(ctx, sid, now.UnixMilli())
		}
	}
	return fmt.Errorf("somebody goes on writing keys of shadow %s; find the process that does and stop it", sid)
}

// fenceExisting fences a lane that has a meta. Without one nobody can write to it: a lane of a shadow is made by Begin only.
func fenceExisting(ctx context.Context, st *store.Store, id store.LaneID, token store.Token) error {
	_, found, err := st.ReadMeta(ctx, id)
	if err != nil && !store.Unreadable(err) {
		return err
	}
	if !found && err == nil {
		return nil
	}
	_, err = st.Fence(ctx, id, token)
	return err
}

// sweepOnce deletes what a scan finds of the shadow: first what is not a meta or the guard, then these.
func sweepOnce(ctx context.Context, st *store.Store, id store.ShadowID, token store.Token, count func(int64)) (found int, err error) {
	lanes := make(map[store.LaneID]bool)
	var last []store.PipelineKey
	err = st.ScanPipeline(ctx, id.Namespace(), func(keys []store.PipelineKey) error {
		found += len(keys)
		for _, k := range keys {
			if k.Kind == store.KeyMeta {
				lanes[k.Lane] = true
			}
			if k.Kind == store.KeyMeta || k.IsGuard() {
				last = append(last, k)
			}
		}
		for id := range lanes {
			if _, err := st.Fence(ctx, id, token); err != nil {
				return err
			}
		}
		clear(lanes)
		n, err := st.DeleteKeys(ctx, slices.DeleteFunc(keys, store.PipelineKey.IsGuard), false)
		count(n)
		return err
	})
	if err != nil {
		return found, err
	}
	slices.SortFunc(last, func(a, b store.PipelineKey) int { // the guard comes last
		switch {
		case a.IsGuard() == b.IsGuard():
			return 0
		case a.IsGuard():
			return 1
		}
		return -1
	})
	n, err := st.DeleteKeys(ctx, last, true)
	count(n)
	return found, err
}

// List names the shadows of a pipeline that may have keys in Redis.
func List(ctx context.Context, st *store.Store, pipeline string) (ids []string, err error) {
	entries, err := st.Shadows(ctx, pipeline)
	for _, e := range entries {
		if e.Ended == 0 {
			ids = append(ids, e.ID)
		}
	}
	return ids, err
}

// Sweep ends the shadows of a pipeline that nobody runs any more, and deletes what workers that were frozen have left of
// those that were ended. It returns what it ended.
func Sweep(ctx context.Context, st *store.Store, pipeline string, alive func(id string) bool, now time.Time, progress func(deleted int64),
) (ended []string, err error) {
	entries, err := st.Shadows(ctx, pipeline)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Ended != 0 {
			_, err := st.ReadShadow(ctx, store.ShadowID{Pipeline: pipeline, ID: e.ID})
			if errors.Is(err, store.ErrNoShadow) {
				continue // a lane is made after the guard, so there is none
			}
			if err != nil {
				return ended, err
			}
		} else if alive(e.ID) {
			continue
		}
		if err := End(ctx, st, pipeline, e.ID, now, progress); err != nil {
			return ended, err
		}
		ended = append(ended, e.ID)
	}
	return ended, nil
}

// SetRate bounds how many records a second a shadow reads, from now on; 0 leaves it open.
func SetRate(ctx context.Context, st *store.Store, pipeline, id string, perSecond int64) error {
	if perSecond < 0 {
		return fmt.Errorf("rate %d is not valid; want records per second, or 0 for what a twentieth of a processor folds", perSecond)
	}
	return st.SetShadowRate(ctx, store.ShadowID{Pipeline: pipeline, ID: id}, perSecond)
}
