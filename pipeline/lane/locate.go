package lane

import (
	"context"
	"fmt"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// locate asks the broker and the group where the lane's log and hint stand.
func (h *Holder) locate(ctx context.Context, meta store.Meta) (*position, error) {
	at, err := h.boundsOfLog(ctx)
	if err != nil {
		return nil, err
	}
	at.meta, at.loss = meta, h.loss
	if at.fresh() || at.loss != nil {
		hints, err := h.deps.Cluster.Committed(ctx, h.deps.Group, h.tp)
		if err != nil {
			return nil, fmt.Errorf("ask for the offsets of group %s: %w", h.deps.Group, err)
		}
		if hint, ok := hints[h.tp]; ok {
			at.hint = hint
		}
		if at.hint.Offset < 0 && h.deps.Ledger != nil {
			if at.ledger, err = h.deps.Ledger.Published(ctx, h.id, at.topicID); err != nil {
				return nil, fmt.Errorf("ask the ledger for lane %s: %w", h.id, err)
			}
		}
	}
	return at, nil
}

// boundsOfLog asks the broker for the bounds of the lane's log and the id of the topic they belong to. Bounds are asked for
// by name, so the id is asked for before and after: only when both answers agree are these the bounds of that topic.
func (h *Holder) boundsOfLog(ctx context.Context) (*position, error) {
	at := &position{topicRef: h.tp, hint: source.Committed{Offset: -1}}
	before, err := h.deps.Cluster.TopicID(ctx, h.tp.Topic)
	if err != nil {
		return nil, fmt.Errorf("ask the broker for the id of topic %s: %w", h.tp.Topic, err)
	}
	ends, err := h.deps.Cluster.Ends(ctx, h.tp)
	if err != nil {
		return nil, fmt.Errorf("ask the broker for the ends of %s: %w", h.tp, err)
	}
	if at.topicID, err = h.deps.Cluster.TopicID(ctx, h.tp.Topic); err != nil {
		return nil, fmt.Errorf("ask the broker for the id of topic %s: %w", h.tp.Topic, err)
	}
	if before != at.topicID {
		return nil, fmt.Errorf("topic %s was made again while it was asked about: its id was %s and is %s", h.tp.Topic, before, at.topicID)
	}
	at.ends = ends[h.tp]
	return at, nil
}

// EndOf asks the broker for the end of the log with that topic id. It is -1 when the broker does not say, or when the topic
// is another one by now.
func (h *Holder) EndOf(ctx context.Context, topicID string) int64 {
	at, err := h.boundsOfLog(ctx)
	if err != nil || !sameTopic(at.topicID, topicID) {
		return -1
	}
	return at.ends.HighWatermark
}

// Hint lets the group's offset follow a commit. A seal that was adopted where nothing was read moves the metadata alone.
func (h *Holder) Hint(offset int64, text string) {
	h.claim.MarkHint(offset, text)
	if offset == h.hinted && text != h.hintText {
		h.claim.ResetHint(offset, text)
	}
	h.hinted, h.hintText = offset, text
}

// HintBack lets the group's offset follow a Redis that went back. A hint beside no state at all is what tells that the
// state was lost: it stays.
func (h *Holder) HintBack(meta store.Meta) {
	if meta.Offset >= 0 {
		h.claim.ResetHint(meta.Offset, h.hintText)
	}
}
