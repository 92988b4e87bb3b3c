package deliver

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// sideTrust is how long after an acknowledged commit late and dead-letter records go out without another look at who owns
// the lane. A process that was frozen for longer may have been replaced, or its pipeline removed.
const sideTrust = 10 * time.Second

// trust is what is known of who owns the lane. It is safe for concurrent use.
type trust struct {
	store Store
	lane  store.LaneID
	owner store.Token
	named atomic.Pointer[time.Time] // when Redis last named owner as the lane's
}

func newTrust(st Store, id store.LaneID, owner store.Token) *trust {
	t := &trust{store: st, lane: id, owner: owner}
	t.renew()
	return t
}

// renew notes that Redis has just named the lane's owner.
func (t *trust) renew() {
	now := time.Now()
	t.named.Store(&now)
}

// prove asks Redis for the owner if it has not named it for a while.
func (t *trust) prove(ctx context.Context) error {
	if time.Since(*t.named.Load()) <= sideTrust {
		return nil
	}
	meta, found, err := t.store.ReadMeta(ctx, t.lane)
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("send late and dead-letter records of lane %s: %w", t.lane, store.ErrNoMeta)
	case meta.Owner != t.owner:
		return fmt.Errorf("send late and dead-letter records of lane %s: %w", t.lane, store.ErrFenced)
	}
	t.renew()
	return nil
}

// trustedSide sends side records of a lane, after a look at its owner when Redis has not named it for a while.
type trustedSide struct {
	trust *trust
	to    SideSender
}

func (t *trustedSide) Send(ctx context.Context, records []source.SideRecord) error {
	if err := t.trust.prove(ctx); err != nil {
		return err
	}
	return t.to.Send(ctx, records)
}
