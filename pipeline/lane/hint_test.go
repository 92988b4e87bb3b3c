package lane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The group's offset does not move while the source is quiet, so what an acquisition says about it stands: it must lead
// back to the first event of every slice that is still held.
func TestAcquisitionKeepsWhereToReplayFrom(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(13, 13)), 500))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
	meta, _, err := st.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.UnixMilli(meta.UpdatedAt), time.Minute, "people see when a lane last committed")
	held, _, err := Restore(context.Background(), st, mustProgram(t), testLane, meta.Owner)
	require.NoError(t, err)
	require.Less(t, held.Replay().From, int64(500))

	b = start(t, log, st, redis)
	b.wait(t, "running", func(s Status) bool { return s.State == StateRunning })
	log.mu.Lock()
	defer log.mu.Unlock()
	require.Contains(t, log.reset, fmt.Sprintf("replay_from=%d ", held.Replay().From))
}
