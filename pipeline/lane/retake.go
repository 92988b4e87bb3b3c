package lane

import (
	"context"
	"fmt"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// Retake takes a new token for a lane whose memory is whole and which Redis forgot, or a part of it. It returns what Redis
// has; what cannot be read there is taken away. Where another owner was in between, memory says nothing about what Redis has:
// that is store.ErrFenced.
func (h *Holder) Retake(ctx context.Context) (found store.LaneIndex, err error) {
	before, _, err := h.writeToken(ctx)
	if err == nil && before != "" && !h.isOwn(before) {
		return found, fmt.Errorf("lane %s: %w: it was taken from %s", h.id, store.ErrFenced, before)
	}
	if err == nil {
		found, err = h.deps.Store.WholeIndex(ctx, h.id, h.program.StateID)
	}
	if lossKind(err) == report.IncidentCorrupt {
		found = store.LaneIndex{}
		found.Meta, err = h.clearLane(ctx)
	}
	return found, lossIncident(err)
}

// clearLane takes what Redis holds of the lane away, because it cannot be read: this lane's memory is whole. Nothing happens when
// another owner has written there since.
func (h *Holder) clearLane(ctx context.Context) (store.Meta, error) {
	owner, err := h.deps.Store.ReadOwner(ctx, h.id)
	if err != nil {
		return store.Meta{}, err
	}
	if owner != h.token {
		return store.Meta{}, store.ErrFenced
	}
	h.deps.Log.ErrorContext(ctx, "what redis holds of the lane cannot be read, it is replaced by what the lane has in memory", "lane", h.id.String())
	next := h.deps.nextToken(owner)
	notStarted := func(_ store.Meta, m *store.MetaUpdate) (purge bool) {
		m.Offset = store.NotStarted
		return true
	}
	meta, err := replaceLane(ctx, h.deps.Store, h.program, h.id, owner, next, store.Meta{}, notStarted)
	if err == nil {
		h.token = next
	}
	return meta, err
}
