package deliver

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Late and dead-letter records go to Kafka before Redis is asked. After a freeze the owner is looked at first.
func TestSideRecordsOfAFormerOwnerAreNotSent(t *testing.T) {
	ctx := context.Background()
	st, redis := testStore(t)
	_, _, err := st.Acquire(ctx, testLane, "s", "", "1:aa")
	require.NoError(t, err)
	trust := newTrust(st, testLane, "1:aa")
	sent := &sideLog{}
	side := &trustedSide{trust, sent}
	record := []source.SideRecord{{Topic: "late"}}
	frozen := func() { long := time.Now().Add(-time.Minute); trust.named.Store(&long) }

	require.NoError(t, side.Send(ctx, record))
	frozen()
	require.NoError(t, side.Send(ctx, record), "it still is the owner")
	require.Less(t, time.Since(*trust.named.Load()), sideTrust)
	_, err = st.Fence(ctx, testLane, "removed:r")
	require.NoError(t, err)
	frozen()
	require.ErrorIs(t, side.Send(ctx, record), store.ErrFenced)
	redis.FlushAll()
	require.ErrorIs(t, side.Send(ctx, record), store.ErrNoMeta)
	redis.SetError("LOADING")
	require.Error(t, side.Send(ctx, record))
	require.Len(t, sent.records, 2)
}
