package lane

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/store"
)

// A lane that Redis knows nothing of may be new, it may have been forgotten, or its pipeline was removed while this process
// was frozen. Only in the first two cases may it write. A removal begins when the pipeline's workflows are closed, and
// deletes the consumer group and the desired state before it takes the lanes. So whoever has created a lane's meta asks for
// them afterwards: if they are there, a removal that comes later finds the meta and fences it. The group alone proves
// little, since a member that thaws makes it anew.

// errUnwanted holds back a lane that would begin from nothing in a pipeline that nobody wants.
var errUnwanted = errors.New("the pipeline has no desired state in Redis and its workflows are not open: it was stopped and removed")

// proveMember takes a meta that was created for token back unless the coordinator still knows this member.
func (h *Holder) proveMember(ctx context.Context, token store.Token) error {
	h.unproved = token
	member, err := h.claim.StillMember(ctx)
	if err == nil && member {
		h.unproved = ""
		return nil
	}
	if err == nil {
		err = fmt.Errorf("lane %s is not in Redis and this member not in group %s: %w", h.id, h.deps.Group, store.ErrFenced)
	}
	return errors.Join(err, h.deps.Store.Abandon(ctx, h.id, token))
}

// proveOwner is store.ErrFenced when somebody else owns the lane by now. A process that was frozen since it read the meta compares
// the lane's past with a log and a group that have gone on without it. A state that this process cannot use was not taken over.
func (h *Holder) proveOwner(ctx context.Context) error {
	if h.unowned != "" {
		return nil
	}
	meta, found, err := h.deps.Store.ReadMeta(ctx, h.id)
	switch {
	case store.Unreadable(err):
		return nil // the incident says so
	case err != nil:
		return err
	case found && meta.Owner != h.token:
		return fmt.Errorf("lane %s: %w", h.id, store.ErrFenced)
	}
	return nil
}

// proveWanted takes the meta of a lane that would begin from nothing back while nothing says that its pipeline exists.
func (h *Holder) proveWanted(ctx context.Context) error {
	if h.deps.Wanted == nil {
		return nil
	}
	ctl, err := h.deps.Store.PipelineCtl(ctx, h.id.Pipeline)
	if err != nil || ctl.Gen > 0 {
		return err
	}
	wanted, err := h.deps.Wanted(ctx)
	switch {
	case err != nil:
		err = fmt.Errorf("ask whether pipeline %s still runs, of which Redis has no desired state: %w", h.id.Pipeline, err)
	case wanted:
		return nil
	default:
		err = errUnwanted
	}
	return errors.Join(err, h.deps.Store.Abandon(ctx, h.id, h.token))
}
